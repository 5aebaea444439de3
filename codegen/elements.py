"""What the template of a TileKernel of order "elements" sees: panels, tile values and accumulations, printed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from irc.codegen.cpu import prologue
from irc.codegen.expr import Axis, Const, Expr
from irc.codegen.kernel import Accumulate, Dot, InnerSum, Panel, TileKernel, Value
from irc.codegen.loops import Counter, counters, lvalue
from irc.codegen.masks import mask_context
from irc.codegen.outside import Constant, Outside
from irc.codegen.positions import extent, unflatten
from irc.codegen.printer import identifier, print_scalar
from irc.codegen.segments import Lookups

ROW_TILE = 32
COLUMN_TILE = 64


@dataclass(frozen=True, slots=True)
class PackedPanel:
    name: str
    width: int
    features: tuple[Counter, ...]
    value: str


@dataclass(frozen=True, slots=True)
class PackedDot:
    name: str
    row: str
    column: str
    width: int


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the innermost body. kind: "dot", "value", "sum" or "accumulate"; the last has a target, an lvalue."""

    kind: str
    name: str
    over: tuple[Counter, ...]
    value: str
    target: str


def _width(panel: Panel) -> int:
    width = 1
    for axis in panel.features:
        if not isinstance(axis.size, Const):
            raise ValueError(f"elements: feature {axis.name} of panel {panel.name} has no constant size")
        width *= int(axis.size.value)
    return width


def _pack(panel: Panel) -> PackedPanel:
    return PackedPanel(identifier(panel.name), _width(panel), counters(panel.features), print_scalar(panel.value))


class _Pairs:
    """Prints what is evaluated of pairs, with names for the segments of their two sides and for what takes long and is
    known outside of a loop."""

    def __init__(self, kernel: TileKernel) -> None:
        fixed = (*kernel.batch, *kernel.serial)
        self.rows = Lookups((*fixed, *kernel.rows), "row.segment")
        self.columns = Lookups((*fixed, *kernel.columns), "column.segment")
        self.outside = Outside((*fixed, *kernel.rows, *kernel.columns), len(fixed))
        self.task, self.row = len(fixed), len(fixed) + len(kernel.rows)
        self.pair = self.row + len(kernel.columns)

    def step(self, item: Dot | Value | InnerSum | Accumulate) -> Step:
        match item:
            case Dot(name, _, _):
                return Step("dot", identifier(name), (), "", "")
            case Value(name, value, _):
                return Step("value", identifier(name), (), self.printed(value), "")
            case InnerSum(name, over, value, _):
                return Step("sum", identifier(name), counters(over), self.printed(value, over), "")
            case Accumulate(over, value, target):
                target = self.columns.target(self.rows.target(target))
                return Step("accumulate", "", counters(over), self.printed(value, over), lvalue(target))

    def printed(self, expr: Expr, over: tuple[Axis, ...] = ()) -> str:
        expr = self.columns.replaced(self.rows.replaced(expr))
        return print_scalar(self.outside.replaced(expr, self.pair + len(over)))

    def known(self, after: int, until: int) -> tuple[Constant, ...]:
        """What is computed inside of more loops than `after`, in up to `until`."""
        return tuple(chain.from_iterable(self.outside.constants(depth) for depth in range(after + 1, until + 1)))


def context(kernel: TileKernel) -> dict[str, object]:
    panels = {panel.name: panel for panel in kernel.panels}
    steps: list[Dot | Value | InnerSum | Accumulate] = []
    for item in kernel.body:
        if not isinstance(item, Dot | Value | InnerSum | Accumulate):
            raise ValueError(f"elements: {type(item).__name__} in kernel {kernel.name} belongs to another order")
        steps.append(item)
    dots = [item for item in steps if isinstance(item, Dot)]
    used = {name for dot in dots for name in (dot.row, dot.column)}
    pairs = _Pairs(kernel)
    printed = [pairs.step(item) for item in steps]
    support = None if kernel.support is None else pairs.printed(kernel.support)
    return {
        **mask_context(kernel),
        "kernel": kernel,
        "prologue": prologue(kernel),
        "row_tile": ROW_TILE,
        "column_tile": COLUMN_TILE,
        "batch": counters(kernel.batch),
        "serial": counters(kernel.serial),
        "row_extent": extent(kernel.rows),
        "column_extent": extent(kernel.columns),
        "row_indices": unflatten(kernel.rows, "row"),
        "column_indices": unflatten(kernel.columns, "column"),
        "chunks": "size_chunks" if "chunks" in kernel.sizes else "row_tiles",
        "row_panels": [_pack(p) for p in kernel.panels if p.side == "row" and p.name in used],
        "column_panels": [_pack(p) for p in kernel.panels if p.side == "column" and p.name in used],
        "dots": [
            PackedDot(identifier(d.name), identifier(d.row), identifier(d.column), _width(panels[d.row])) for d in dots
        ],
        "steps": printed,
        "support": support,
        "row_segments": pairs.rows.texts,
        "column_segments": pairs.columns.texts,
        "constants": pairs.known(-1, 0),
        "constants_of_task": pairs.known(0, pairs.task),
        "constants_of_row": pairs.known(pairs.task, pairs.row),
        "constants_of_pair": pairs.known(pairs.row, pairs.pair),
    }
