"""The order of a plan's steps, and how long each tensor lives.

A step that frees as much as it makes runs at once, any other as late as the next tile kernel allows: projections are
made when their kernel is due, and what the kernel does not read is finished and gone by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from irc.codegen.expr import Size, integer, walk
from irc.codegen.kernel import BYTES, Kernel, TileKernel
from irc.graph.ir import product
from irc.graph.size import evaluate
from irc.runtime.plan import Allocate, Call, Plan, PlanTensor, Product, Release, Step, SumChunks, View

TYPICAL = 1024  # what an open size counts as where two tensors are compared

Kernels = Mapping[str, Kernel]


def reads(step: Step, kernels: Kernels) -> frozenset[str]:
    """Tensors whose content the step needs; what a kernel writes too, since a sum may add to what is there."""
    match step:
        case Call(name):
            return frozenset(t.name for t in kernels[name].tensors)
        case Product(_, _, _, left, right):
            return frozenset((left.tensor, right.tensor))
        case View(_, _, operand):
            return frozenset((operand.tensor,))
        case SumChunks(_, source):
            return frozenset((source,))
        case Allocate() | Release():
            return frozenset()


def writes(step: Step, kernels: Kernels) -> frozenset[str]:
    """Tensors that the step makes or fills."""
    match step:
        case Call(name):
            return frozenset(t.name for t in kernels[name].tensors if t.written)
        case Product(result) | View(result) | SumChunks(result):
            return frozenset((result,))
        case Allocate(tensor):
            return frozenset((tensor,))
        case Release():
            return frozenset()


def owners(steps: Iterable[Step]) -> dict[str, str]:
    """For each view, the tensor whose memory it shows."""
    owner: dict[str, str] = {}
    for step in steps:
        if isinstance(step, View):
            owner[step.result] = owner.get(step.operand.tensor, step.operand.tensor)
    return owner


def released(steps: Sequence[Step], kernels: Kernels, lasting: Collection[str]) -> tuple[Step, ...]:
    """The steps, with each tensor released after its last use, and not before its views. `lasting` ones stay."""
    owner = owners(steps)
    stay = {owner.get(n, n) for n in lasting}
    last: dict[str, int] = {}
    for number, step in enumerate(steps):
        for name in reads(step, kernels) | writes(step, kernels):
            last[name] = last[owner.get(name, name)] = number
    out: list[Step] = []
    for number, step in enumerate(steps):
        out.append(step)
        ended = sorted((n for n, at in last.items() if at == number), key=lambda n: (n not in owner, n))
        out.extend(Release(n) for n in ended if n not in lasting and (n in owner or n not in stay))
    return tuple(out)


def ordered(plan: Plan, kernels: Kernels, lasting: Collection[str]) -> tuple[Step, ...]:
    """The plan's steps in another order of the same meaning, which keeps less at a time."""
    return _Order(plan, kernels, lasting).run()


@dataclass(frozen=True)
class _Unit:
    """A step, and what makes room for its results; names of the memory that it reads, fills, and makes."""

    steps: tuple[Step, ...]
    reads: frozenset[str]
    writes: frozenset[str]
    anchor: bool  # whether it calls a tile kernel
    late: bool  # whether it makes what is computed again


class _Order:
    def __init__(self, plan: Plan, kernels: Kernels, lasting: Collection[str]) -> None:
        self.kernels = kernels
        self.again = frozenset(plan.again)
        self.owner = owners(plan.steps)
        self.size = {t.name: typical_bytes(t) for t in plan.tensors}
        self.lasting = {self._memory(n) for n in lasting}
        self.units = self._units(plan.steps)
        self.waits = [self._waits(number) for number in range(len(self.units))]
        self.users: dict[str, set[int]] = {}
        for number, unit in enumerate(self.units):
            for name in unit.reads | unit.writes:
                self.users.setdefault(name, set()).add(number)
        self.done: set[int] = set()

    def run(self) -> tuple[Step, ...]:
        out: list[Step] = []
        while len(self.done) < len(self.units):
            chosen = self._next()
            self.done.add(chosen)
            out.extend(self.units[chosen].steps)
        return tuple(out)

    def _memory(self, name: str) -> str:
        return self.owner.get(name, name)

    def _units(self, steps: Sequence[Step]) -> list[_Unit]:
        units: list[_Unit] = []
        room: list[Step] = []  # allocations, and views of them, that no step has used yet
        for step in steps:
            fresh = {self._memory(n) for s in room for n in writes(s, self.kernels)}
            if isinstance(step, Allocate) or (isinstance(step, View) and self._memory(step.result) in fresh):
                room.append(step)
                continue
            mine = {self._memory(n) for n in reads(step, self.kernels) | writes(step, self.kernels)}
            own = [s for s in room if {self._memory(n) for n in writes(s, self.kernels)} <= mine]
            room = [s for s in room if s not in own]
            units.append(self._unit((*own, step)))
        return units + [self._unit((step,)) for step in room]

    def _unit(self, steps: tuple[Step, ...]) -> _Unit:
        read = frozenset(self._memory(n) for s in steps for n in reads(s, self.kernels))
        written = frozenset(self._memory(n) for s in steps for n in writes(s, self.kernels) if not isinstance(s, View))
        shown = frozenset(self._memory(n) for s in steps for n in writes(s, self.kernels))
        anchor = any(isinstance(s, Call) and isinstance(self.kernels[s.kernel], TileKernel) for s in steps)
        late = all(writes(s, self.kernels) <= self.again for s in steps)
        return _Unit(steps, read | shown, written, anchor, late)

    def _waits(self, number: int) -> set[int]:
        """The earlier units that fill what this one touches, or touch what it fills; views, what shows their tensor."""
        unit, earlier = self.units[number], self.units[:number]
        touched = unit.reads | unit.writes
        waits = {n for n, e in enumerate(earlier) if e.writes & touched or e.reads & unit.writes}
        named = frozenset().union(*(reads(s, self.kernels) for s in unit.steps))
        return waits | {
            n for n, e in enumerate(earlier) if any(isinstance(s, View) and s.result in named for s in e.steps)
        }

    def _next(self) -> int:
        ready = [n for n in range(len(self.units)) if n not in self.done and self.waits[n] <= self.done]
        free = [n for n in ready if self._growth(n) <= 0]
        anchor = next((n for n, u in enumerate(self.units) if u.anchor and n not in self.done), None)
        wanted = set(ready) if anchor is None else self._before(anchor)
        return min(free or [n for n in ready if n in wanted], key=self._rank)

    def _rank(self, number: int) -> tuple[bool, bool, int, int]:
        unit = self.units[number]
        return unit.anchor, unit.late, self._growth(number), number

    def _before(self, number: int) -> set[int]:
        """The unit and everything that it waits for."""
        found = {number}
        queue = [number]
        while queue:
            new = self.waits[queue.pop()] - found
            found |= new
            queue += new
        return found

    def _growth(self, number: int) -> int:
        """Bytes that the unit makes, less those that go with it."""
        unit = self.units[number]
        total = 0
        for name in unit.reads | unit.writes:
            users = self.users[name]
            total += self.size[name] if name in unit.writes and min(users) == number else 0
            total -= self.size[name] if users - self.done == {number} and name not in self.lasting else 0
        return total


def typical_bytes(tensor: PlanTensor) -> int:
    """The tensor's size where every open size is a typical one."""
    total = product((integer(BYTES[tensor.storage]), *tensor.shape))
    return evaluate(total, {e.name: TYPICAL for e in walk(total) if isinstance(e, Size)}, {})
