"""Tile kernels from the graph: the tile values that some sums over tokens need, and the order to compute them in."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Literal

from irc.codegen.expr import Axis, Expr, Load, Local, Size, indices, loads, op, rebuild, substitute, walk
from irc.codegen.kernel import (
    CHUNKS,
    Accumulate,
    Arithmetic,
    ColumnProduct,
    ColumnReduce,
    ColumnSums,
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
    Tensor,
    TileKernel,
    TileOp,
    Value,
    is_expression,
    pieces,
)
from irc.codegen.positions import points
from irc.graph.ir import Graph, Map, Node, Reduce, is_tile, own_element, position
from irc.mask.analyse import analyse
from irc.mask.assumed import bounds
from irc.passes.distances import distance_tables, exists, of_distance
from irc.passes.remainder import exact
from irc.passes.simplify import factors, times_all

FEATURES = 256  # at most, of sums of what is computed of each pair
ACROSS = 16  # at most, where a kernel's lanes are what is summed: more would cost what making most tiles anew does


class NotFusible(Exception):
    """A sum over tokens that no tile kernel can hold; names the node and says why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The indices of a core's tiles and the pairs that exist."""

    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    support: Expr | None


def tile_operands(node_bodies: tuple[Expr, ...], graph: Graph) -> tuple[str, ...]:
    """Names of the tile values that the expressions read, directly."""
    names = dict.fromkeys(load.tensor for e in node_bodies for load in loads(e))
    return tuple(n for n in names if is_tile(graph[n]))


def frame_of(axes: tuple[Axis, ...], body: Expr, where: Expr | None, graph: Graph) -> Frame:
    """The frame of a sum over tokens: the axes of the tile values that it reads, each of which may lack some."""
    read = [n for name in tile_operands((body,), graph) if isinstance(n := graph[name], Map | Reduce)]
    batch = tuple(dict.fromkeys(a for node in read for a in node.axes if not a.role))
    sides = read[0].axes if read else axes
    return Frame(
        batch, tuple(a for a in sides if a.role == "row"), tuple(a for a in sides if a.role == "column"), where
    )


def parted(node: Reduce, frame: Frame) -> tuple[tuple[Axis, ...], tuple[Expr, ...], tuple[Expr, ...]]:
    """The features of a sum over tokens, the factors that depend on them, and the others."""
    features = tuple(a for a in node.axes if not a.role and a not in frame.batch)
    return features, *by_features(node.body, features)


def by_features(body: Expr, features: tuple[Axis, ...]) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    """The factors that read the features, and the others."""
    wanted, parts = {a.name for a in features}, factors(body)
    return tuple(p for p in parts if wanted & indices(p)), tuple(p for p in parts if not wanted & indices(p))


def is_product(node: Reduce, frame: Frame) -> bool:
    """Whether a sum over tokens is one number a token, or a tile value times a matrix of the side that is summed, or of
    distances."""
    features, inside, outside = parted(node, frame)
    if not features:
        return True
    if node.op != "sum" or not inside or not outside:
        return False
    kept = "row" if node.over[0].role == "column" else "column"
    other = {a.name for a in (frame.rows if kept == "row" else frame.columns)}
    if not any(other & indices(p) for p in inside):
        return True
    constant = points(features) is not None
    return constant and of_distance(times_all(inside), frame.rows, frame.columns) is not None


def is_computed(node: Reduce, frame: Frame, graph: Graph) -> bool:
    """Whether a sum over the tokens of one side is one of a few numbers that are computed of each pair, none of them
    looked up by the pair, but by its distance: gradients of what a bias is computed with."""
    features = parted(node, frame)[0]
    sides = [{a.name for a in side} for side in (frame.rows, frame.columns)]
    tables = distance_tables(graph)
    read = [indices(e) for e in loads(node.body) if not is_tile(graph[e.tensor]) and e.tensor not in tables]
    number = points(features)
    few = number is not None and number <= FEATURES
    return node.op == "sum" and few and not any(all(names & side for side in sides) for names in read)


def is_few(node: Reduce, frame: Frame) -> bool:
    """Whether sums of what is computed of each pair may be made beside those over the other side's tokens."""
    number = points(parted(node, frame)[0])
    return number is not None and number <= ACROSS


