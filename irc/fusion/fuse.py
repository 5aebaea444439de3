"""Graph to steps: tile kernels, matrix products, views, loops.

The law: no tensor with both a query and a key index reaches memory (but where the program's own argument has one, its
gradient does). Sums over tokens are gathered into tile kernels: all that share a frame and are ready together, and with
a logsumexp whatever only waits for its weights (those are computed online). Everything else is a step of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from irc.codegen.expr import Axis, Const, Index, Load, Op, indices, integer, op, walk
from irc.codegen.kernel import CHUNK, CHUNKS, Storage, Target
from irc.codegen.outside import LONG
from irc.codegen.positions import chunks_of, size
from irc.compiled import Fused, Precision
from irc.fusion.adding import added_up, apart
from irc.fusion.elements import (
    ElementSum,
    by_distances,
    by_pairs,
    element_sum,
    meeting,
    of_distances,
    updates_of,
)
from irc.fusion.steps import Steps
from irc.fusion.tile import Builder, Frame, NotFusible, finish, is_computed, is_few, is_product, tile_operands
from irc.fusion.turned import turned
from irc.graph.ir import (
    Graph,
    Input,
    Map,
    Node,
    Reduce,
    Scatter,
    Update,
    bodies,
    is_tile,
    operands,
    own_element,
    remainder_name,
    shape,
    whole,
)
from irc.passes.between import exactly
from irc.passes.gathers import gathered
from irc.passes.places import by_places
from irc.passes.products import of_tensors, operand, unconditional, without_absent
from irc.passes.remainder import weighs
from irc.passes.running import with_running
from irc.passes.simplify import factors, times_all
from irc.passes.split import split
from irc.runtime.plan import Plan, PlanTensor, SumChunks, View


def fuse(
    graph: Graph,
    precision: Precision,
    saved: tuple[str, ...] = (),
    known: Mapping[str, Storage] | None = None,
    host: bool = False,
) -> Fused:
    """The steps that compute the graph's outputs and the tensors named in `saved`, in an order that a later pass
    improves. `known` gives element types that are settled: of what an earlier program of steps made, for example.
    `host`: kernels are the host's, which may have sums of distances and of features."""
    narrow = precision.storage != precision.arithmetic
    rounded = [name for _, name in graph.outputs] if narrow else []
    graph, wide = exactly(graph)
    parts = split(graph, rounded, host)
    parts = apart(parts) if host else turned(parts)
    added = {node.name for node in added_up(parts).values()} if host else frozenset()
    parts = by_places(with_running(gathered(parts, added)))
    parts = without_absent(unconditional(of_tensors(parts)))
    return _Fuser(parts, precision, {**(known or {}), **wide}, host, saved=saved).run()


