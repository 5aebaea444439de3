"""A TileKernel of order "rows" or "columns" as what tiles.cpp.j2 needs: names, sizes, and printed expressions."""

from __future__ import annotations

from dataclasses import fields, replace

from irc.codegen.cpu import prologue
from irc.codegen.expr import FLOATING, TRUE, Axis, Kind, Load, Op, conjuncts, integer, walk
from irc.codegen.hoist import Hoists
from irc.codegen.inner import Packing
from irc.codegen.kernel import (
    DISTANCE,
    Accumulate,
    ColumnProduct,
    ColumnReduce,
    DistanceProduct,
    DistanceReduce,
    Dot,
    InnerSum,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    RowSums,
    Side,
    Target,
    TileKernel,
    TileOp,
    TileProduct,
    TileReduce,
    TileSums,
    Value,
)
from irc.codegen.masks import mask_context
from irc.codegen.mirror import mirror
from irc.codegen.names import identifier
from irc.codegen.narrow import Narrow
from irc.codegen.panels import axis_texts, fixed_of, of_distances, panel_rows, parts_of, row_text, width
from irc.codegen.places import TILE_PLACES, Places
from irc.codegen.positions import chunks_of, extent, points, size, unflatten
from irc.codegen.powers import in_powers_of_two
from irc.codegen.printer import element, print_scalar, scalar_leaf
from irc.codegen.schedule import Footprint, Schedule
from irc.codegen.stages import finish, in_one_loop, in_stages, line_of, panel_name, summed_in, tile_names, values_of
from irc.codegen.tile_texts import (
    Computed,
    DistanceText,
    KeptText,
    NumbersText,
    PanelText,
    Result,
    SoftmaxText,
    SumsText,
    TileText,
)
from irc.codegen.truths import conjoined, truth_tables, without


def context(kernel: TileKernel, schedule: Schedule) -> dict[str, object]:
    """The names that the template reads. `owners`: how many points of the batch have elements of their own, where
    results are added."""
    if kernel.order == "columns":
        kernel = mirror(kernel)
    adds = any(isinstance(step, RowProduct | RowReduce) and step.added for step in kernel.body)
    owners, chunks = extent(kernel.batch) if kernel.batch else "1", print_scalar(chunks_of(size(kernel.batch)))
    kernel = replace(kernel, batch=(*kernel.batch, *kernel.serial), serial=())
    return {**tiled_context(tile_text(kernel), kernel, schedule), "owners": owners if adds else None, "chunks": chunks}


def tiled_context(text: TileText, kernel: TileKernel, schedule: Schedule) -> dict[str, object]:
    """What the templates of kernels whose lanes are rows read."""
    needs = _footprint(text, kernel)
    return {
        **text_context(text, kernel),
        **mask_context(without(kernel, text.hoists.masks)),
        "tiles": schedule.tiles(kernel.name, needs),
        "form": "irc::Pair" if kernel.pairs else "irc::Single<T>",
    }


def text_context(text: TileText, kernel: TileKernel) -> dict[str, object]:
    """What templates of every form read: the printed parts, arguments, and the indices and extents of the sides."""
    hoists = text.hoists
    return {
        "distance": identifier(DISTANCE.name),
        **{f.name: getattr(text, f.name) for f in fields(text)},
        "hoists": {
            "batch": tuple(hoists.batch.values()),
            "row": tuple(hoists.row.values()),
            "column": tuple(hoists.column.values()),
            "gathers": tuple(hoists.gathers.values()),
            "draws": tuple(hoists.draws.values()),
            "tables": tuple(hoists.tables.values()),
            "masks": tuple(hoists.masks.values()),
        },
        "kernel": kernel,
        "prologue": prologue(kernel),
        "row_extent": extent(kernel.rows),
        "column_extent": extent(kernel.columns),
        "batch_extent": extent(kernel.batch) if kernel.batch else "1",
        "row_indices": unflatten(kernel.rows, "row_at"),
        "column_indices": unflatten(kernel.columns, "column_at"),
        "batch_indices": unflatten(kernel.batch, "batch_at") if kernel.batch else (),
    }