@dataclass
class Builder:
    """Collects panels and operations of one kernel; `apart`: of one that may have panels of distances;
    `remainders`: the logsumexps that are read with theirs."""

    graph: Graph
    frame: Frame
    apart: bool = True
    remainders: Container[str] = ()
    panels: dict[str, Panel] = field(default_factory=dict)
    body: list[TileOp] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def row_names(self) -> frozenset[str]:
        return frozenset(a.name for a in self.frame.rows)

    @property
    def column_names(self) -> frozenset[str]:
        return frozenset(a.name for a in self.frame.columns)

    def name(self, tensor: str) -> str:
        """A tile value's name inside the kernel: letters, digits and single underscores."""
        if tensor not in self.names:
            base = tensor.replace(".", "_")
            self.names[tensor] = base if base not in self.names.values() else f"{base}{len(self.names)}"
        return self.names[tensor]

    def local(self, expr: Expr) -> Expr:
        """Tile values read at their own indices become locals of the kernel."""

        def swap(e: Expr) -> Expr | None:
            if isinstance(e, Load) and is_tile(node := self.graph[e.tensor]):
                assert isinstance(node, Map | Reduce)
                if e != own_element(node):
                    raise NotFusible(f"tile value {e.tensor} is read at indices other than its own")
                return Local(self.name(e.tensor))
            return None

        return exact(rebuild(expr, swap), self.remainders)

    def need(self, *exprs: Expr) -> None:
        """Compute the tile values that the expressions read, and what those read."""
        for name in tile_operands(exprs, self.graph):
            if name not in self.done:
                self.done.add(name)
                node = self.graph[name]
                assert isinstance(node, Map | Reduce)
                self._define(node)

    def _named_apart(self, node: Reduce) -> Reduce:
        """The sum over features with names that no index of the frame has, for each of whose points it is made."""
        taken = {a.name for a in (*self.frame.batch, *self.frame.rows, *self.frame.columns)}
        names = {a: replace(a, name=f"{a.name}.summed") for a in node.over if a.name in taken}
        body = substitute(node.body, {a.index: b.index for a, b in names.items()})
        return replace(node, over=tuple(names.get(a, a) for a in node.over), body=body)

    def _define(self, node: Map | Reduce) -> None:
        masked = node.where is not None
        self.need(node.body)
        if isinstance(node, Map):
            self.body.append(Value(self.name(node.name), self.local(node.body), masked))
            return
        if node.op != "sum" or any(a.role for a in node.over):
            raise NotFusible(f"{node.name} is no sum over features")
        pairs = [self.graph[name] for name in tile_operands((node.body,), self.graph)]
        if any(set(node.over) & set(n.axes) for n in pairs if isinstance(n, Map | Reduce)):
            names = ", ".join(a.name for a in node.over)
            raise NotFusible(f"{node.name} sums over {names} what is made of each pair")
        node = self._named_apart(node)
        if self._of_the_pair(node, masked):
            return
        row, column, rest = self._sides(factors(node.body), node.over)
        if row is not None and column is not None and not rest:
            self.body.append(
                Dot(self.name(node.name), self.panel("row", node.over, row), self.panel("column", node.over, column))
            )
        elif (panels := self._with_distances(node)) is None:
            self.body.append(InnerSum(self.name(node.name), node.over, self.local(node.body), masked))
        elif masked:
            name = self.name(f"{node.name}.all")
            self.body += [Dot(name, *panels), Value(self.name(node.name), Local(name), masked)]
        else:
            self.body.append(Dot(self.name(node.name), *panels))

    def _of_the_pair(self, node: Reduce, masked: bool) -> bool:
        """Whether the sum has factors that it need not enter, of a pair, and has been added as their product with the
        rest's."""
        summed = {a.name for a in node.over}
        outside = tuple(p for p in factors(node.body) if not summed & indices(p) and self._is_of_pairs(p))
        rest = tuple(p for p in factors(node.body) if p not in outside)
        if not outside or not rest:
            return False
        part = replace(node, name=f"{node.name}.part", body=times_all(rest), where=None)
        self._define(part)
        product = op("mul", self.local(times_all(outside)), Local(self.name(part.name)))
        self.body.append(Value(self.name(node.name), product, masked))
        return True

    def _is_of_pairs(self, expr: Expr) -> bool:
        return all(indices(expr) & side for side in (self.row_names, self.column_names))

    def _with_distances(self, node: Reduce) -> tuple[str, str] | None:
        """The panels of a sum over features as a dot with what pairs choose by their distance, if it is one."""
        chosen = tuple(p for p in factors(node.body) if self._is_of_pairs(p))
        near = tuple(p for p in factors(node.body) if p not in chosen)
        if not self.apart or not chosen or not near or points(node.over) is None:
            return None
        operand, value = times_all(near), self._of_distance(chosen)
        if value is None or self._is_of_pairs(operand):
            return None
        if not {a.name for a in node.over} <= indices(operand) & indices(value):
            return None
        panel = self.panel("distance", node.over, value)
        if indices(operand) & self.column_names:
            return panel, self.panel("column", node.over, operand)
        return self.panel("row", node.over, operand), panel

    def _of_distance(self, parts: tuple[Expr, ...]) -> Expr | None:
        return of_distance(times_all(parts), self.frame.rows, self.frame.columns)

    def _sides(
        self, parts: tuple[Expr, ...], over: tuple[Axis, ...]
    ) -> tuple[Expr | None, Expr | None, set[Expr | None]]:
        """The factors of the query side, of the key side, and whatever belongs to neither."""
        summed = {a.name for a in over}
        row: list[Expr] = []
        column: list[Expr] = []
        rest: set[Expr | None] = set()
        for part in parts:
            read = indices(part)
            if read & self.row_names and read & self.column_names:
                rest.add(part)
            elif read & self.column_names:
                column.append(part)
            else:
                row.append(part)
        if not all(summed <= frozenset().union(*(indices(p) for p in side), frozenset()) for side in (row, column)):
            return None, None, rest
        return times_all(tuple(row)), times_all(tuple(column)), rest

    def panel(self, side: Literal["row", "column", "distance"], features: tuple[Axis, ...], value: Expr) -> str:
        """The name of the panel with this value, made if it is new."""
        for panel in self.panels.values():
            if (panel.side, panel.features, panel.value) == (side, features, value):
                return panel.name
        name = f"{side}{len(self.panels)}"
        self.panels[name] = Panel(
            name, side, features, value, exists(value, self.graph) if side == "distance" else None
        )
        return name

    def sink(self, node: Reduce, into: Target | None = None) -> None:
        """Add a sum (or maximum) over the tokens of one side; `into`: a sum over rows, added there."""
        by_row = node.over[0].role == "column"
        target, added = into or Target(node.name, position(node.axes, node.groups)), into is not None
        features, inside, outside = parted(node, self.frame)
        if not features:
            tile = self._tile(node, factors(node.body), whole=node.body)
            if node.op == "argmax":
                self.body.append(RowReduce("argmax", tile, target))
            else:
                kind = RowReduce if by_row else ColumnReduce
                self.body.append(kind("max" if node.op == "max" else "sum", tile, target, added))
            return
        if not is_product(node, self.frame):
            self.need(node.body)
            self.body.append((RowSums if by_row else ColumnSums)(features, self.local(node.body), target))
            return
        tile = self._tile(node, outside, whole=times_all(outside))
        other = self.row_names if by_row else self.column_names
        apart = self._of_distance(inside) if any(other & indices(p) for p in inside) else None
        if apart is not None:
            panel = self.panel("distance", features, apart)
        else:
            panel = self.panel("column" if by_row else "row", features, times_all(inside))
        self.body.append((RowProduct if by_row else ColumnProduct)(tile, panel, target, added))

    def sum_of_distances(self, node: Node, features: tuple[Axis, ...], body: Expr, target: Target) -> None:
        """Add sums over the pairs of each distance, of a value of the pair, or of one times a matrix of one side."""
        if not features:
            self.body.append(DistanceReduce(self._tile(node, factors(body), whole=body), target))
            return
        inside, outside = by_features(body, features)
        tile = self._tile(node, outside, whole=times_all(outside))
        side: Side = "column" if any(self.column_names & indices(p) for p in inside) else "row"
        self.body.append(DistanceProduct(tile, self.panel(side, features, times_all(inside)), target))

    def _tile(self, node: Node, parts: tuple[Expr, ...], whole: Expr) -> str:
        """The name of the tile value that is the product of the parts."""
        self.need(whole)
        if len(parts) == 1 and isinstance(parts[0], Load) and is_tile(read := self.graph[parts[0].tensor]):
            where = getattr(read, "where", None)
            maximum = isinstance(node, Reduce) and node.op in ("max", "argmax")
            if maximum or self.frame.support is None or where == self.frame.support:
                return self.name(read.name)
        for earlier in self.body:
            if isinstance(earlier, Value) and earlier.value == self.local(whole) and earlier.masked:
                return earlier.name
        name = self.name(f"{node.name}.tile")
        self.body.append(Value(name, self.local(whole), self.frame.support is not None))
        return name

    def softmax(self, node: Reduce, weight: str, maximum: Reduce | None, remainder: str | None) -> None:
        """Add the running softmax whose logsumexp the node is; `remainder` names the tensor of what it leaves out."""
        self.need(node.body)
        self.done.add(weight)
        at = position(node.axes, node.groups)
        lse, rest = Target(node.name, at), Target(remainder, at) if remainder else None
        most = Target(maximum.name, position(maximum.axes, maximum.groups)) if maximum else None
        self.body.append(OnlineSoftmax(self.local(node.body), self.name(weight), node.init, lse, most, rest))

    def accumulate(
        self, name: str, over: tuple[Axis, ...], at: tuple[Expr, ...], body: Expr, stored: bool = False
    ) -> None:
        """Add a sum into elements that depend on both sides."""
        self.need(body)
        self.body.append(Accumulate(over, self.local(body), Target(name, at), stored))