@dataclass
class _Fuser(Steps):
    saved: tuple[str, ...] = ()
    added: dict[str, Scatter] = field(default_factory=dict)  # sums over rows, by their names, that kernels add up there
    remainders: set[str] = field(default_factory=set)  # of the logsumexps that this run makes, those that it reads

    def run(self) -> Fused:
        graph = self.graph
        for given in graph.inputs:
            self.tensors[given.name] = PlanTensor(given.name, given.role, self.storage(given), given.shape)
        self.added = added_up(graph) if self.host else {}
        self.places = {view.result: view for n in graph if isinstance(n, Scatter) for view in self._parts(n)}
        pending: list[Node] = [n for n in graph if not isinstance(n, Input) and not self._virtual(n)]
        while pending:
            ready = [n for n in pending if self._ready(n, pending)]
            plain = [n for n in ready if not self.reads(n)]
            sums = [n for n in ready if isinstance(n, Reduce) and self._fusible(n)]
            scattered = [n for n in ready if isinstance(n, Scatter) and self.host]
            apart = {n: found for n in scattered if (found := of_distances(n, self.total(n), self.graph))}
            if plain:
                done: list[Node] = plain
                for node in plain:
                    self.plain(node)
            elif sums or apart:
                done = self._tiles(sums, apart, pending)
            elif ready:
                done = ready
                self._elements(ready)
            else:
                raise NotFusible(f"nothing is ready among {[n.name for n in pending]}")
            pending = [n for n in pending if all(n is not d for d in done)]
        saved = tuple(name for name in self.saved if name in self.tensors)  # not all have remainders
        plan = Plan(tuple(self.tensors.values()), tuple(self.steps), graph.outputs, saved)
        return Fused(plan, tuple(self.kernels))

    # which nodes are steps

    def _virtual(self, node: Node) -> bool:
        """A tile value that lives in kernels alone."""
        return is_tile(node) and node.name not in self.returned

    def _fusible(self, node: Reduce) -> bool:
        """Whether the node is a sum over tokens that a tile kernel makes as a whole; others are made pair by pair."""
        if not self.reads(node) or is_tile(node):
            return False
        frame = self.frame(node)
        return is_product(node, frame) or (self.host and is_computed(node, frame, self.graph))

    def _needs(self, node: Node) -> set[str]:
        """The tensors in memory that the node waits for, through the tile values that it reads."""
        return {name for name in self._reach(node) if not self._virtual(self.graph[name])}

    def _reach(self, node: Node) -> set[str]:
        """What the node reads, directly and through tile values."""
        found: set[str] = set()
        queue: list[Node] = [node]
        while queue:
            for name in operands(queue.pop()):
                if name not in found:
                    found.add(name)
                    if self._virtual(self.graph[name]):
                        queue.append(self.graph[name])
        return found

    def _tile_sums(self, node: Node) -> set[str]:
        """The tile values made by products of queries and keys that the node reads."""
        return {
            name for name in self._reach(node) if isinstance(self.graph[name], Reduce) and is_tile(self.graph[name])
        }

    def _takes_long(self, node: Node, frame: Frame) -> bool:
        """Whether a long function is made for each feature of a pair, to make the values that the node reads."""
        sides = [{a.name for a in side} for side in (frame.rows, frame.columns)]
        made = (e for name in self._tile_sums(node) for body in bodies(self.graph[name]) for e in walk(body))
        return any(isinstance(e, Op) and e.name in LONG and all(indices(e) & names for names in sides) for e in made)

    def _ready(self, node: Node, pending: list[Node]) -> bool:
        return not (self._needs(node) & {n.name for n in pending})

    def _parts(self, node: Scatter) -> tuple[View, ...]:
        """Where the tensors lie that the node only places side by side: views of it to be written, instead of copies.
        Empty where it does anything else."""
        parts = [self._part(node, u) for u in node.updates]
        numbers = [tuple(d for d in p.operand.dims if isinstance(d, int)) for p in parts if p is not None]
        at = [k for k, index in enumerate(node.updates[0].indices) if isinstance(index, Const)] if parts else []
        if None in parts or len(at) != 1 or len({p.result for p in parts if p is not None}) < len(parts):
            return ()
        filled = sorted(numbers) == [(k,) for k in range(len(parts))]
        return tuple(p for p in parts if p) if filled and node.shape[at[0]] == integer(len(parts)) else ()

    def _part(self, node: Scatter, update: Update) -> View | None:
        """The slice of the node that the update fills with a tensor which some kernel makes, as a view."""
        body = update.body
        if update.where is not None or not isinstance(body, Load) or body.tensor in self.returned:
            return None
        source = self.graph[body.tensor]
        names = tuple(i.name for i in body.indices if isinstance(i, Index))
        made = isinstance(source, Reduce) and self.reads(source) and self._fusible(source)
        if not made or self.storage(source) != self.storage(node) or len(names) != len(body.indices):
            return None
        axes = {a.name: a for a in update.over}
        part = operand(Load(node.name, update.indices), axes, self.graph)
        if part is None or sorted(names) != sorted(axes) or part.dims[-1:] != ((axes[names[-1]],),):
            return None
        return View(source.name, tuple(axes[n] for n in names), part)

    # kernels of tiles

    def _tiles(
        self, sums: list[Reduce], apart: Mapping[Scatter, tuple[ElementSum, ...]], pending: list[Node]
    ) -> list[Node]:
        """One kernel for the first ready sum over tokens, or of distances, and everything that can share it. Sums of
        distances of several cores under masks of their own have a kernel of each, and are added up after the last."""
        first = next((n for n in sums if n.op == "logsumexp"), next(iter(sums), None))
        left = [u for updates in apart.values() for u in updates if u.by_distance.tensor not in self.tensors]
        frame = self.frame(first) if first else left[0].frame
        group = [n for n in sums if self.frame(n) == frame and (n.op == "logsumexp") <= (n is first)]
        if any(n.op == "logsumexp" or n.over[0].role == "row" for n in group):
            running = first is not None and first.op == "logsumexp"
            joined = [] if running else [n for n in group if is_few(n, frame) or self._takes_long(n, frame)]
            group = [n for n in group if n.over[0].role == "row" or n in joined or is_product(n, frame)]
        beside = [u for u in left if u.frame == frame]
        online = None
        if first and first.op == "logsumexp":
            online, beside = self._online(first), []
            scores = self._tile_sums(first)  # those of another core have no place after this one's softmax
            same = [n for n in group if n.over[0].role == "column" and self._tile_sums(n) <= scores]
            waiting = [n for n in pending if isinstance(n, Reduce) and n is not first and self._fusible(n)]
            waiting = [n for n in waiting if is_product(n, self.frame(n))]
            later = {n.name for n in pending}
            joining = [n for n in waiting if online is not None and self._joins(n, first, online, later)]
            group = [n for n in dict.fromkeys([*same, *joining]) if self.frame(n) == frame]
        builder = Builder(self.graph, frame, remainders=self.remainders)
        maximum = None
        if first and first.op == "logsumexp":
            maximum = next((n for n in group if n.op == "max" and n.body == first.body), None)
            remainder = remainder_name(first.name)
            if self._weighs_later(first, [n for n in pending if n not in group]):
                self.remainders.add(first.name)
            is_made = remainder in self.saved or first.name in self.remainders
            if is_made:
                self.declare(remainder, shape(first), self.precision.arithmetic)
            builder.softmax(first, online or f"{first.name}.unused", maximum, remainder if is_made else None)
        added = [self.added[n.name] for n in group if n.name in self.added]
        serial = meeting((total.updates[0].indices for total in added), frame)
        owners = tuple(a for a in frame.batch if a not in serial)
        for node in group:
            if node is not maximum and node.op != "logsumexp":
                builder.sink(node, self._copies(node, owners))
        for each in beside:
            made = each.by_distance
            self.declare(made.tensor, made.shape, self.precision.arithmetic)
            builder.sum_of_distances(each.node, each.over, each.update.body, made.target)
        for node in group:
            if node.name not in self.added:
                self.declare(node.name, shape(node), self.storage(node))
        order = "columns" if any(n.over[0].role == "row" for n in group) else "rows"
        made_of: list[Node] = [*group, *dict.fromkeys(each.node for each in beside), *added]
        name = self.named("_".join(n.name for n in made_of))
        kinds = self.precision.arithmetic, self.precision.pairs
        self.call(finish(builder, name, order, self.arguments(), *kinds, self._lines(builder, made_of), serial))
        for total in added:
            self.tensors[total.name] = PlanTensor(total.name, "temporary", self.storage(total), shape(total))
            self.steps.append(SumChunks(total.name, f"{total.name}.chunks"))
        whole = [n for n, us in apart.items() if beside and all(u.by_distance.tensor in self.tensors for u in us)]
        for scattered in whole:
            self._added_up(scattered, by_distances(scattered, apart[scattered]))
        return [*group, *whole, *added]

    def _copies(self, node: Reduce, owners: tuple[Axis, ...]) -> Target | None:
        """Where the sum is added up, by chunks of what each point of the owners has, if it is."""
        total = self.added.get(node.name)
        if total is None:
            return None
        name = f"{total.name}.chunks"
        self.declare(name, (chunks_of(size(owners)), *shape(total)), self.precision.arithmetic, zero=True)
        return Target(name, (CHUNK, *total.updates[0].indices))

    def _added_up(self, node: Node, updates: Iterable[Update]) -> None:
        """A tensor of zeros and the updates, which read no tile."""
        total = self.total(node)
        self.declare(total, shape(node), self.precision.arithmetic, zero=True)
        for update in updates:
            self.loop_kernel(node, total, (self.update(total, update),), zero=False)
        self.rounded(node, total)

    def _lines(self, builder: Builder, group: Iterable[Node]) -> tuple[str, ...]:
        return self.source([*(self.graph[n] for n in sorted(builder.done) if n in self.graph.by_name), *group])

    def _online(self, lse: Reduce) -> str | None:
        """The tile value that is the weight, exp(score - lse), inside the same support."""
        for node in self.graph:
            same = isinstance(node, Map) and is_tile(node) and node.where == lse.where
            if same and isinstance(node, Map) and node.body == op("share", op("sub", lse.body, own_element(lse))):
                return node.name
        return None

    def _weighs_later(self, lse: Reduce, later: list[Node]) -> bool:
        """Whether nodes that are still to be made read weights of that logsumexp."""
        weights = {n.name for n in self.graph if is_tile(n) and any(weighs(e, lse.name) for e in bodies(n))}
        return any(weights & self._reach(n) for n in later)

    def _joins(self, node: Reduce, lse: Reduce, weight: str, later: set[str]) -> bool:
        """Whether a sum over keys waits for the logsumexp only through one factor that is the weight."""
        if node.op != "sum" or node.over != lse.over or node.where != lse.where:
            return False
        parts = factors(node.body)
        weights = [p for p in parts if isinstance(p, Load) and p.tensor == weight]
        rest = [p for p in parts if p not in weights]
        probe = Map(node.name, (), times_all(tuple(rest))) if rest else None
        waits = self._needs(probe) & later if probe else set()
        return len(weights) == 1 and not waits and not any(tile_operands((p,), self.graph) for p in rest)

    def _elements(self, nodes: list[Node]) -> None:
        """Sums into elements that depend on both sides, those over the same pairs in one kernel."""
        sums: list[ElementSum] = []
        totals: dict[Node, str] = {}
        for node in nodes:
            made = [element_sum(node, self.total(node), n, u, self.graph) for n, u in enumerate(updates_of(node))]
            if self.host and all(each.met_once for each in made):  # no sum: rounded as it is stored
                made = [replace(each, total=node.name) for each in made]
            total = totals[node] = made[0].total
            storage = self.storage(node) if total == node.name else self.precision.arithmetic
            self.declare(total, shape(node), storage, zero=not all(map(self._is_stored, made)))
            for each in made:
                if tile_operands((each.update.body,), self.graph):
                    sums.append(each)
                else:
                    self.loop_kernel(node, total, (self.update(total, each.update),), zero=False)
        for group in by_pairs(sums):
            self._element_kernel(group)
        for node, total in totals.items():
            self.rounded(node, total)

    def _is_stored(self, each: ElementSum) -> bool:
        """Whether a kernel stores all elements of the sum, and so none need be cleared."""
        tiled = bool(tile_operands((each.update.body,), self.graph))
        return self.host and tiled and each.of_pairs and each.frame.support is None

    def _element_kernel(self, group: tuple[ElementSum, ...]) -> None:
        builder = Builder(self.graph, group[0].frame, apart=False, remainders=self.remainders)
        for each in group:
            target, at = each.total, each.update.indices
            if each.private:
                target, at = each.copies, (CHUNK, *at)
                self.declare(target, (CHUNKS, *shape(each.node)), self.precision.arithmetic, zero=True)
            builder.accumulate(target, each.over, at, each.update.body, self._is_stored(each))
        name = self.named("_".join(dict.fromkeys(each.total for each in group)))
        serial = meeting((each.update.indices for each in group), builder.frame)
        lines = self._lines(builder, [each.node for each in group])
        kinds = self.precision.arithmetic, self.precision.pairs
        self.call(finish(builder, name, "elements", self.arguments(), *kinds, lines, serial))
        for each in group:
            if each.private:
                self._add_chunks(each)

    def _add_chunks(self, each: ElementSum) -> None:
        partial, dims = f"{each.total}.part{each.number}", shape(each.node)
        self.tensors[partial] = PlanTensor(partial, "temporary", self.precision.arithmetic, dims)
        self.steps.append(SumChunks(partial, each.copies))
        self.loop_kernel(each.node, each.total, (self.update(each.total, whole(partial, dims)),), zero=False)