def footprint(kernel: TileKernel) -> Footprint:
    """What the kernel keeps, walks through and packs, by the layouts of tile_panels.h."""
    kernel = mirror(kernel) if kernel.order == "columns" else kernel
    return _footprint(tile_text(kernel), kernel)


def _footprint(text: TileText, kernel: TileKernel) -> Footprint:
    number = 8 if kernel.arithmetic == "f64" else 4
    if kernel.pairs:  # one copy for each use; logits, in single numbers, are rare
        unit = 2
        kept = unit * sum(use != "irc::LOGITS" for value in text.kept for use in value.uses.split(" | "))
    else:
        unit, kept = number, number * len(text.kept)
    sums = 2 * number * sum([*(r.width for r in text.row_products), *(r.width for r in text.row_sums)])
    return Footprint(
        kept=kept,
        row=sums + unit * sum(panel.width * (panel.dotted + panel.summed) for panel in text.row_panels),
        column=unit * sum(panel.width * (panel.dotted + panel.summed) for panel in text.column_panels),
        number=number,
        both=bool(
            text.column_products
            or text.column_sums
            or text.column_reduces
            or text.distance_products
            or text.distance_reduces
        ),
    )


def weighted_values(body: tuple[TileOp, ...]) -> set[str]:
    """Tile values that scale with the softmax weight."""
    found: set[str] = set()
    for step in body:
        if isinstance(step, OnlineSoftmax):
            found.add(step.weight)
        elif isinstance(step, Value | InnerSum) and values_of(step.value) & found:
            found.add(step.name)
    return found


def _side_of(step: TileProduct | TileReduce) -> str:
    """Of what the step makes a result."""
    match step:
        case DistanceProduct() | DistanceReduce():
            return "distance"
        case RowProduct() | RowReduce():
            return "row"
        case _:
            return "column"


def has_distances(kernel: TileKernel) -> bool:
    """Whether the kernel has products or sums of distances."""
    return bool(of_distances(kernel)) or any(isinstance(s, DistanceProduct | DistanceReduce) for s in kernel.body)


def _target(target: Target) -> str:
    return element(target.tensor, target.indices, scalar_leaf)


def _kept(
    products: list[TileProduct | TileReduce], far: set[str], plain: set[str], weight: str | None
) -> dict[str, str]:
    """What each tile value that is read after its tile is read for; `far` are panels of distances."""
    uses: dict[str, set[str]] = {name: {"PLAIN"} for name in plain}
    for step in products:
        use = {RowProduct: "OVER_COLUMNS", ColumnProduct: "OVER_ROWS"}.get(type(step), "PLAIN")
        use = "PLAIN" if getattr(step, "panel", "") in far else use
        uses.setdefault(step.tile, set()).add(use)
    if weight is not None:
        uses.setdefault(weight, set()).add("LOGITS")
    return {name: " | ".join(f"irc::{use}" for use in sorted(found)) for name, found in uses.items()}


