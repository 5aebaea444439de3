"""Tile kernels on tensor cores: what fragments.cu.j2 needs of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from irc.codegen import cuda_split
from irc.codegen.cuda_forms import (
    BESIDE,
    F16,
    FLOAT,
    LONG,
    REGISTERS,
    ROWS,
    STAGES,
    WARPS,
    Form,
    evaluated,
    form,
    padded,
    read_panels,
    stages_of,
    tile_columns,
    tokens,
)
from irc.codegen.cuda_hoist import Drawn, Hoists, Paired
from irc.codegen.cuda_launch import Arrays, Launch, rendered
from irc.codegen.cuda_rows import RowText, row_text
from irc.codegen.cuda_split import Split
from irc.codegen.cuda_tiles import (
    ResultText,
    StepText,
    merged_context,
    printed,
    recorded_of,
    results_of,
    softmax_targets,
    steps_of,
    walk_context,
)
from irc.codegen.expr import Const, Expr, Load, Local, Op, indices, is_lookup, number, op, walk
from irc.codegen.kernel import (
    Accumulate,
    Dot,
    InnerSum,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    Span,
    TileKernel,
    TileOp,
    Value,
    Verdict,
)
from irc.codegen.names import identifier
from irc.codegen.narrow import Narrow
from irc.codegen.panels import width
from irc.codegen.positions import size, tiles_of, unflatten
from irc.codegen.powers import LOG2_E, Powers, in_powers_of_two
from irc.codegen.printer import print_scalar

LEAST_FACTOR = 2.0**-64  # that is left to weights, and so is its inverse
LEAST_LATE = 2.0**-16  # that is left to sums, and so is its inverse: what they hold is that much larger or smaller
NamedT = TypeVar("NamedT", Drawn, Paired)
FEATURES_BESIDE = 128  # of floats, at most, for whose sums there are registers beside those that a tile adds to them


@dataclass(frozen=True, slots=True)
class PanelText:
    """A panel in shared memory: of each token `width` numbers and zeros up to `padded`, `step` from one to the next;
    `row` where it may lie in memory as it does here. It has so many `tokens`, of which a warp's products read `read`;
    `exists` says where a distance has one."""

    name: str
    side: str
    tokens: int
    read: int
    width: int
    padded: int
    step: int
    features: tuple[tuple[str, str], ...]
    value: str
    exists: str
    row: RowText | None


@dataclass(frozen=True, slots=True)
class Stage:
    """What is made of one element after another: from the `given` values the steps in turn, and sums over the row.
    `kept` are read after it; of the `selected`, which are dots, pairs that do not exist become 0. `drawn` and `paired`:
    the random numbers and the entries of tables that the steps read."""

    given: tuple[str, ...]
    steps: tuple[StepText, ...]
    reduces: tuple[ResultText, ...]
    kept: tuple[str, ...]
    selected: tuple[str, ...]
    drawn: tuple[Drawn, ...]
    paired: tuple[Paired, ...]


def launches(kernel: TileKernel, name: str, architecture: str, split: Split | None = None) -> tuple[Launch, ...]:
    """A kernel of row results alone as a launch, that of a split as two; none where plain CUDA is the form for it."""
    kernel = live(kernel)
    kept_as = form(kernel)
    if kept_as is None:
        return ()
    hoisted, hoists, values = values_of(kernel, kept_as, factored=False)
    chosen = tile_columns(kernel, hoisted, hoists, kept_as, architecture)
    if chosen is None:
        return ()
    columns, registers, late = chosen
    if split:  # where columns lie, of a cache in pages say, takes registers; and copies, not warps, fill a processor
        registers = REGISTERS[-1][0]
    kernel = hoisted
    shared, recorded = Arrays(), recorded_of(kernel, split) if split else None
    row_panels, column_panels, filled_again = list[PanelText](), list[PanelText](), list[PanelText]()
    for panel in read_panels(kernel):
        text = panel_text(panel, kernel, kept_as, columns)
        (row_panels if panel.side == "row" else column_panels).append(text)
        stages = stages_of(panel, kernel, late)
        filled_again += [text] if panel.side == "distance" and stages == 1 else []
        shared.add(kept_as.type, text.name, stages * text.tokens * text.step, kept_as.bytes)
    summed = [p for p in column_panels if p.name in values.summed]
    guarded = column_panels if kept_as is FLOAT else [p for p in summed if kernel.support or p.side == "distance"]
    if guarded:
        shared.add("int32_t", "odd_of_warp", WARPS, 4)
    hoists.reserve(shared, ROWS, STAGES * columns)
    source = rendered(
        "fragments",
        name,
        kernel,
        **walk_context(kernel, hoists.narrow),
        shared=shared.arrays,
        ROWS=ROWS,
        COLUMNS=columns,
        WARPS=WARPS,
        registers=registers,
        BESIDE=BESIDE,
        unit=16 // kept_as.bytes,
        row_panels=row_panels,
        column_panels=column_panels,
        filled_again=filled_again,
        filled_last=any(p.name in values.summed for p in filled_again),
        guarded=guarded,
        always_guarded=kept_as is FLOAT or any(p.side == "distance" for p in guarded),
        one_tile=isinstance(extent := size(kernel.columns), Const) and extent.value <= columns,
        **values.context,
        split=recorded,
    )
    tasks = op("mul", size(kernel.batch), tiles_of(kernel.rows, ROWS))
    made = Launch(name, tasks, 1, 32 * WARPS, shared.bytes, source, registers, bounded=tuple(hoists.narrow.bounded))
    if recorded is None:
        return (made,)
    merged = merged_context(kernel, values.results, values.context["softmax"], kept_as.name)
    return cuda_split.launches(made, recorded, merged)


def fits(kernel: TileKernel, architecture: str) -> bool:
    """Whether a kernel of row results alone has this form."""
    kernel = live(kernel)
    kept_as = form(kernel)
    if kept_as is None:
        return False
    hoisted, hoists, _ = values_of(kernel, kept_as, factored=False)
    return tile_columns(kernel, hoisted, hoists, kept_as, architecture) is not None


@dataclass(frozen=True, slots=True)
class Values:
    """`context` is what values.j2 reads beside sizes and indices; `summed` are the panels of products, `wide` results
    those whose tile is of any size."""

    context: dict[str, object]
    results: tuple[ResultText, ...]
    dots: tuple[StepText, ...]
    products: tuple[ResultText, ...]
    summed: frozenset[str]
    wide: tuple[str, ...]


def values_of(kernel: TileKernel, kept_as: Form, factored: bool) -> tuple[TileKernel, Hoists, Values]:
    """What a kernel makes of its dots: with the kernel as it then is, and what it evaluates once a token. `factored`
    where weights multiply by the factor of logits."""
    softmax = next((s for s in kernel.body if isinstance(s, OnlineSoftmax)), None)
    plain = Powers(kernel.body, softmax.score if softmax else None, natural=True)
    powers = plain if kept_as is FLOAT else in_powers_of_two(kernel)
    hoists = Hoists(kernel, Narrow(kernel))
    kernel = _hoisted(replace(kernel, body=powers.body), hoists)
    logit = hoists(powers.logit) if powers.logit is not None else None
    kernel, factors = _without_factors(kernel)
    factor_of = {identifier(tile): printed(factor) for tile, factor in factors.items()}
    steps = steps_of(kernel)
    results = tuple(replace(r, factor=factor_of.get(r.tile, "")) for r in results_of(kernel))
    products = tuple(r for r in results if not r.reduce)
    softmax = next((s for s in kernel.body if isinstance(s, OnlineSoftmax)), None)
    weight = identifier(softmax.weight) if softmax else ""
    early, late = _stages(kernel, logit, hoists)
    made = {s.name: s.type for s in steps if s.kind != "dot"}
    dots = tuple(replace(s, width=padded(s.width)) for s in steps if s.kind == "dot")
    wide = tuple(r.name for r in products if kept_as is F16 and r.tile != weight)
    context = {
        "form": kept_as.name,
        "dots": dots,
        "arrays": [(made[n], n) for n in (*early.kept, *((weight,) if softmax else ()), *late.kept)],
        "early": early,
        "late": late if late.steps or late.reduces else None,
        "products": products,
        "padded": {r.name: padded(r.width) for r in products},
        "wide": wide,
        "rescaled_first": [r.name for r in products if kept_as is FLOAT and padded(r.width) > FEATURES_BESIDE],
        "reduces": [r for r in results if r.reduce],
        "softmax": softmax and _softmax(softmax, logit, kept_as, powers.natural, factored),
        "row_values": hoists.row.values(),
        "column_values": hoists.column.values(),
        "batch_values": hoists.batch.values(),
        "of_mask": tuple(p for p in hoists.paired.values() if _name_in_steps(p) in _locals(kernel.support)),
        "reads_rows": bool(hoists.paired) or _reads_rows(kernel, logit),
    }
    return kernel, hoists, Values(context, results, dots, products, frozenset(r.panel for r in products), wide)


def _hoisted(kernel: TileKernel, hoists: Hoists) -> TileKernel:
    """The kernel with what it evaluates for every pair reading them, and what it asks of tiles in 32 bits."""

    def step(step: TileOp) -> TileOp:
        match step:
            case Value() | InnerSum():
                return replace(step, value=hoists.of_values(step.value))
            case _:
                return step

    narrow, verdict, spans = hoists.narrow, kernel.verdict, kernel.spans
    return replace(
        kernel,
        body=tuple(step(s) for s in kernel.body),
        support=hoists.of_mask(kernel.support) if kernel.support is not None else None,
        verdict=verdict and Verdict(narrow(verdict.may), narrow(verdict.must)),
        spans=spans and tuple(Span(narrow.held(s.first), narrow.held(s.last)) for s in spans),
        searches=tuple(replace(s, value=narrow(s.value)) for s in kernel.searches),
    )


def _without_factors(kernel: TileKernel) -> tuple[TileKernel, dict[str, Const]]:
    """The kernel with tiles that products alone read without their constant factors, which what a product has summed is
    multiplied with instead: one multiplication a result in place of one a pair."""
    read = {name for s in kernel.body if not isinstance(s, RowProduct) for name in _reads(s)}
    factors, body = dict[str, Const](), list[TileOp]()
    for step in kernel.body:
        match step:
            case Value(name, Op("mul", (moving, Const(value) as factor) | (Const(value) as factor, moving))) if (
                name not in read and LEAST_LATE <= abs(value) <= 1 / LEAST_LATE
            ):
                factors[name] = factor
                body.append(replace(step, value=moving))
            case _:
                body.append(step)
    return replace(kernel, body=tuple(body)), factors


def live(kernel: TileKernel) -> TileKernel:
    """The kernel without dots that nothing reads any more."""
    body = list(kernel.body)
    while dead := [
        s for s in body if isinstance(s, Dot | Value | InnerSum) and not any(s.name in _reads(t) for t in body)
    ]:
        body = [s for s in body if s not in dead]
    return replace(kernel, body=tuple(body))


def _reads(step: TileOp) -> set[str]:
    """Tile values that a step reads."""
    match step:
        case Value(value=expr) | InnerSum(value=expr) | OnlineSoftmax(score=expr) | Accumulate(value=expr):
            return _locals(expr)
        case RowProduct(tile=tile) | RowReduce(tile=tile):
            return {tile}
        case _:
            return set()


def _locals(expr: Expr | None) -> set[str]:
    return {e.name for e in walk(expr) if isinstance(e, Local)} if expr is not None else set()


def panel_text(panel: Panel, kernel: TileKernel, form: Form, columns: int) -> PanelText:
    storage = {t.name: t.storage for t in kernel.tensors}
    as_kept = isinstance(panel.value, Load) and storage[panel.value.tensor] == form.storage
    numbers = width(panel)
    return PanelText(
        f"panel_{identifier(panel.name)}",
        panel.side,
        tokens(panel, columns),
        columns + (BESIDE if panel.side == "distance" else 0),
        numbers,
        padded(numbers),
        padded(numbers) + form.pad,
        unflatten(panel.features, "feature_at"),
        print_scalar(panel.value),
        printed(panel.exists),
        row_text(panel.value, panel.features) if isinstance(panel.value, Load) and as_kept else None,
    )


def _stages(kernel: TileKernel, logit: Expr | None, hoists: Hoists) -> tuple[Stage, Stage]:
    """What is made before the softmax, all of it where there is none, and after."""
    body, texts = kernel.body, {s.name: s for s in steps_of(kernel)}
    cut = next((n for n, s in enumerate(body) if isinstance(s, OnlineSoftmax)), len(body))
    values = [[s for s in part if isinstance(s, Value | InnerSum)] for part in (body[:cut], body[cut + 1 :])]
    dots = {s.name for s in body if isinstance(s, Dot)}
    weight = {s.weight for s in body if isinstance(s, OnlineSoftmax)}
    tiles = dots | weight | {s.name for part in values for s in part}
    products = {s.tile for s in body if isinstance(s, RowProduct)}
    products |= {name for s in body if isinstance(s, Accumulate) for name in _reads(s)}
    reduces = [(s.tile, r) for s, r in zip(_results(body), results_of(kernel), strict=True) if r.reduce]
    later = {s.name for s in values[1]} | weight

    def stage(
        own: list[Value | InnerSum], sums: list[tuple[str, ResultText]], extra: set[str], after: set[str]
    ) -> Stage:
        names = {s.name for s in own}
        given = tiles & set().union(extra, {tile for tile, _ in sums}, *(_reads(s) for s in own)) - names
        return Stage(
            _sorted(given), tuple(texts[identifier(s.name)] for s in own), tuple(r for _, r in sums),
            _sorted(names & after), (), _named(own, hoists.drawn.values()), _named(own, hoists.paired.values()),
        )  # fmt: skip

    late = stage(values[1], [(t, r) for t, r in reduces if t in later], set(), products)
    after = products | {name for s in values[1] for name in _reads(s)}
    early = stage(values[0], [(t, r) for t, r in reduces if t not in later], _locals(logit), after)
    return replace(early, selected=_sorted(dots & products)), late


def _named(steps: Iterable[TileOp], known: Iterable[NamedT]) -> tuple[NamedT, ...]:
    """Those of them that the steps read."""
    read = _sorted(set().union(*map(_reads, steps)))
    return tuple(each for each in known if each.name in read)


def ahead(kernel: TileKernel, early: Stage) -> tuple[Stage, Stage] | None:
    """What is made where there is no softmax, in two stages: the first reads one dot alone, and can be made while the
    others are summed. None where no dot has an exponential, or what takes as long, made of it by itself, and where more
    than one value is kept from one stage to the next: it would take registers beside all dots."""
    dots = [s.name for s in kernel.body if isinstance(s, Dot)]
    if len(dots) < 2 or any(isinstance(s, OnlineSoftmax) for s in kernel.body):
        return None
    made = {dot: _made_of(dot, kernel) for dot in dots}
    dot = next((d for d, steps in made.items() if any(map(_takes_long, steps))), None)
    if dot is None:
        return None
    own = {step.name for step in made[dot]}
    names, first = set(_sorted(own)), identifier(dot)
    read = set().union(*(_reads(s) for s in kernel.body if getattr(s, "name", None) not in own))
    head, rest = (tuple(s for s in early.steps if (s.name in names) == is_own) for is_own in (True, False))
    kept = _sorted(read & own)
    if len(kept) > 1 or dot in read or first in early.selected:
        return None
    given = set(early.given) - {first} | set(kept)
    others = [s for s in kernel.body if s not in made[dot]]
    drawn, paired = _named(made[dot], early.drawn), _named(made[dot], early.paired)
    return Stage((first,), head, (), kept, (), drawn, paired), replace(
        early, given=tuple(sorted(given)), steps=rest, kept=tuple(n for n in early.kept if n not in names),
        drawn=_named(others, early.drawn), paired=_named(others, early.paired),
    )  # fmt: skip


def _made_of(dot: str, kernel: TileKernel) -> list[Value]:
    """The values that read no tile but this dot, and each other."""
    tiles = {s.name for s in kernel.body if isinstance(s, Dot | Value | InnerSum)}  # other locals are of tokens
    known, own = {dot}, list[Value]()
    for step in kernel.body:
        if isinstance(step, Value) and (read := _reads(step) & tiles) and read <= known:
            known.add(step.name)
            own.append(step)
    return own


def _takes_long(step: Value) -> bool:
    return any(isinstance(e, Op) and e.name in (*LONG, "exp", "share", "exp2", "sigmoid") for e in walk(step.value))


def _name_in_steps(paired: Paired) -> str:
    return paired.name.replace("_", " ")


def _reads_rows(kernel: TileKernel, logit: Expr | None) -> bool:
    """Whether what is evaluated of a pair reads memory at its row."""
    rows = {axis.name for axis in kernel.rows}
    parts = (*evaluated(kernel), *(walk(logit) if logit is not None else ()))
    return any(is_lookup(e) and bool(indices(e) & rows) for e in parts)


def _sorted(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(identifier(name) for name in names))


def _results(body: tuple[TileOp, ...]) -> list[RowProduct | RowReduce]:
    return [s for s in body if isinstance(s, RowProduct | RowReduce)]


def _softmax(step: OnlineSoftmax, logit: Expr | None, kept_as: Form, natural: bool, factored: bool) -> dict[str, str]:
    """`logit` and `init` are in powers of two, or `natural`. Where `factored`, a constant `factor` of logits is left to
    the weights, which multiply and subtract in one instruction; its `inverse` is for what is multiplied already."""
    init = step.init if step.init is None or natural else op("mul", step.init, LOG2_E)
    factor = inverse = ""
    match logit:
        case Op("mul", (moving, Const(value) as constant)) if factored and LEAST_FACTOR <= value <= 1 / LEAST_FACTOR:
            logit, factor, inverse = moving, printed(constant), printed(number(1 / value))
    return softmax_targets(step) | {
        "weight": identifier(step.weight),
        "logit": printed(logit),
        "factor": factor,
        "inverse": inverse,
        "init": printed(init),
        "exp": "irc::exp" if kept_as is FLOAT else "irc::natural_exp<Form>" if natural else "irc::exp2<Form>",
        "to_natural": "" if natural else " * T(0.6931471805599453)",
    }
