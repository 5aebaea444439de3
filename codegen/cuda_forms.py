"""Which tile kernels go to tensor cores, how they keep their operands, and how wide their tiles are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from irc.codegen.cuda_hoist import Hoists
from irc.codegen.cuda_kept import of_mask
from irc.codegen.cuda_launch import most_shared
from irc.codegen.expr import Const, Expr, Load, Op, indices, walk
from irc.codegen.kernel import Dot, InnerSum, OnlineSoftmax, Panel, RowProduct, Storage, TileKernel, Value
from irc.codegen.narrow import Narrow
from irc.codegen.panels import sums_distances, width
from irc.codegen.stream import by_bits

WARPS = 4
ROWS = 16 * WARPS
STAGES = 2  # of a column panel: one is worked on, the other filled
SHARED, OTHER = 96 << 10, 3 << 10  # bytes that panels of a block may take, and of all that there are what others may
BESIDE = 16  # slots of distances that a warp reads beside as many as columns, as distances.cuh has it


@dataclass(frozen=True, slots=True)
class Form:
    """How operands are kept, as fragments.cuh has it: the type of a number, its bytes, and how many of them follow each
    row; `storage`: of tensors that lie in memory as they are kept; `columns` of a tile, the more the better."""

    name: str
    type: str
    bytes: int
    pad: int
    storage: Storage
    columns: tuple[int, ...]


BF16 = Form("Bf16", "uint16_t", 2, 8, "bf16", (64, 32, 16))
F16 = Form("F16", "uint16_t", 2, 8, "f16", (64, 32, 16))
FLOAT = Form("Float", "float", 4, 4, "f32", (32, 16))


REGISTERS = ((128, 56), (168, 96), (255, 176))
"""Of a thread, and how many of them may hold fragments and what is evaluated of pairs: the others are for operands and
addresses. These numbers and the next are such that ptxas spills nothing (tests/cuda/test_cubins.py)."""
GATHERS, FUNCTIONS, SPLITS, DISTANCES, RESULTS, AS_TF32 = 40, 16, 25, 8, 6, 9
"""For reads of pairs, long functions, parts of floats, distances in 64 bits, each product of floats beyond two, and
products of f16 as tf32 beside dots of columns with vectors of distances."""
LONG = ("tanh", "erf", "log", "pow", "random")


def form(kernel: TileKernel) -> Form | None:
    """How the kernel's operands are kept; None where it is left to plain CUDA: sums in double, nothing to multiply, and
    values that another kernel compares by their bits, which the order of sums changes. Numbers that a kernel of f16
    computes on the way into a panel may be of any size, which f16 is not: they stay floats."""
    multiplies = any(isinstance(step, Dot | RowProduct) for step in kernel.body)
    if kernel.arithmetic != "f32" or not multiplies or by_bits(kernel):
        return None
    if kernel.pairs:
        return BF16
    storage = {t.name: t.storage for t in kernel.tensors}
    loads = (_selected(p.value) for p in read_panels(kernel))
    plain = all(isinstance(load, Load) and storage[load.tensor] == "f16" for load in loads)
    return F16 if plain else FLOAT


def _selected(value: Expr) -> Expr:
    """What stands under a condition, else 0."""
    match value:
        case Op("where", (_, chosen, Const(0.0, _))):
            return chosen
    return value


def tile_columns(
    kernel: TileKernel, hoisted: TileKernel, hoists: Hoists, form: Form, architecture: str
) -> tuple[int, int, int] | None:
    """The most columns of a tile whose fragments fit into registers and its panels into shared memory, how many
    registers a thread has, and for how many tiles panels of distances lie there that products read; None where sums
    alone are too many, or panels too wide. `hoisted`: with values of tokens kept apart, the `hoists`. Where panels of
    distances do not fit, a block has all memory of a processor."""
    panels = {p.name: p for p in kernel.panels}
    products = [s for s in kernel.body if isinstance(s, RowProduct)]
    sums = sum(padded(width(panels[s.panel])) // 2 for s in products)
    summed = {s.tile for s in products}
    tiles = max(sum(isinstance(s, Dot) for s in kernel.body), len(summed))
    read = read_panels(kernel)
    distances = {p.name for p in read if p.side == "distance"}
    of_columns = sum(isinstance(s, Dot) and s.row in distances for s in kernel.body)
    beside = 0  # products
    others = scalars(kernel) + (DISTANCES if takes_distances(kernel) else 0)
    if form is FLOAT:  # both parts of a tile, and of an operand
        tiles, others = tiles + 1, others + SPLITS + 3 * of_mask(hoisted) + RESULTS * max(len(products) - 2, 0)
    elif form is F16 and summed - {s.weight for s in kernel.body if isinstance(s, OnlineSoftmax)}:  # as tf32
        beside, others = of_mask(hoisted), others + AS_TF32 * bool(of_columns)
    bands = 0 if not sums_distances(kernel) else 2 if form is FLOAT else 1
    all_bytes = most_shared(architecture)
    whole = max(all_bytes - OTHER, SHARED)

    def beside_panels(columns: int) -> int:
        return hoists.bytes(ROWS, STAGES * columns) + 4 * WARPS

    choices = [(SHARED, columns) for columns in widths(kernel, form.columns)]
    choices += [(whole, form.columns[-1])] if distances else []
    for (limit, columns), late in product(choices, (STAGES, 1)):
        near = BESIDE // 2 * (bool(distances) + bands) + columns // 2 * of_columns
        summing = len(summed) * columns // 2 + beside + bands * (columns + BESIDE) // 2
        held = [stages_of(p, kernel, late) * tokens(p, columns) * (padded(width(p)) + form.pad) for p in read]
        for registers, fits in REGISTERS:
            most = sums + max(tiles * columns // 2 + others + near, summing)
            panel_bytes = form.bytes * sum(held)
            if panel_bytes <= limit and panel_bytes + beside_panels(columns) <= all_bytes and most <= fits:
                return columns, registers, late
    return None


def tokens(panel: Panel, columns: int) -> int:
    """Of a panel beside a tile of so many columns."""
    return {"row": ROWS, "column": columns, "distance": ROWS + columns}[panel.side]


def stages_of(panel: Panel, kernel: TileKernel, late: int) -> int:
    """For how many tiles the tokens of a panel lie in shared memory: those of distances for one where dots alone read
    them, and are filled again beside what takes longest; of so many `late`, where products do."""
    if panel.side == "distance":
        return late if any(isinstance(s, RowProduct) and s.panel == panel.name for s in kernel.body) else 1
    return 1 if panel.side == "row" else STAGES


def widths(kernel: TileKernel, columns: tuple[int, ...]) -> tuple[int, ...]:
    """Of numbers of columns that a tile may have, the most first, those for this kernel. Random numbers take so long
    that the widest wins nothing, and ptxas makes too many at once there; slots of distances have a bit each."""
    fit = tuple(n for n in columns if n + BESIDE <= 64) if sums_distances(kernel) else columns
    return fit[1:] if draws(kernel) else fit


def draws(kernel: TileKernel) -> bool:
    """Whether random numbers are made for pairs."""
    return any(isinstance(e, Op) and e.name == "random" for e in evaluated(kernel))


def scalars(kernel: TileKernel) -> int:
    """Registers for what is evaluated of many pairs at once."""
    if any(isinstance(e, Load) for e in of_pairs(kernel)):
        return GATHERS
    return FUNCTIONS if any(isinstance(e, Op) and e.name in LONG for e in evaluated(kernel)) else 0


def reads_twice(expressions: list[Expr]) -> bool:
    """Whether memory is read where other memory says."""
    loads = [e for e in expressions if isinstance(e, Load)]
    return any(part in loads for e in loads for index in e.indices for part in walk(index))


def takes_distances(kernel: TileKernel) -> bool:
    """Whether an integer of 64 bits is made a number for pairs."""
    fits = Narrow(kernel).fits
    return any(isinstance(e, Op) and e.name == "float" and not fits(e.args[0]) for e in of_pairs(kernel))


def of_pairs(kernel: TileKernel) -> list[Expr]:
    """What is evaluated and depends on the positions of both sides."""
    sides = [{axis.name for axis in axes} for axes in (kernel.rows, kernel.columns)]
    return [e for e in evaluated(kernel) if all(indices(e) & side for side in sides)]


def evaluated(kernel: TileKernel) -> list[Expr]:
    """All expressions that are evaluated for pairs, with their parts."""
    values = [s.value for s in kernel.body if isinstance(s, Value | InnerSum)]
    values += [s.score for s in kernel.body if isinstance(s, OnlineSoftmax)]
    values += [kernel.support] if kernel.support is not None else []
    return [e for value in values for e in walk(value)]


def read_panels(kernel: TileKernel) -> list[Panel]:
    """Those that are read."""
    read = {name for s in kernel.body if isinstance(s, Dot) for name in (s.row, s.column)}
    read |= {s.panel for s in kernel.body if isinstance(s, RowProduct)}
    return [p for p in kernel.panels if p.name in read]


def padded(width: int) -> int:
    """Features of a step of mma, or of two neighbours in a result."""
    return -(-width // 16) * 16
