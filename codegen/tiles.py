"""A TileKernel of order "rows" or "columns" as what tiles.cpp.j2 needs: names, sizes, and printed expressions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from irc.codegen.cpu import prologue
from irc.codegen.expr import Axis, Const, Expr, Kind, Load, Local, indices, substitute, walk
from irc.codegen.hoist import Hoists
from irc.codegen.kernel import (
    ColumnProduct,
    ColumnReduce,
    Dot,
    InnerSum,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    Storage,
    Target,
    TileKernel,
    TileOp,
    Value,
)
from irc.codegen.masks import mask_context
from irc.codegen.mirror import mirror
from irc.codegen.positions import extent, unflatten
from irc.codegen.printer import element, identifier, print_scalar, scalar_leaf, stride_name


@dataclass(frozen=True, slots=True)
class AxisText:
    index: str
    size: str


@dataclass(frozen=True, slots=True)
class Direct:
    """A panel that can be read where it lies: its first element for a column, the step from column to column, and
    the step from feature to feature, which must be 1."""

    element: str
    step: str
    feature_step: str


@dataclass(frozen=True, slots=True)
class PanelText:
    name: str
    width: int
    features: tuple[AxisText, ...]
    value: str
    direct: Direct | None
    transposed: bool  # row panels: packed [feature][row] for dots
    straight: bool  # row panels: packed [row][feature] for column products
    guarded: bool  # a product with it must not let a blocked non-finite element in


@dataclass(frozen=True, slots=True)
class DotText:
    name: str
    row: str
    column: str
    width: int


@dataclass(frozen=True, slots=True)
class Line:
    """tile_NAME[m][w] = text; with `inner`, the sum of it over those axes."""

    name: str
    text: str
    masked: bool
    stored: bool
    inner: tuple[AxisText, ...] = ()


@dataclass(slots=True)
class Stage:
    """Dots, then elementwise lines that need them. Without `unrolled` the lines run as a loop: they are long."""

    dots: list[DotText] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    unrolled: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """A row or column result. `width` is 0 for a reduction, `features` the axes that its target is indexed by."""

    name: str
    tile: str
    panel: str
    width: int
    features: tuple[AxisText, ...]
    reduce: str
    weighted: bool
    target: str


@dataclass(frozen=True, slots=True)
class SoftmaxText:
    weight: str
    score: str
    init: str | None
    lse: str | None
    max: str | None


@dataclass(frozen=True, slots=True)
class TileText:
    """The context of the template tiles.cpp.j2."""

    batch: tuple[AxisText, ...]
    rows: tuple[AxisText, ...]
    columns: tuple[AxisText, ...]
    row_panels: tuple[PanelText, ...]
    column_panels: tuple[PanelText, ...]
    stages: tuple[Stage, ...]
    late: tuple[Line, ...]  # after the softmax: what is made of its weights
    late_reads: tuple[str, ...]
    softmax: SoftmaxText | None
    stored: tuple[str, ...]
    row_products: tuple[Result, ...]
    row_reduces: tuple[Result, ...]
    column_products: tuple[Result, ...]
    column_reduces: tuple[Result, ...]
    support: str | None
    support_of_a_pair: str | None  # the same for scalars
    hoists: Hoists


@dataclass(frozen=True, slots=True)
class Shape:
    """A row panel has `vectors` registers of rows, a row tile `panels` panels, a column tile `columns` columns."""

    vectors: int
    panels: int
    columns: int


LOW = Shape(vectors=3, panels=2, columns=96)
TALL = Shape(vectors=3, panels=4, columns=96)  # packing columns, and adding to sums of theirs, is shared by more rows


def context(kernel: TileKernel) -> dict[str, object]:
    """The names that the template reads."""
    if kernel.order == "columns":
        kernel = mirror(kernel)
    text = tile_text(kernel)
    hoists = text.hoists
    return {
        **{f.name: getattr(text, f.name) for f in fields(text)},
        "hoists": {
            "batch": tuple(hoists.batch.values()),
            "row": tuple(hoists.row.values()),
            "column": tuple(hoists.column.values()),
            "gathers": tuple(hoists.gathers.values()),
        },
        **mask_context(kernel),
        "kernel": kernel,
        "prologue": prologue(kernel),
        "shape": _shape(text),
        "row_extent": extent(kernel.rows),
        "column_extent": extent(kernel.columns),
        "batch_extent": extent(kernel.batch) if kernel.batch else "1",
        "row_indices": unflatten(kernel.rows, "row_at"),
        "column_indices": unflatten(kernel.columns, "column_at"),
        "batch_indices": unflatten(kernel.batch, "batch_at") if kernel.batch else (),
    }


def _shape(text: TileText) -> Shape:
    sums_of_columns = text.column_products or text.column_reduces
    return LOW if all(panel.direct for panel in text.column_panels) and not sums_of_columns else TALL


def axis_texts(axes: tuple[Axis, ...]) -> tuple[AxisText, ...]:
    return tuple(AxisText(identifier(a.name), print_scalar(a.size)) for a in axes)


def width(panel: Panel) -> int:
    sizes = [a.size.value for a in panel.features if isinstance(a.size, Const)]
    if len(sizes) != len(panel.features):
        raise ValueError(f"tiles: the features of panel {panel.name} are not constant")
    return math.prod(int(s) for s in sizes)


def _direct(panel: Panel, kernel: TileKernel) -> Direct | None:
    """Where a column panel is a plain slice: one tensor of the arithmetic's own type, its last dimension the feature,
    one other dimension the column, the rest known to the task."""
    storage: dict[str, Storage] = {t.name: t.storage for t in kernel.tensors}
    if not isinstance(panel.value, Load) or len(panel.features) != 1 or len(kernel.columns) != 1:
        return None
    load, feature, column = panel.value, panel.features[0].index, kernel.columns[0].index
    if storage[load.tensor] != kernel.arithmetic or not load.indices or load.indices[-1] != feature:
        return None
    others = load.indices[:-1]
    if others.count(column) != 1:
        return None
    if any(indices(e) & {column.name, feature.name} for e in others if e != column):
        return None
    at_start = (*load.indices[:-1], Const(0, Kind.INT))
    return Direct(
        element(load.tensor, at_start, scalar_leaf),
        stride_name(load.tensor, others.index(column)),
        stride_name(load.tensor, len(others)),
    )


def _panel_name(name: str) -> str:
    return f"panel_{identifier(name)}"


def _tile_names(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(identifier(name) for name in names))


def _tiles_of(expr: Expr) -> set[str]:
    return {e.name for e in walk(expr) if isinstance(e, Local)}


def _weighted(body: tuple[TileOp, ...]) -> set[str]:
    """Tile values that scale with the softmax weight."""
    found: set[str] = set()
    for step in body:
        if isinstance(step, OnlineSoftmax):
            found.add(step.weight)
        elif isinstance(step, Value | InnerSum) and _tiles_of(step.value) & found:
            found.add(step.name)
    return found


def _target(target: Target) -> str:
    return element(target.tensor, target.indices, scalar_leaf)


def _line(step: Value | InnerSum, stored: set[str], hoists: Hoists) -> Line:
    over = step.over if isinstance(step, InnerSum) else ()
    inner = tuple(Axis(f"inner_{a.name}", a.size) for a in over)  # no name of the template's own
    value = substitute(step.value, {a.index: b.index for a, b in zip(over, inner, strict=True)})
    return Line(identifier(step.name), hoists.vector(value), step.masked, step.name in stored, axis_texts(inner))


def _is_long(line: Line) -> bool:
    return "gather_" in line.text or bool(line.inner)


def tile_text(kernel: TileKernel) -> TileText:
    """Print the parts of a kernel. Raises ValueError for what the templates cannot do."""
    hoists = Hoists(kernel)
    body = kernel.body
    softmax = next((s for s in body if isinstance(s, OnlineSoftmax)), None)
    if softmax is not None and any(isinstance(s, ColumnProduct | ColumnReduce) for s in body):
        raise ValueError("tiles: a column result beside a running softmax")
    cut = body.index(softmax) if softmax is not None else len(body)
    early, after = body[:cut], body[cut + 1 :]
    late_values = [s for s in after if isinstance(s, Value | InnerSum)]
    late_names = {s.name for s in late_values}
    late_reads = set().union(*(_tiles_of(s.value) for s in late_values)) if late_values else set()

    products = [s for s in body if isinstance(s, RowProduct | ColumnProduct | RowReduce | ColumnReduce)]
    stored = {s.tile for s in products} | (late_reads - late_names)
    weighted = _weighted(body)
    panels = {p.name: p for p in kernel.panels}
    dots = [s for s in body if isinstance(s, Dot)]

    stages: list[Stage] = []
    for step in early:
        match step:
            case Dot(name, row, column):
                if not stages or stages[-1].lines:
                    stages.append(Stage())
                dot = DotText(identifier(name), _panel_name(row), _panel_name(column), width(panels[row]))
                stages[-1].dots.append(dot)
                if name in stored:
                    stages[-1].lines.append(Line(identifier(name), hoists.vector(Local(name)), False, True))
            case Value() | InnerSum():
                if not stages:
                    stages.append(Stage())
                stages[-1].lines.append(_line(step, stored, hoists))
            case _:
                pass
    if any(isinstance(s, Dot) for s in after):
        raise ValueError("tiles: a dot after the softmax")
    score = hoists.vector(softmax.score) if softmax is not None else ""
    for stage in stages:
        stage.unrolled = not any(_is_long(line) for line in stage.lines)
    if softmax is not None:
        if not stages:
            stages.append(Stage())
        if "gather_" in score:
            stages[-1].unrolled = False

    guarded = {s.panel for s in products if isinstance(s, RowProduct | ColumnProduct)} if kernel.support else set()
    transposed = {d.row for d in dots}
    straight = {s.panel for s in products if isinstance(s, ColumnProduct)}

    def panel_text(panel: Panel) -> PanelText:
        return PanelText(
            _panel_name(panel.name),
            width(panel),
            axis_texts(panel.features),
            hoists.scalar(panel.value, "lane_at", "place"),
            _direct(panel, kernel) if panel.side == "column" else None,
            panel.name in transposed,
            panel.name in straight,
            panel.name in guarded,
        )

    def result(step: RowProduct | ColumnProduct | RowReduce | ColumnReduce, position: int) -> Result:
        panel = panels[step.panel] if isinstance(step, RowProduct | ColumnProduct) else None
        reduce = step.reduce if isinstance(step, RowReduce | ColumnReduce) else ""
        if reduce in ("max", "argmax") and step.tile in weighted:
            raise ValueError("tiles: the maximum of a running weight")
        return Result(
            f"{'row' if isinstance(step, RowProduct | RowReduce) else 'column'}_result_{position}",
            identifier(step.tile),
            _panel_name(panel.name) if panel else "",
            width(panel) if panel else 0,
            axis_texts(panel.features) if panel else (),
            reduce,
            step.tile in weighted,
            _target(step.target),
        )

    results = [(s, result(s, n)) for n, s in enumerate(products)]
    return TileText(
        batch=axis_texts(kernel.batch),
        rows=axis_texts(kernel.rows),
        columns=axis_texts(kernel.columns),
        row_panels=tuple(panel_text(p) for p in kernel.panels if p.side == "row"),
        column_panels=tuple(panel_text(p) for p in kernel.panels if p.side == "column"),
        stages=tuple(stages),
        late=tuple(_line(s, stored | late_reads, hoists) for s in late_values),
        late_reads=_tile_names(late_reads - late_names),
        softmax=_softmax_text(softmax, score) if softmax is not None else None,
        stored=_tile_names(stored | late_reads | ({softmax.weight} if softmax else set())),
        row_products=tuple(r for s, r in results if isinstance(s, RowProduct)),
        row_reduces=tuple(r for s, r in results if isinstance(s, RowReduce)),
        column_products=tuple(r for s, r in results if isinstance(s, ColumnProduct)),
        column_reduces=tuple(r for s, r in results if isinstance(s, ColumnReduce)),
        support=hoists.vector(kernel.support) if kernel.support is not None else None,
        support_of_a_pair=print_scalar(kernel.support) if kernel.support is not None else None,
        hoists=hoists,
    )


def _softmax_text(step: OnlineSoftmax, score: str) -> SoftmaxText:
    return SoftmaxText(
        weight=identifier(step.weight),
        score=score,
        init=print_scalar(step.init) if step.init is not None else None,
        lse=_target(step.lse) if step.lse is not None else None,
        max=_target(step.max) if step.max is not None else None,
    )
