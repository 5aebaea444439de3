"""Tile kernels in plain CUDA, one lane a column: whatever they compute, in float or double."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen import cuda_split, loops
from irc.codegen.cuda_forms import GATHERS, reads_twice, scalars
from irc.codegen.cuda_launch import NUMBER, REGISTERS, Arrays, Launch, most_shared, rendered
from irc.codegen.cuda_rows import RowText, row_text
from irc.codegen.cuda_split import Recorded, Split
from irc.codegen.expr import FALSE, TRUE, Expr, Index, Kind, Local, Op, op, rebuild, walk
from irc.codegen.kernel import (
    CHUNKS,
    Accumulate,
    Dot,
    InnerSum,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    Summary,
    Target,
    TileKernel,
    Value,
    Verdict,
)
from irc.codegen.masks import span_texts
from irc.codegen.names import identifier
from irc.codegen.narrow import Narrow
from irc.codegen.panels import of_distances, width
from irc.codegen.positions import extent, size, tiles_of, unflatten
from irc.codegen.printer import print_scalar
from irc.codegen.stream import by_bits
from irc.codegen.tiles import weighted_values

COLUMNS = 32  # of a tile: one a lane
ROWS = (16, 8, 4)  # the most whose panels and results fit into shared memory; else without some panels
WARPS = 4
GATHERING = 168  # registers of a thread that reads memory for pairs
TYPE = {Kind.FLOAT: "T", Kind.INT: "int64_t", Kind.BOOL: "bool"}

Indices = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PanelText:
    """A panel as it lies in shared memory: a padded row of `width` numbers for each token; `exists` says where a
    distance has one."""

    name: str
    side: str
    width: int
    features: Indices
    value: str
    exists: str


@dataclass(frozen=True, slots=True)
class StepText:
    """One line of what is done with a pair; `tile` where a product reads it: shared memory, one number a pair.

    kind: "dot" (row, column panels; `apart`: which of them is of distances), "value", "sum" (over loops), "softmax",
    "accumulate" (into an lvalue: of a pair, or where it is of many over loops and over `features`, which lanes
    share out; `reads`: the type and name of tile values in it)."""

    kind: str
    name: str
    type: str = "T"
    value: str = ""
    over: tuple[loops.Counter, ...] = ()
    row: str = ""
    column: str = ""
    width: int = 0
    target: str = ""
    apart: str = ""
    features: Indices = ()
    extent: str = ""
    reads: Indices = ()


@dataclass(frozen=True, slots=True)
class ResultText:
    """What is made of a tile value along a row: a product with a column panel, or where `reduce` is set one number.
    `row` where that of a product may be stored 16 bytes at a time; `apart`: the panel is of distances. What is stored
    is multiplied with `factor`, unless that is empty."""

    name: str
    tile: str
    reduce: str
    panel: str
    width: int
    features: Indices
    weighted: bool
    target: str
    row: RowText | None
    apart: bool
    factor: str = ""

    @property
    def times(self) -> str:
        """What a sum is multiplied with on its way to memory; empty for 1."""
        return " * ".join(filter(None, ("inverse_at" if self.weighted else "", self.factor)))


def _summary(summary: Summary, kernel: TileKernel, narrow: Narrow | None) -> dict[str, object]:
    axes = kernel.rows if summary.side == "row" else kernel.columns
    return {
        "name": identifier(summary.name),
        "side": summary.side,
        "type": "int32_t" if narrow and narrow.fits(summary.value) else "int64_t",
        "indices": unflatten(axes, "position_at"),
        "value": print_scalar(summary.value),
    }


def walk_context(kernel: TileKernel, narrow: Narrow | None = None) -> dict[str, object]:
    """What a walk over tiles of columns reads: the names of both sides, and what the mask says of a tile; with `narrow`
    positions have 32 bits."""
    in_32_bits = narrow is not None
    verdict = kernel.verdict or Verdict(TRUE, FALSE if kernel.support is not None else TRUE)
    spans, span_parts = span_texts(kernel.spans or ())
    summaries = {s.name: _summary(s, kernel, narrow) for s in kernel.summaries}
    return {
        "row_extent": extent(kernel.rows),
        "column_extent": extent(kernel.columns),
        "batch": unflatten(kernel.batch, "batch_at", in_32_bits) if kernel.batch else (),
        "row": unflatten(kernel.rows, "row_at", in_32_bits),
        "column": unflatten(kernel.columns, "column_at", in_32_bits),
        "summaries": list(summaries.values()),
        "searches": [
            {"name": identifier(s.name), "of": summaries[s.summary], "up_to": s.up_to, "value": print_scalar(s.value)}
            for s in kernel.searches
        ],
        "spans": spans,
        "span_parts": span_parts,
        "bounded": kernel.spans is not None,
        "may": print_scalar(verdict.may),
        "must": print_scalar(verdict.must),
        "support": printed(kernel.support),
    }


def softmax_targets(step: OnlineSoftmax) -> dict[str, str]:
    """Where its row statistics go, empty where nobody asks."""
    named = {"lse": step.lse, "max": step.max, "remainder": step.remainder}
    return {name: loops.lvalue(target) if target is not None else "" for name, target in named.items()}


def printed(expr: Expr | None) -> str:
    return print_scalar(expr) if expr is not None else ""


def steps_of(kernel: TileKernel) -> tuple[StepText, ...]:
    panels, distances = {panel.name: panel for panel in kernel.panels}, of_distances(kernel)
    exact = by_bits(kernel)

    def text(value: Expr) -> str:
        return print_scalar(_apart(value, exact))

    found = []
    for step in kernel.body:
        match step:
            case Dot(name, row, column):
                names = f"panel_{identifier(row)}", f"panel_{identifier(column)}"
                apart = "row" if row in distances else "column" if column in distances else ""
                found.append(
                    StepText(
                        "dot", identifier(name), row=names[0], column=names[1], width=width(panels[row]), apart=apart
                    )
                )
            case Value(name, value, _):
                found.append(StepText("value", identifier(name), TYPE[value.kind], text(value)))
            case InnerSum(name, over, value, _):
                found.append(StepText("sum", identifier(name), value=text(value), over=loops.counters(over)))
            case OnlineSoftmax(score, weight):
                found.append(StepText("softmax", identifier(weight), value=text(score)))
            case Accumulate() if step.over:
                found.append(_added_features(step))
            case Accumulate(_, value, target):
                found.append(StepText("accumulate", "", value=print_scalar(value), target=loops.lvalue(target)))
            case _:
                pass
    return tuple(found)


def _apart(value: Expr, by_bits: bool) -> Expr:
    """What must not depend on which products a compiler fuses with sums. What an exponential subtracts from a logit is
    subtracted from it as it is rounded, as in the forward run. Where kernels compare values `by_bits`, all products are
    rounded."""

    def differences(e: Expr) -> Expr:
        match e:
            case Op("sub", (x, y), kind):
                return Op("rounded_difference", (differences(x), rebuild(y, part)), kind)
            case _:
                return rebuild(e, part)

    def part(e: Expr) -> Expr | None:
        match e:
            case Op("exp" | "share" as name, (Op("sub") as argument,), kind):
                return Op(name, (differences(argument),), kind)
            case Op("mul", (x, y), Kind.FLOAT) if by_bits:
                return Op("rounded_product", (rebuild(x, part), rebuild(y, part)), Kind.FLOAT)
            case _:
                return None

    return rebuild(value, part)


def _added_features(step: Accumulate) -> StepText:
    """What lanes share out: points with elements of their own, those of indices that are a dimension by themselves."""
    plain = {index.name for index in step.target.indices if isinstance(index, Index)}
    apart = tuple(axis for axis in step.over if axis.name in plain)
    read = dict.fromkeys(e for x in (step.value, *step.target.indices) for e in walk(x) if isinstance(e, Local))
    return StepText(
        "accumulate", "", value=print_scalar(step.value), target=loops.lvalue(step.target),
        over=loops.counters(tuple(axis for axis in step.over if axis not in apart)),
        features=unflatten(apart, "feature_at") if apart else (),
        extent=extent(apart) if apart else "1",
        reads=tuple((TYPE[local.kind], identifier(local.name)) for local in read),
    )  # fmt: skip


def results_of(kernel: TileKernel) -> tuple[ResultText, ...]:
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
                row=_stored_row(kernel, step.target, panel) if panel else None,
                apart=panel is not None and panel.side == "distance",
            )
        )
    return tuple(found)


def _stored_row(kernel: TileKernel, target: Target, panel: Panel) -> RowText | None:
    """The row of a result whose features fill units of 16 bytes."""
    unit = {"bf16": 8, "f16": 8, "f32": 4}.get(next(t.storage for t in kernel.tensors if t.name == target.tensor))
    return row_text(target, panel.features) if unit and width(panel) % unit == 0 else None


def recorded_of(kernel: TileKernel, split: Split) -> Recorded:
    """The split with what its parts keep of a row: all that results are made of."""
    record, number = Arrays(), NUMBER[kernel.arithmetic]
    for result in results_of(kernel):
        record.add("T", result.name, result.width, number)
        if result.reduce == "argmax":
            record.add("int64_t", f"{result.name}_at", 1, 8)
    if any(isinstance(step, OnlineSoftmax) for step in kernel.body):
        record.add("T", "row_shift", 1, number)
        record.add("T", "row_sum", 1, number)
        record.add("int32_t", "row_has_key", 1, 4)
    return Recorded(split, record.arrays, record.bytes)


def merged_context(
    kernel: TileKernel, results: tuple[ResultText, ...], softmax: object, form: str
) -> dict[str, object]:
    """What merges parts reads, of the context of these, but for what tells of the parts."""
    return {
        "row_extent": extent(kernel.rows),
        "batch": unflatten(kernel.batch, "batch_at") if kernel.batch else (),
        "row": unflatten(kernel.rows, "row_at"),
        "results": results,
        "softmax": softmax,
        "form": form,
    }


def launches(kernel: TileKernel, name: str, architecture: str, split: Split | None = None) -> tuple[Launch, ...]:
    """The kernel, of row results or accumulations alone, as a launch; that of a split as two."""
    elements = kernel.order == "elements"
    warps = 1 if elements else WARPS
    steps, results = steps_of(kernel), results_of(kernel)
    softmax = next((s for s in kernel.body if isinstance(s, OnlineSoftmax)), None)
    recorded = recorded_of(kernel, split) if split else None
    used = {x for s in steps for x in (s.row, s.column)} | {r.panel for r in results}
    panels = [
        PanelText(
            f"panel_{identifier(panel.name)}", panel.side, width(panel), unflatten(panel.features, "feature_at"),
            print_scalar(panel.value), printed(panel.exists),
        )
        for panel in kernel.panels
        if f"panel_{identifier(panel.name)}" in used
    ]  # fmt: skip
    kept = sorted({r.tile for r in results if not r.reduce})
    number = NUMBER[kernel.arithmetic]

    def shared_of(rows: int, held: list[PanelText]) -> Arrays:
        shared = Arrays()
        tokens = {"row": rows, "column": COLUMNS, "distance": rows + COLUMNS}
        for panel in held:
            shared.add("T", panel.name, tokens[panel.side] * (panel.width + 1), number)
        for tile in kept:
            shared.add("T", f"tile_{tile}", warps * COLUMNS, number)
        for result in results:
            shared.add("T", result.name, rows * result.width, number)
            if result.reduce == "argmax":
                shared.add("int64_t", f"{result.name}_at", rows, 8)
        if softmax is not None:
            for row_value in ("row_shift", "row_sum", "row_maximum"):
                shared.add("T", row_value, rows, number)
            shared.add("int32_t", "row_has_key", rows, 4)
        return shared

    most = most_shared(architecture)
    sides = [("row", "column", "distance"), ("row", "column"), ("row",), ()]  # whose panels are held
    choices = [(rows, [p for p in panels if p.side in side]) for side in sides for rows in ROWS]
    rows, held = next((choice for choice in choices if shared_of(*choice).bytes <= most), choices[-1])
    shared = shared_of(rows, held)
    chunks = CHUNKS if CHUNKS.name in kernel.sizes else tiles_of(kernel.rows, rows)
    summed = softmax and {
        **softmax_targets(softmax), "init": printed(softmax.init), "exp": "irc::exp", "to_natural": "",
    }  # fmt: skip
    in_mask = [] if kernel.support is None else list(walk(kernel.support))
    registers = GATHERING if scalars(kernel) >= GATHERS or reads_twice(in_mask) else REGISTERS
    text = rendered(
        "tile",
        name,
        kernel,
        shared=shared.arrays,
        ROWS=rows,
        COLUMNS=COLUMNS,
        WARPS=warps,
        registers=registers,
        elements=elements,
        chunks=print_scalar(chunks) if CHUNKS.name in kernel.sizes else "row_tiles",
        **walk_context(kernel),
        serial=loops.counters(kernel.serial),
        row_panels=[panel for panel in held if panel.side == "row"],
        column_panels=[panel for panel in held if panel.side != "row"],
        looked_up={panel.name: panel for panel in panels if panel not in held},
        steps=steps,
        results=results,
        kept=kept,
        softmax=summed,
        split=recorded,
    )
    tasks = op("mul", size(kernel.batch), chunks if elements else tiles_of(kernel.rows, rows))
    made = Launch(name, tasks, 1, 32 * warps, shared.bytes, text, registers)
    if recorded is None:
        return (made,)
    return cuda_split.launches(made, recorded, merged_context(kernel, results, summed, ""))
