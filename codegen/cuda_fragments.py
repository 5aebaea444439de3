"""Tile kernels on tensor cores: which they are, and what fragments.cu.j2 needs of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen.cuda_hoist import Hoists
from irc.codegen.cuda_launch import Launch, rendered
from irc.codegen.cuda_tiles import (
    ResultText,
    Shared,
    StepText,
    printed,
    results_of,
    softmax_targets,
    steps_of,
    walk_context,
)
from irc.codegen.expr import Expr, Load, Local, Op, indices, op, walk
from irc.codegen.kernel import (
    Dot,
    InnerSum,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    Side,
    Storage,
    TileKernel,
    TileOp,
    Value,
)
from irc.codegen.positions import size, tiles_of, unflatten
from irc.codegen.powers import LOG2_E, Powers, in_powers_of_two
from irc.codegen.printer import identifier, print_scalar
from irc.codegen.stream import by_bits
from irc.codegen.tiles import RowText, row_text, width

WARPS = 4
ROWS = 16 * WARPS
STAGES = 2  # of a column panel: one is worked on, the other filled
SHARED = 96 << 10  # bytes that a block may take


@dataclass(frozen=True, slots=True)
class Form:
    """How operands are kept, as fragments.cuh has it: the type of a number, its bytes, and how many of them follow each
    row; `storage`: of tensors that lie in memory as they are kept; `columns` of a tile, the more the better."""

    name: str
    type: str
    bytes: int
    pad: int
    storage: Storage
    columns: tuple[int, ...]


BF16 = Form("Bf16", "uint16_t", 2, 8, "bf16", (64, 32, 16))
F16 = Form("F16", "uint16_t", 2, 8, "f16", (64, 32, 16))
FLOAT = Form("Float", "float", 4, 4, "f32", (32, 16))


@dataclass(frozen=True, slots=True)
class PanelText:
    """A panel in shared memory: of each token `width` numbers and zeros up to `padded`, `step` from one to the next;
    `row` where it may lie in memory as it does here."""

    name: str
    width: int
    padded: int
    step: int
    features: tuple[tuple[str, str], ...]
    value: str
    row: RowText | None


@dataclass(frozen=True, slots=True)
class Stage:
    """What is made of one element after another: from the `given` values the steps in turn, and sums over the row.
    `kept` are read after it; of the `selected`, which are dots, pairs that do not exist become 0."""

    given: tuple[str, ...]
    steps: tuple[StepText, ...]
    reduces: tuple[ResultText, ...]
    kept: tuple[str, ...]
    selected: tuple[str, ...]


REGISTERS = ((128, 56), (168, 96), (255, 176))
"""Of a thread, and how many of them may hold fragments and what is evaluated of pairs: the others are for operands and
addresses. These numbers and the next are such that ptxas spills nothing (tests/cuda/test_cubins.py)."""
GATHERS, FUNCTIONS, SPLITS = 40, 16, 24
LONG = ("tanh", "erf", "log", "pow", "random")


def form(kernel: TileKernel) -> Form | None:
    """How the kernel's operands are kept; None where it is left to plain CUDA: sums in double, nothing to multiply, and
    values that another kernel compares by their bits, which the order of sums changes. Numbers that a kernel of f16
    computes on the way into a panel may be of any size, which f16 is not: they stay floats."""
    multiplies = any(isinstance(step, Dot | RowProduct) for step in kernel.body)
    if kernel.arithmetic != "f32" or not multiplies or by_bits(kernel):
        return None
    if kernel.pairs:
        return BF16
    storage = {t.name: t.storage for t in kernel.tensors}
    plain = all(isinstance(p.value, Load) and storage[p.value.tensor] == "f16" for p in _panels(kernel))
    return F16 if plain else FLOAT


def tile_columns(kernel: TileKernel, form: Form) -> tuple[int, int] | None:
    """The most columns of a tile whose fragments fit into registers and its panels into shared memory, and how many
    registers a thread has; None where sums alone are too many, or panels too wide."""
    panels = {p.name: p for p in kernel.panels}
    products = [s for s in kernel.body if isinstance(s, RowProduct)]
    sums = sum(_padded(width(panels[s.panel])) // 2 for s in products)
    tiles = max(sum(isinstance(s, Dot) for s in kernel.body), len({s.tile for s in products}))
    others = _scalars(kernel)
    if form is FLOAT:  # both parts of a tile, and of an operand
        tiles, others = tiles + 1, others + SPLITS
    for columns in form.columns:
        tokens = {"row": ROWS, "column": STAGES * columns}
        shared = form.bytes * sum(tokens[p.side] * (_padded(width(p)) + form.pad) for p in _panels(kernel))
        for registers, fits in REGISTERS:
            if shared <= SHARED and sums + tiles * columns // 2 + others <= fits:
                return columns, registers
    return None


def _scalars(kernel: TileKernel) -> int:
    """Registers for what is evaluated of many pairs at once."""
    values = [s.value for s in kernel.body if isinstance(s, Value | InnerSum)]
    values += [s.score for s in kernel.body if isinstance(s, OnlineSoftmax)]
    values += [kernel.support] if kernel.support is not None else []
    parts = [e for value in values for e in walk(value)]
    sides = [{axis.name for axis in axes} for axes in (kernel.rows, kernel.columns)]
    if any(isinstance(e, Load) and all(indices(e) & side for side in sides) for e in parts):
        return GATHERS
    return FUNCTIONS if any(isinstance(e, Op) and e.name in LONG for e in parts) else 0


def launch(kernel: TileKernel, name: str) -> Launch | None:
    """A kernel of row results alone as a launch; None where plain CUDA is the form for it."""
    kernel = _live(kernel)
    kept_as = form(kernel)
    chosen = kept_as and tile_columns(kernel, kept_as)
    if not kept_as or not chosen:
        return None
    columns, registers = chosen
    softmax = next((s for s in kernel.body if isinstance(s, OnlineSoftmax)), None)
    # What rounding a logsumexp loses (irc/remainder.py) is told of natural ones.
    powers = Powers(kernel.body, softmax.score if softmax else None) if kept_as is FLOAT else in_powers_of_two(kernel)
    hoists = Hoists(kernel)
    kernel = _hoisted(replace(kernel, body=powers.body), hoists)
    logit = hoists(powers.logit) if powers.logit is not None else None
    steps, results = steps_of(kernel), results_of(kernel)
    products = [r for r in results if not r.reduce]
    softmax = next((s for s in kernel.body if isinstance(s, OnlineSoftmax)), None)
    shared = Shared()
    panels: dict[Side, list[PanelText]] = {"row": [], "column": []}
    for panel in _panels(kernel):
        text = _panel(panel, kernel, kept_as)
        panels[panel.side].append(text)
        tokens = ROWS if panel.side == "row" else STAGES * columns
        shared.add(kept_as.type, text.name, tokens * text.step, kept_as.bytes)
    summed = {r.panel for r in products}
    guarded = (
        panels["column"] if kept_as is FLOAT else [p for p in panels["column"] if p.name in summed and kernel.support]
    )
    if guarded:
        shared.add("int32_t", "odd_of_warp", WARPS, 4)
    for value in hoists.row.values():
        shared.add(value.type, f"all_{value.name}", ROWS, 4)
    for value in hoists.column.values():
        shared.add(value.type, f"all_{value.name}", STAGES * columns, 4)
    early, late = _stages(kernel, logit)
    made = {s.name: s.type for s in steps if s.kind != "dot"}
    source = rendered(
        "fragments",
        name,
        kernel,
        **walk_context(kernel),
        form=kept_as.name,
        shared=shared.arrays,
        ROWS=ROWS,
        COLUMNS=columns,
        WARPS=WARPS,
        registers=registers,
        row_panels=panels["row"],
        column_panels=panels["column"],
        guarded=guarded,
        dots=[replace(s, width=_padded(s.width)) for s in steps if s.kind == "dot"],
        arrays=[(made[n], n) for n in (*early.kept, *((identifier(softmax.weight),) if softmax else ()), *late.kept)],
        early=early,
        late=late,
        products=products,
        padded={r.name: _padded(r.width) for r in products},
        wide=[r.name for r in products if kept_as is F16 and not (softmax and r.tile == identifier(softmax.weight))],
        reduces=[r for r in results if r.reduce],
        softmax=softmax and _softmax(softmax, logit, powers=kept_as is not FLOAT),
        row_values=hoists.row.values(),
        column_values=hoists.column.values(),
        batch_values=hoists.batch.values(),
    )
    tasks = op("mul", size(kernel.batch), tiles_of(kernel.rows, ROWS))
    return Launch(name, tasks, 1, 32 * WARPS, shared.bytes, source, registers)


def _hoisted(kernel: TileKernel, hoists: Hoists) -> TileKernel:
    """The kernel with what it evaluates for every pair reading them."""

    def step(step: TileOp) -> TileOp:
        match step:
            case Value() | InnerSum():
                return replace(step, value=hoists(step.value))
            case _:
                return step

    support = hoists(kernel.support) if kernel.support is not None else None
    return replace(kernel, body=tuple(step(s) for s in kernel.body), support=support)


def _live(kernel: TileKernel) -> TileKernel:
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
        case Value(value=expr) | InnerSum(value=expr) | OnlineSoftmax(score=expr):
            return _locals(expr)
        case RowProduct(tile=tile) | RowReduce(tile=tile):
            return {tile}
        case _:
            return set()


def _locals(expr: Expr | None) -> set[str]:
    return {e.name for e in walk(expr) if isinstance(e, Local)} if expr is not None else set()


def _panels(kernel: TileKernel) -> list[Panel]:
    """Those that are read."""
    read = {name for s in kernel.body if isinstance(s, Dot) for name in (s.row, s.column)}
    read |= {s.panel for s in kernel.body if isinstance(s, RowProduct)}
    return [p for p in kernel.panels if p.name in read]


def _padded(width: int) -> int:
    """Features of a step of mma, or of two neighbours in a result."""
    return -(-width // 16) * 16


def _panel(panel: Panel, kernel: TileKernel, form: Form) -> PanelText:
    storage = {t.name: t.storage for t in kernel.tensors}
    side = kernel.rows if panel.side == "row" else kernel.columns
    as_kept = isinstance(panel.value, Load) and storage[panel.value.tensor] == form.storage
    numbers = width(panel)
    return PanelText(
        f"panel_{identifier(panel.name)}",
        numbers,
        _padded(numbers),
        _padded(numbers) + form.pad,
        unflatten(panel.features, "feature_at"),
        print_scalar(panel.value),
        row_text(panel.value, panel.features, side) if isinstance(panel.value, Load) and as_kept else None,
    )


def _stages(kernel: TileKernel, logit: Expr | None) -> tuple[Stage, Stage]:
    """What is made before the softmax, all of it where there is none, and after."""
    body, texts = kernel.body, {s.name: s for s in steps_of(kernel)}
    cut = next((n for n, s in enumerate(body) if isinstance(s, OnlineSoftmax)), len(body))
    values = [[s for s in part if isinstance(s, Value | InnerSum)] for part in (body[:cut], body[cut + 1 :])]
    dots = {s.name for s in body if isinstance(s, Dot)}
    weight = {s.weight for s in body if isinstance(s, OnlineSoftmax)}
    tiles = dots | weight | {s.name for part in values for s in part}
    products = {s.tile for s in body if isinstance(s, RowProduct)}
    reduces = [(s.tile, r) for s, r in zip(_results(body), results_of(kernel), strict=True) if r.reduce]
    later = {s.name for s in values[1]} | weight

    def stage(
        own: list[Value | InnerSum], sums: list[tuple[str, ResultText]], extra: set[str], after: set[str]
    ) -> Stage:
        names = {s.name for s in own}
        given = tiles & set().union(extra, {tile for tile, _ in sums}, *(_reads(s) for s in own)) - names
        return Stage(
            _sorted(given), tuple(texts[identifier(s.name)] for s in own), tuple(r for _, r in sums),
            _sorted(names & after), (),
        )  # fmt: skip

    late = stage(values[1], [(t, r) for t, r in reduces if t in later], set(), products)
    after = products | {name for s in values[1] for name in _reads(s)}
    early = stage(values[0], [(t, r) for t, r in reduces if t not in later], _locals(logit), after)
    return replace(early, selected=_sorted(dots & products)), late


def _sorted(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(identifier(name) for name in names))


def _results(body: tuple[TileOp, ...]) -> list[RowProduct | RowReduce]:
    return [s for s in body if isinstance(s, RowProduct | RowReduce)]


def _softmax(step: OnlineSoftmax, logit: Expr | None, powers: bool) -> dict[str, str]:
    """`logit` and `init` are in powers of two, or natural."""
    init = step.init if step.init is None or not powers else op("mul", step.init, LOG2_E)
    return softmax_targets(step) | {
        "weight": identifier(step.weight),
        "logit": printed(logit),
        "init": printed(init),
        "exp": "irc::exp2<Form>" if powers else "irc::exp",
        "to_natural": " * T(0.6931471805599453)" if powers else "",
    }
