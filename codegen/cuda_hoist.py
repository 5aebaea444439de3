"""What depends on one side alone, out of what is evaluated for every pair: made once a token, kept in shared memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from irc.codegen.cuda_launch import Arrays
from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Local, Op, flat, indices, rebuild, walk
from irc.codegen.kernel import TileKernel
from irc.codegen.names import pointer_name, stride_name
from irc.codegen.narrow import Narrow
from irc.codegen.printer import element, in_double, print_scalar, scalar_leaf

TYPE = {Kind.FLOAT: "T", Kind.INT: "int64_t", Kind.BOOL: "bool"}
BYTES = {"T": 4, "int64_t": 8, "int32_t": 4, "bool": 1}
PAIRS = {Kind.FLOAT: ("f32", "bf16", "f16"), Kind.BOOL: ("bool",), Kind.INT: ()}  # of which two are a word
CHEAP = {"add", "sub", "neg", "mul", "flat", "eq", "ne", "lt", "le", "and", "or", "not", "min", "max", "float"}
CHEAP |= {"narrow", "widen", "saturate"}
"""Operations that take no longer than reading their result."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A value: of a side an array of them, one a token; of neither side a variable."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """Random numbers of pairs, of which four neighbours along one side are words of one counter; `seed` and `batch` are
    printed."""

    name: str
    side: str
    seed: str
    batch: str


@dataclass(frozen=True, slots=True)
class Paired:
    """Numbers or truths of a table that has one for every pair: an element's `value`, and the `element` itself, an
    lvalue. Two neighbours along the columns are one word where they lie `together`, a condition."""

    name: str
    type: str
    value: str
    element: str
    together: str


@dataclass
class Hoists:
    """Collects them from a kernel's expressions, by side; `batch`: of neither; `drawn`: what is made for four pairs;
    `paired`: what is read for two."""

    kernel: TileKernel
    narrow: Narrow
    row: dict[Expr, Kept] = field(default_factory=dict)
    column: dict[Expr, Kept] = field(default_factory=dict)
    batch: dict[Expr, Kept] = field(default_factory=dict)
    drawn: dict[Expr, Drawn] = field(default_factory=dict)
    paired: dict[Expr, Paired] = field(default_factory=dict)

    def __call__(self, expr: Expr) -> Expr:
        """The expression of a pair, in 32 bits where it fits, reading them by name."""
        return rebuild(self.narrow(expr), self._place)

    def of_values(self, expr: Expr) -> Expr:
        """The same of a tile value, which reads random numbers and entries of its pair by name too."""
        return self(rebuild(expr, lambda part: self._draw(part) or self._pair(part)))

    def of_mask(self, expr: Expr) -> Expr:
        """The same of which pairs exist, which reads truths of its pair by name."""
        return self(rebuild(expr, lambda part: self._pair(part) if part.kind is Kind.BOOL else None))

    def _draw(self, part: Expr) -> Expr | None:
        """Of random numbers that the positions of the pair tell, the name."""
        if not isinstance(part, Op) or part.name != "random":
            return None
        seed, batch, *pair = part.args
        rows, columns = (flat(tuple((a.index, a.size) for a in s)) for s in (self.kernel.rows, self.kernel.columns))
        sides = {(rows, columns): "column", (columns, rows): "row"}
        side = sides.get((pair[0], pair[1]), "")
        if not side or any(self._side(e) != "batch" for e in (seed, batch)):
            return None
        texts = (print_scalar(self(e)) for e in (seed, batch))
        made = self.drawn.setdefault(part, Drawn(f"draws_{len(self.drawn)}", side, *texts))
        return Local(made.name.replace("_", " "))

    def _pair(self, part: Expr) -> Expr | None:
        """Of an entry whose indices are those of the pair, the column's the last, the name."""
        if not isinstance(part, Load) or self._side(part):
            return None
        *others, last = part.indices
        storage = next(t.storage for t in self.kernel.tensors if t.name == part.tensor)
        known = {axis.index for axis in (*self.kernel.batch, *self.kernel.rows)}
        if (
            storage not in PAIRS[part.kind]
            or not known.issuperset(others)
            or [last] != [a.index for a in self.kernel.columns]
        ):
            return None
        strides = [stride_name(part.tensor, d) for d in range(len(part.indices))]
        pointer = pointer_name(part.tensor)
        even = "".join(f" && {stride} % 2 == 0" for stride in strides[:-1])
        together = f"{strides[-1]} == 1{even} && uintptr_t({pointer}) % (2 * sizeof(*{pointer})) == 0"
        name = f"entries_{len(self.paired)}"
        texts = print_scalar(part), element(part.tensor, part.indices, scalar_leaf)
        made = self.paired.setdefault(part, Paired(name, TYPE[part.kind], *texts, together))
        return Local(made.name.replace("_", " "), part.kind)

    def reserve(self, memory: Arrays, rows: int, columns: int) -> None:
        """Arrays for those of so many rows and columns."""
        for values, count in ((self.row, rows), (self.column, columns)):
            for value in values.values():
                memory.add(value.type, f"all_{value.name}", count, BYTES[value.type])

    def bytes(self, rows: int, columns: int) -> int:
        """Of those arrays."""
        memory = Arrays()
        self.reserve(memory, rows, columns)
        return memory.bytes

    def _place(self, part: Expr) -> Expr | None:
        """What stands for a subexpression as a whole; None to go on below it."""
        side = self._side(part)
        if side and self._is_costly(part):
            found: dict[Expr, Kept] = getattr(self, side)
            kind = "int32_t" if part.kind is Kind.INT and self.narrow.fits(part) else TYPE[part.kind]
            kept = found.setdefault(part, Kept(f"{side}_value_{len(found)}", kind, print_scalar(part)))
            local = Local(kept.name.replace("_", " "), part.kind)
            widens = kept.type == "int32_t" and not self.narrow.is_narrow(part)
            return Op("widen", (local,), Kind.INT) if widens else local
        # an angle of both sides is computed in double as a whole; of the table of a segment only the place counts
        whole = isinstance(part, Op) and (in_double(part) or part.name == "segment")
        return part if whole else None

    def _side(self, part: Expr) -> str:
        """Which side it depends on; empty for both, and for more."""
        if any(isinstance(e, Local) for e in walk(part)):
            return ""
        names = indices(part)
        rows, columns = _names(self.kernel.rows), _names(self.kernel.columns)
        if names - rows - columns - _names(self.kernel.batch) or (names & rows and names & columns):
            return ""
        return "row" if names & rows else "column" if names & columns else "batch"

    def _is_costly(self, part: Expr) -> bool:
        """Whether it reads memory, or divides, as finding one of several indices in a position does."""
        several = {a.name for axes in (self.kernel.rows, self.kernel.columns) if len(axes) > 1 for a in axes}
        return any(
            isinstance(e, Load)
            or (isinstance(e, Index) and e.name in several)
            or (isinstance(e, Op) and e.name not in CHEAP)
            for e in walk(part)
        )


def _names(axes: tuple[Axis, ...]) -> set[str]:
    return {axis.name for axis in axes}