def tile_text(kernel: TileKernel, places: Places = TILE_PLACES) -> TileText:
    """Print the parts of a kernel. Raises ValueError for what the templates cannot do."""
    hoists = Hoists(kernel, places)
    powers = in_powers_of_two(kernel)
    body = powers.body
    softmax = next((s for s in body if isinstance(s, OnlineSoftmax)), None)
    if softmax is not None and any(isinstance(s, TileProduct | TileReduce) and _side_of(s) != "row" for s in body):
        raise ValueError("tiles: a column result beside a running softmax")
    cut = body.index(softmax) if softmax is not None else len(body)
    early, after = body[:cut], body[cut + 1 :]
    late_values = [s for s in after if isinstance(s, Value | InnerSum)]
    late_names = {s.name for s in late_values}
    late_reads = set().union(*(values_of(s.value) for s in late_values)) - late_names if late_values else set()

    products = [s for s in body if isinstance(s, TileProduct | TileReduce)]
    sums = [s for s in body if isinstance(s, TileSums)]
    far = of_distances(kernel)
    added = set().union(*(values_of(s.value) for s in body if isinstance(s, Accumulate | TileSums)))
    kept = _kept(products, far, late_reads | late_names | added, softmax.weight if softmax else None)
    weighted = weighted_values(body)
    panels = {p.name: p for p in kernel.panels}
    packing, narrow = Packing(kernel), Narrow(kernel)

    in_registers = packing if places is TILE_PLACES else None
    stages, distance_dots = in_stages(early, kept, panels, far, hoists, in_registers)
    if any(isinstance(s, Dot) for s in after):
        raise ValueError("tiles: a dot after the softmax")
    logit = hoists.vector(powers.logit) if powers.logit is not None else ""
    made = (powers.logit, *(s.value for s in early if isinstance(s, Value | InnerSum)))
    waits = any(
        isinstance(e, Op) and e.name in (*FLOATING, "pow") for value in made if value is not None for e in walk(value)
    )
    reads = (powers.logit, softmax.score if softmax is not None and softmax.max is not None else None)
    finish(stages, distance_dots, [e for e in reads if e is not None], None if softmax is None else logit)
    dots = [s for s in body if isinstance(s, Dot)]
    dotted = {name for d in dots for name in (d.row, d.column)}
    summed = {s.panel for s in products if isinstance(s, RowProduct | ColumnProduct)}
    numbered = {s.panel for s in products if isinstance(s, DistanceProduct)}

    def packed_text(panel: Panel) -> PanelText:
        """Of single numbers, for sums in registers."""
        side = kernel.rows if panel.side == "row" else kernel.columns
        numbers, fixed = numbers_text(panel)
        shape = panel_name(panel.name), width(panel), numbers
        return PanelText(*shape, panel_rows(panel, side), True, False, False, False, "irc::Single<T>", fixed)

    def numbers_text(panel: Panel) -> tuple[tuple[NumbersText, ...], tuple[str, ...]]:
        value, fixed = fixed_of(panel)
        parts = parts_of(narrow.entries(value), panel.features)
        numbers = (NumbersText(axis_texts(axes), hoists.scalar(part, "place", "place")) for axes, part in parts)
        types = {Kind.FLOAT: "T", Kind.INT: "int64_t", Kind.BOOL: "bool"}
        named = (
            f"const {types[local.kind]} {identifier(local.name)} = {hoists.scalar(part, 'place', 'place')};"
            for part, local in fixed.items()
        )
        return tuple(numbers), tuple(named)

    def panel_text(panel: Panel) -> PanelText:
        side = kernel.rows if panel.side == "row" else kernel.columns
        numbers, fixed = numbers_text(panel)
        return PanelText(
            panel_name(panel.name),
            width(panel),
            numbers,
            panel_rows(panel, side),
            panel.name in dotted,
            panel.name in summed,
            panel.name in summed and kernel.support is not None,
            panel.name in numbered,
            fixed=fixed,
        )

    def distance_text(panel: Panel) -> DistanceText:
        side, value = (Axis(DISTANCE.name, integer(0)),), panel.value
        return DistanceText(
            panel_name(panel.name),
            width(panel),
            axis_texts(panel.features),
            print_scalar(value),
            None if panel.exists is None else print_scalar(panel.exists),
            row_text(value, panel.features, side) if isinstance(value, Load) else None,
            panel.name in dotted,
            any(isinstance(s, RowProduct) and s.panel == panel.name for s in products),
            any(isinstance(s, ColumnProduct) and s.panel == panel.name for s in products),
        )

    def result(step: TileProduct | TileReduce, position: int) -> Result:
        panel = panels[step.panel] if isinstance(step, TileProduct) else None
        reduce = step.reduce if isinstance(step, RowReduce | ColumnReduce) else ""
        if reduce in ("max", "argmax") and step.tile in weighted:
            raise ValueError("tiles: the maximum of a running weight")
        side = kernel.rows if isinstance(step, RowProduct) else kernel.columns
        return Result(
            f"{_side_of(step)}_result_{position}",
            identifier(step.tile),
            panel_name(panel.name) if panel else "",
            width(panel) if panel else 0,
            axis_texts(panel.features) if panel else (),
            reduce,
            step.tile in weighted,
            _target(step.target),
            row_text(step.target, panel.features, side) if panel else None,
            panel.side if panel else "",
            isinstance(step, RowProduct | RowReduce) and step.added,
        )

    def summed_together(steps: tuple[tuple[int, TileSums], ...]) -> SumsText:
        """Those of the same features, with their numbers."""
        over = steps[0][1].features
        size = points(over)
        if size is None:
            raise ValueError(f"tiles: the features of {steps[0][1].target.tensor} are not constant")
        values = [step.value if (packed := packing.packed(step.value, over)) is None else packed for _, step in steps]
        sides: list[Side] = ["row" if isinstance(step, RowSums) else "column" for _, step in steps]
        results = tuple(
            Computed(f"{side}_sums_{number}", size, _target(step.target), axis_texts(over),
                     row_text(step.target, over, kernel.rows if side == "row" else kernel.columns), side)
            for side, (number, step) in zip(sides, steps, strict=True)
        )  # fmt: skip
        read = set().union(*(values_of(step.value) for _, step in steps))
        return SumsText(in_one_loop(values, over, packing, hoists, {}), results, tile_names(read))

    alike = dict.fromkeys(s.features for s in sums)
    numbered_sums = tuple(enumerate(sums))
    sums_texts = tuple(summed_together(tuple(n for n in numbered_sums if n[1].features == f)) for f in alike)
    sides: tuple[Side, ...] = ("row", "column")
    extra = {s: tuple(packed_text(p) for p in packing.panels.values() if p.side == s) for s in sides}
    results = [(s, result(s, n)) for n, s in enumerate(products)]
    return TileText(
        batch=axis_texts(kernel.batch),
        rows=axis_texts(kernel.rows),
        columns=axis_texts(kernel.columns),
        row_panels=tuple(panel_text(p) for p in kernel.panels if p.side == "row") + extra["row"],
        column_panels=tuple(panel_text(p) for p in kernel.panels if p.side == "column") + extra["column"],
        distance_panels=tuple(distance_text(p) for p in kernel.panels if p.side == "distance"),
        distance_dots=tuple(distance_dots),
        stages=tuple(stages),
        waiting=tuple(name for stage in stages for name in (*summed_in(stage), *stage.leaves)),
        late=tuple(line_of(s, True, hoists) for s in late_values),
        late_reads=tile_names(late_reads),
        softmax=_softmax_text(softmax, logit, powers.natural, waits, hoists) if softmax is not None else None,
        kept=tuple(KeptText(identifier(name), uses) for name, uses in sorted(kept.items())),
        row_products=tuple(r for s, r in results if isinstance(s, RowProduct)),
        row_sums=tuple(r for together in sums_texts for r in together.results if r.side == "row"),
        column_sums=tuple(r for together in sums_texts for r in together.results if r.side == "column"),
        summed_together=sums_texts,
        row_reduces=tuple(r for s, r in results if isinstance(s, RowReduce)),
        column_products=tuple(r for s, r in results if isinstance(s, ColumnProduct)),
        column_reduces=tuple(r for s, r in results if isinstance(s, ColumnReduce)),
        distance_products=tuple(r for s, r in results if isinstance(s, DistanceProduct)),
        distance_reduces=tuple(r for s, r in results if isinstance(s, DistanceReduce)),
        support=_support(kernel, hoists),
        support_of_a_pair=print_scalar(kernel.support) if kernel.support is not None else None,
        hoists=hoists,
    )


def _support(kernel: TileKernel, hoists: Hoists) -> str | None:
    """Which pairs of a vector exist."""
    if kernel.support is None:
        return None
    tables = {part: text for part, read in truth_tables(kernel).items() if (text := hoists.truths(part, read))}
    rest = conjoined(p for p in conjuncts(kernel.support) if p not in tables)
    texts = [*tables.values(), *([] if rest == TRUE else [f"irc::splat_mask<ivec>({hoists.condition(rest)})"])]
    return " & ".join(texts)


def _softmax_text(step: OnlineSoftmax, logit: str, natural: bool, waits: bool, hoists: Hoists) -> SoftmaxText:
    return SoftmaxText(
        weight=identifier(step.weight),
        logit=logit,
        natural=natural,
        waits=waits,
        score=hoists.vector(step.score) if step.max is not None else None,
        init=print_scalar(step.init) if step.init is not None else None,
        lse=_target(step.lse) if step.lse is not None else None,
        max=_target(step.max) if step.max is not None else None,
        remainder=_target(step.remainder) if step.remainder is not None else None,
    )
