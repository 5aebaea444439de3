"""The steps of a plan as they are made: what tensors are declared, which kernels are called; and those steps that make
no kernel of tiles: views, matrix products and loops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count

from irc.codegen.expr import Expr, Kind, Load, indices
from irc.codegen.kernel import Kernel, Loop, LoopKernel, Storage, Target, Tensor, TileKernel
from irc.codegen.loops import meet
from irc.compiled import Precision
from irc.fusion.elements import plain_names, updates_of
from irc.fusion.tile import Frame, frame_of, mentioned
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, Update, is_tile, kind, position, shape, whole
from irc.passes.distances import distance_tables
from irc.passes.products import matrix_product, operand
from irc.passes.running import running
from irc.passes.split import reads_tiles
from irc.passes.unclamped import unclamped
from irc.runtime.plan import Allocate, Call, PlanTensor, Step, View


@dataclass
class Steps:
    """Of a graph. `known`: element types that are settled; `host`: whether kernels are the host's; `places`: tensors
    that are made inside of another."""

    graph: Graph
    precision: Precision
    known: Mapping[str, Storage]
    host: bool
    tensors: dict[str, PlanTensor] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    places: dict[str, View] = field(default_factory=dict)

    @property
    def returned(self) -> set[str]:
        return {name for _, name in self.graph.outputs}

    def reads(self, node: Node) -> bool:
        """Whether it reads a tile value, or is one."""
        return reads_tiles(node, self.graph) or is_tile(node)

    def frame(self, node: Reduce) -> Frame:
        return frame_of(node.axes + node.over, node.body, node.where, self.graph)

    # declarations

    def storage(self, node: Node) -> Storage:
        """Arguments and results have the program's element type; statistics and what stays inside the arithmetic's."""
        if kind(node) is Kind.INT:
            return dict(self.precision.integers).get(node.name, "i32")
        if kind(node) is Kind.BOOL:
            return "bool"
        if node.name in self.known:
            return self.known[node.name]
        if isinstance(node, Input):
            return self.precision.arithmetic if node.role == "scalar" else self.precision.storage
        if node.name in self.returned and not self._statistic(node):
            return self.precision.storage
        return self.precision.arithmetic

    def _statistic(self, node: Node) -> bool:
        """Whether the node is one number a token."""
        if not isinstance(node, Reduce) or not self.reads(node):
            return False
        frame = self.frame(node)
        return {a.name for a in node.axes} <= {a.name for a in (*frame.batch, *frame.rows, *frame.columns)}

    def declare(self, name: str, dims: tuple[Expr, ...], storage: Storage, zero: bool = False) -> None:
        self.tensors[name] = PlanTensor(name, "temporary", storage, dims)
        place = self.places.get(name)
        if place is None:
            self.steps.append(Allocate(name, zero))
            return
        whole = self.graph[place.operand.tensor]
        if whole.name not in self.tensors:
            self.declare(whole.name, shape(whole), self.storage(whole))
        self.steps.append(place)

    def arguments(self) -> dict[str, Tensor]:
        return {t.name: Tensor(t.name, t.storage, len(t.shape)) for t in self.tensors.values()}

    def source(self, nodes: Iterable[Node]) -> tuple[str, ...]:
        """The spec's lines that the nodes come from."""
        lines = (n.span.source.line(n.span.line).strip() for n in nodes if n.span is not None)
        return tuple(dict.fromkeys(lines))

    def named(self, what: str) -> str:
        """A new kernel's name, fit for C: the program's, then what it makes."""
        base = re.sub(r"[^A-Za-z0-9_]", "_", f"{self.graph.name}_{what}")
        taken = {k.name for k in self.kernels}
        return next(n for n in chain((base,), (f"{base}_{k}" for k in count(2))) if n not in taken)

    def call(self, kernel: Kernel) -> None:
        if self.host and isinstance(kernel, TileKernel):
            kernel = replace(kernel, distance_tables=distance_tables(self.graph))
        self.kernels.append(kernel)
        self.steps.append(Call(kernel.name))

    # steps without tiles

    def plain(self, node: Node) -> None:
        match node:
            case Scatter() if any(view.operand.tensor == node.name for view in self.places.values()):
                pass  # its parts were made in place
            case Map() if (view := self._view(node)) is not None:
                self.tensors[node.name] = PlanTensor(node.name, "temporary", self._viewed(view), shape(node))
                self.steps.append(view)
            case Reduce() if (step := matrix_product(node, self.graph, self.precision.pairs)) is not None:
                self.tensors[node.name] = PlanTensor(node.name, "temporary", self.storage(node), shape(node))
                self.steps.append(step)
            case _:
                self._loops(node)

    def _viewed(self, view: View) -> Storage:
        return self.tensors[view.operand.tensor].storage

    def _view(self, node: Map) -> View | None:
        if not isinstance(node.body, Load) or node.where is not None or node.name in self.returned or node.groups:
            return None
        axes = {a.name: a for a in node.axes}
        read = operand(node.body, axes, self.graph) if set(indices(node.body)) == set(axes) else None
        if read is None or kind(node) is not Kind.FLOAT or self._rounds(node, self.graph[node.body.tensor]):
            return None
        last = read.dims[-1] if read.dims else 0
        if not isinstance(last, tuple) or not last or last[-1] != node.axes[-1]:  # the last axis must stay contiguous
            return None
        return View(node.name, node.axes, read)

    def _rounds(self, node: Node, source: Node) -> bool:
        """Whether the node has fewer bits than what sums keep in double."""
        return self.known.get(source.name) == "f64" != self.storage(node)

    def _loops(self, node: Node) -> None:
        final = self.storage(node)
        target = node.name
        found = running(node, self.graph)
        if isinstance(node, Scatter) or found is not None:  # made in the arithmetic's type and rounded once
            through = final not in (self.precision.arithmetic, "f64") and kind(node) is Kind.FLOAT
            if through:
                target = f"{node.name}.sum"
            self.declare(target, shape(node), self.precision.arithmetic if through else final)
            updates = (self.update(target, u) for u in updates_of(node))
            loops = (found.loop(target, self.host),) if found else tuple(updates)
            self.loop_kernel(node, target, loops, zero=found is None)
            if through:
                self.round(node.name, target, shape(node), final)
            return
        assert isinstance(node, Map | Reduce)
        self.declare(target, shape(node), final)
        at = Target(target, position(node.axes, node.groups))
        free = tuple(a.name for a in node.axes)
        if isinstance(node, Map):
            loop = Loop(node.axes, (), "", node.body, node.where, None, at, False, free)
        else:
            loop = Loop(node.axes, node.over, node.op, node.body, node.where, node.init, at, False, free)
        self.loop_kernel(node, target, (loop,), zero=False)

    def update(self, target: str, u: Update) -> Loop:
        """Points that differ in an index which is a dimension by itself never meet."""
        plain = plain_names(u.indices)
        free = tuple(a.name for a in u.over if a.name in plain)
        return Loop(u.over, (), "", u.body, u.where, None, Target(target, u.indices), True, free)

    def loop_kernel(self, node: Node, name: str, loops: tuple[Loop, ...], zero: bool) -> None:
        if self.host:
            loops = tuple(replace(loop, body=unclamped(loop.body, loop.where)) for loop in loops)
        read, written, sizes = mentioned(loops)
        if zero:
            written.add(name)
            sizes = sorted({*sizes, *mentioned(self.tensors[name].shape)[2]})
        table = self.arguments()
        for owned in {loop.target.tensor for loop in loops if not self.host and meet(loop)}:
            table[owned] = replace(table[owned], shape=self.tensors[owned].shape)
            sizes = sorted({*sizes, *mentioned(self.tensors[owned].shape)[2]})
        declared = tuple(replace(table[n], written=n in written) for n in sorted(read | written))
        arithmetic = "f64" if any(t.storage == "f64" for t in declared) else self.precision.arithmetic
        kernel = LoopKernel(
            name=self.named(name), tensors=declared, sizes=tuple(sizes), loops=loops, zero=None,
            arithmetic=arithmetic, source=self.source([node]),
        )  # fmt: skip
        if zero:
            self.steps[-1] = Allocate(name, zero=True)
        if loops:
            self.call(kernel)

    def round(self, name: str, source: str, dims: tuple[Expr, ...], storage: Storage) -> None:
        """name = source in another element type."""
        self.declare(name, dims, storage)
        copy = whole(source, dims)
        free = tuple(a.name for a in copy.over)
        loop = Loop(copy.over, (), "", copy.body, None, None, Target(name, copy.indices), False, free)
        self.loop_kernel(Scatter(name, dims, ()), name, (loop,), zero=False)

    def total(self, node: Node) -> str:
        """What the node's sums are made in: the arithmetic's type."""
        return f"{node.name}.sum" if self.storage(node) != self.precision.arithmetic else node.name

    def rounded(self, node: Node, total: str) -> None:
        if total != node.name:
            self.round(node.name, total, shape(node), self.storage(node))
