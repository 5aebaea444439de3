"""Sizes of tiles: those of the least traffic, by a small model of registers and two caches, or those measured.

**Registers.** A block of dots is 8 columns by 2 vectors of rows where there are 32 long registers (4 by 3 where there
are 16): its accumulators are about twice the 8 to 10 multiplications that a core has under way, and leave registers for
what is made of the block before in between. So what is left to choose is how many `panels` make a tile of rows, and
how many `columns` a tile of columns has.

**Caches.** For each (row, column) pair a panel moves, in bytes to or from the second cache:

    walked   row / columns       operands and sums of a row are read, and sums written, once a column tile, in order: a
                                 processor that foresees them waits for a part, FORESEEN; several times as dear where a
                                 tile of rows and one of columns do not fit that cache together
    packed   2 column / rows     operands of columns are read and written once a tile of rows
    spilled  kept                tile values are written, and read again: in proportion to the share of the first cache
                                 that those of a panel and a column tile take, beside all else that passes through it,
                                 and to what that costs this processor, SPILL

Longer column tiles divide the first, until they pay the third. More panels divide the second; beyond the most of PANELS
there is little left to save, and the last tiles leave threads idle, as they do sooner where the sums of all columns
fill the second cache too. The evidence is the sweeps in benchmarks/results, of three processors:
tests/test_schedule.py holds the model's choice against the best of each. It was fitted to two of them, which differ in
SPILL alone: with Intel's (Ice Lake) AMD's (Zen 5) would lose 1.5 % in the mean, with AMD's Intel's up to 10 %.
A machine that differs is measured by `irc tune`, and its choices are data: they change speed alone, never what a kernel
means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VECTORS = 2  # of a row panel, where vectors are longest: PANEL_VECTORS of tile_products.h
LANES = 16  # numbers in a vector, the most there are: 64 bytes of f32
PANELS = {VECTORS: (4, 6, 8), 3: (2, 4)}  # by the vectors of one, which were three in the sweep of Ice Lake
BESIDE_COLUMNS = 6  # panels at most where columns have sums of their own
COLUMNS = (48, 96, 192, 256)
FAR = 4  # how much dearer a byte is from beyond the second cache
FORESEEN = 1 / 4  # how much cheaper one that comes in order
SPILL = {"AuthenticAMD": 0.35}  # how much cheaper one that leaves the first cache and comes back, by the maker


@dataclass(frozen=True, slots=True)
class Caches:
    """Bytes of one core's first and second data cache, and how dear it is to leave the first (see SPILL). As they stand
    here where a machine does not tell."""

    first: int = 48 << 10
    second: int = 1 << 20
    spill: float = 1


@dataclass(frozen=True, slots=True)
class Tiles:
    """A tile of rows has `panels` panels, a tile of columns `columns` columns, a multiple of 16.
    Raises ValueError for sizes that the templates cannot make."""

    panels: int
    columns: int

    def __post_init__(self) -> None:
        if self.panels < 1 or self.columns < 16 or self.columns % 16:
            raise ValueError(f"tiles of {self.panels} panels and {self.columns} columns")


@dataclass(frozen=True, slots=True)
class Schedule:
    """`chosen` tiles by the kernel's name; those of other kernels are by the model, for `caches`."""

    caches: Caches = Caches()
    chosen: tuple[tuple[str, Tiles], ...] = ()

    def tiles(self, kernel: str, footprint: Footprint) -> Tiles:
        chosen: Mapping[str, Tiles] = dict(self.chosen)
        return chosen[kernel] if kernel in chosen else best(footprint, self.caches)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a tile kernel keeps of a pair, walks through of a row (its operands as they are packed, and its sums
    twice, as they are read and written), and packs of a column. `number`: the bytes of one number in registers;
    `vectors`: of its row panels; `both`: whether columns have sums too."""

    kept: int
    row: int
    column: int
    number: int = 4
    vectors: int = VECTORS
    both: bool = False


def best(footprint: Footprint, caches: Caches) -> Tiles:
    """The tiles that cost least; of equals the smaller."""
    panels = [n for n in PANELS[footprint.vectors] if n <= BESIDE_COLUMNS or not footprint.both]
    candidates = [Tiles(n, columns) for n in panels for columns in COLUMNS]
    return min(candidates, key=lambda tiles: cost(footprint, tiles, caches))


def cost(footprint: Footprint, tiles: Tiles, caches: Caches) -> float:
    """Bytes to and from the second cache for each pair, as the head of this file has it."""
    panel = footprint.vectors * LANES * 4 // footprint.number
    rows = tiles.panels * panel
    near = footprint.row * rows + footprint.column * tiles.columns <= caches.second
    walked = FORESEEN * footprint.row / tiles.columns * (1 if near else FAR)
    packed = 2 * footprint.column / rows
    spilled = caches.spill * footprint.kept * footprint.kept * panel * tiles.columns / caches.first
    return walked + packed + spilled