def finish(
    builder: Builder,
    name: str,
    order: str,
    tensors: dict[str, Tensor],
    arithmetic: Arithmetic,
    pairs: bool,
    source: tuple[str, ...],
    serial: tuple[Axis, ...] = (),
) -> TileKernel:
    """The kernel of what was collected; `tensors` declares everything that it may read or write."""
    frame = builder.frame
    mask = None
    if frame.support is not None:
        walked: Side = "row" if order == "columns" else "column"
        mask = analyse(frame.support, frame.rows, frame.columns, walked, builder.graph.facts)
    kernel = TileKernel(
        name=name,
        order="rows" if order == "rows" else "columns" if order == "columns" else "elements",
        tensors=(),
        sizes=(),
        batch=tuple(a for a in frame.batch if a not in serial),
        serial=serial,
        rows=frame.rows,
        columns=frame.columns,
        panels=tuple(builder.panels.values()),
        body=tuple(builder.body),
        support=frame.support,
        verdict=mask.verdict if mask else None,
        arithmetic=arithmetic,
        spans=mask.spans if mask else None,
        across=mask.across if mask else None,
        summaries=mask.summaries if mask else (),
        searches=mask.searches if mask else (),
        cuts=mask.cuts if mask else (),
        bounds=bounds(builder.graph.facts),
        pairs=pairs,
        source=source,
    )
    read, written, sizes = mentioned(kernel)
    if order == "elements" or any(
        isinstance(step, ColumnProduct | ColumnReduce) and step.added for step in kernel.body
    ):
        sizes = sorted({*sizes, CHUNKS.name})
    declared = tuple(replace(tensors[n], written=n in written) for n in sorted(read | written))
    return replace(kernel, tensors=declared, sizes=tuple(sizes))


def mentioned(obj: object) -> tuple[set[str], set[str], list[str]]:
    """Tensors read, tensors written, and sizes that stand anywhere in kernel data."""
    read: set[str] = set()
    written: set[str] = set()
    sizes: set[str] = set()
    for piece in pieces(obj):
        if isinstance(piece, Target):
            written.add(piece.tensor)
        for e in walk(piece) if is_expression(piece) else ():
            if isinstance(e, Load):
                read.add(e.tensor)
            elif isinstance(e, Size):
                sizes.add(e.name)
    return read, written, sorted(sizes)
