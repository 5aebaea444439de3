"""Tile kernels in CUDA: one launch a side, each a block for a tile of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen import loops
from irc.codegen.cuda_launch import Launch, rendered
from irc.codegen.expr import FALSE, TRUE, Expr, Kind, Load, Size, integer, loads, op, rebuild
from irc.codegen.kernel import (
    Accumulate,
    ColumnProduct,
    ColumnReduce,
    Dot,
    InnerSum,
    Kernel,
    LoopKernel,
    OnlineSoftmax,
    RowProduct,
    RowReduce,
    Side,
    Summary,
    TileKernel,
    Value,
    Verdict,
)
from irc.codegen.mirror import mirror
from irc.codegen.positions import extent, size, unflatten
from irc.codegen.printer import identifier, print_scalar
from irc.codegen.tiles import weighted_values, width

COLUMNS = 32  # of a tile: one a lane
ROWS = 16
WARPS = 4
NUMBER = {"f32": 4, "f64": 8}
TYPE = {Kind.FLOAT: "T", Kind.INT: "int64_t", Kind.BOOL: "bool"}

Indices = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PanelText:
    """A panel as it lies in shared memory: a padded row of `width` numbers for each token."""

    name: str
    width: int
    features: Indices
    value: str


@dataclass(frozen=True, slots=True)
class StepText:
    """One line of what is done with a pair; `tile` where a product reads it: shared memory, one number a pair.

    kind: "dot" (row, column panels), "value", "sum" (over loops), "softmax", "accumulate" (into an lvalue)."""

    kind: str
    name: str
    type: str = "T"
    value: str = ""
    over: tuple[loops.Counter, ...] = ()
    row: str = ""
    column: str = ""
    width: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class ResultText:
    """What is made of a tile value along a row: a product with a column panel, or where `reduce` is set one number."""

    name: str
    tile: str
    reduce: str
    panel: str
    width: int
    features: Indices
    weighted: bool
    target: str


@dataclass(frozen=True, slots=True)
class Memory:
    """An array in shared memory, `offset` bytes from its start."""

    type: str
    name: str
    offset: int


class _Shared:
    """Shared memory, handed out array by array."""

    def __init__(self) -> None:
        self.arrays: list[Memory] = []
        self.bytes = 0

    def add(self, kind: str, name: str, count: int, size: int) -> None:
        self.arrays.append(Memory(kind, name, self.bytes))
        self.bytes += -(-count * size // 16) * 16


def tile_launches(kernel: TileKernel) -> tuple[Launch, ...]:
    """Those of one kernel, to be run one after another."""
    if kernel.order == "elements":
        return (_tile_launch(kernel, kernel.name),)
    return tuple(_tile_launch(k, f"{kernel.name}_{side}") for side, k in _by_side(_from_copies(kernel)))


def copied(kernel: Kernel) -> tuple[str, ...]:
    """Results of a kernel that it also reads, in panels, and that one launch writes before another reads them: launches
    are given a copy of each from before, after the tensors."""
    if isinstance(kernel, LoopKernel) or kernel.order == "elements" or len(_by_side(kernel)) == 1:
        return ()
    read = {load.tensor for panel in kernel.panels for load in loads(panel.value)}
    return tuple(t.name for t in kernel.tensors if t.written and t.name in read)


def _from_copies(kernel: TileKernel) -> TileKernel:
    """The kernel with panels read from such copies."""
    names = copied(kernel)

    def fn(part: Expr) -> Expr | None:
        return (
            replace(part, tensor=f"before.{part.tensor}") if isinstance(part, Load) and part.tensor in names else None
        )

    copies = tuple(replace(t, name=f"before.{t.name}", written=False) for t in kernel.tensors if t.name in names)
    panels = tuple(replace(p, value=rebuild(p.value, fn)) for p in kernel.panels)
    return replace(kernel, tensors=kernel.tensors + copies, panels=panels)


def _by_side(kernel: TileKernel) -> tuple[tuple[Side, TileKernel], ...]:
    """One kernel for the results of each side, which walks the other and so needs no sum of another block: tile values
    are made once more instead. Each has row results alone."""
    rows, columns = (RowProduct | RowReduce | OnlineSoftmax), (ColumnProduct | ColumnReduce)
    found: list[tuple[Side, TileKernel]] = []
    if any(isinstance(step, rows) for step in kernel.body):
        own = replace(kernel, body=tuple(s for s in kernel.body if not isinstance(s, columns)))
        found.append(("row", own if kernel.order == "rows" else _unbounded(own)))
    if any(isinstance(step, columns) for step in kernel.body):
        own = replace(kernel, body=tuple(s for s in kernel.body if not isinstance(s, rows)))
        found.append(("column", mirror(own if kernel.order == "columns" else _unbounded(own))))
    return tuple(found)


def _unbounded(kernel: TileKernel) -> TileKernel:
    """The kernel where its other side is walked, of which its spans say nothing; verdicts still skip tiles."""
    return replace(kernel, spans=None, searches=())


def _summary(summary: Summary, kernel: TileKernel) -> dict[str, object]:
    axes = kernel.rows if summary.side == "row" else kernel.columns
    return {
        "name": identifier(summary.name),
        "side": summary.side,
        "indices": unflatten(axes, "position_at"),
        "value": print_scalar(summary.value),
    }


def _steps(kernel: TileKernel) -> tuple[StepText, ...]:
    panels = {panel.name: panel for panel in kernel.panels}
    found = []
    for step in kernel.body:
        match step:
            case Dot(name, row, column):
                names = f"panel_{identifier(row)}", f"panel_{identifier(column)}"
                found.append(StepText("dot", identifier(name), row=names[0], column=names[1], width=width(panels[row])))
            case Value(name, value, _):
                found.append(StepText("value", identifier(name), TYPE[value.kind], print_scalar(value)))
            case InnerSum(name, over, value, _):
                found.append(StepText("sum", identifier(name), value=print_scalar(value), over=loops.counters(over)))
            case OnlineSoftmax(score, weight):
                found.append(StepText("softmax", identifier(weight), value=print_scalar(score)))
            case Accumulate(over, value, target):
                found.append(
                    StepText(
                        "accumulate", "", value=print_scalar(value), over=loops.counters(over),
                        target=loops.lvalue(target),
                    )
                )  # fmt: skip
            case _:
                pass
    return tuple(found)


def _results(kernel: TileKernel) -> tuple[ResultText, ...]:
    panels = {panel.name: panel for panel in kernel.panels}
    weighted = weighted_values(kernel.body)
    found = []
    for n, step in enumerate(s for s in kernel.body if isinstance(s, RowProduct | RowReduce)):
        panel = panels[step.panel] if isinstance(step, RowProduct) else None
        found.append(
            ResultText(
                name=f"row_result_{n}",
                tile=identifier(step.tile),
                reduce=step.reduce if isinstance(step, RowReduce) else "",
                panel=f"panel_{identifier(panel.name)}" if panel else "",
                width=width(panel) if panel else 1,
                features=unflatten(panel.features, "feature_at") if panel else (),
                weighted=step.tile in weighted,
                target=loops.lvalue(step.target),
            )
        )
    return tuple(found)


def _tile_launch(kernel: TileKernel, name: str) -> Launch:
    elements = kernel.order == "elements"
    warps = 1 if elements else WARPS
    steps, results = _steps(kernel), _results(kernel)
    softmax = next((s for s in kernel.body if isinstance(s, OnlineSoftmax)), None)
    number, shared = NUMBER[kernel.arithmetic], _Shared()
    used = {x for s in steps for x in (s.row, s.column)} | {r.panel for r in results}
    panels: dict[Side, list[PanelText]] = {"row": [], "column": []}
    for panel in kernel.panels:
        packed = PanelText(
            f"panel_{identifier(panel.name)}", width(panel), unflatten(panel.features, "feature_at"),
            print_scalar(panel.value),
        )  # fmt: skip
        if packed.name in used:
            panels[panel.side].append(packed)
            shared.add("T", packed.name, (ROWS if panel.side == "row" else COLUMNS) * (packed.width + 1), number)
    kept = sorted({r.tile for r in results if not r.reduce})
    for tile in kept:
        shared.add("T", f"tile_{tile}", warps * COLUMNS, number)
    for result in results:
        shared.add("T", result.name, ROWS * result.width, number)
        if result.reduce == "argmax":
            shared.add("int64_t", f"{result.name}_at", ROWS, 8)
    if softmax is not None:
        for row_value in ("row_shift", "row_sum", "row_maximum"):
            shared.add("T", row_value, ROWS, number)
        shared.add("int32_t", "row_has_key", ROWS, 4)
    verdict = kernel.verdict or Verdict(TRUE, FALSE if kernel.support is not None else TRUE)
    row_tiles = op("floordiv", op("add", size(kernel.rows), integer(ROWS - 1)), integer(ROWS))
    chunks = Size("chunks") if "chunks" in kernel.sizes else row_tiles
    text = rendered(
        "tile",
        name,
        kernel,
        shared=shared.arrays,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        WARPS=warps,
        elements=elements,
        chunks=print_scalar(chunks) if "chunks" in kernel.sizes else "row_tiles",
        row_extent=extent(kernel.rows),
        column_extent=extent(kernel.columns),
        batch=unflatten(kernel.batch, "batch_at") if kernel.batch else (),
        serial=loops.counters(kernel.serial),
        row=unflatten(kernel.rows, "row_at"),
        column=unflatten(kernel.columns, "column_at"),
        summaries=[_summary(s, kernel) for s in kernel.summaries],
        spans=[
            (print_scalar(s.first), print_scalar(s.last)) for s in (kernel.spans or () if not kernel.searches else ())
        ],
        bounded=kernel.spans is not None and not kernel.searches,
        may=print_scalar(verdict.may),
        must=print_scalar(verdict.must),
        support=print_scalar(kernel.support) if kernel.support is not None else "",
        row_panels=panels["row"],
        column_panels=panels["column"],
        steps=steps,
        results=results,
        kept=kept,
        softmax=softmax
        and {
            "init": print_scalar(softmax.init) if softmax.init is not None else "",
            "lse": loops.lvalue(softmax.lse) if softmax.lse is not None else "",
            "max": loops.lvalue(softmax.max) if softmax.max is not None else "",
            "remainder": loops.lvalue(softmax.remainder) if softmax.remainder is not None else "",
        },
    )
    tasks = op("mul", size(kernel.batch), chunks if elements else row_tiles)
    return Launch(name, tasks, 1, 32 * warps, shared.bytes, text)
