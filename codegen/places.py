"""How templates of vector code name where they stand, and what they are told to keep for it."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.kernel import Side


@dataclass(frozen=True, slots=True)
class Places:
    """How a template names where it stands: which side its lanes are; the place of a vector's first lane, and of one
    lane of it; the place on the other side; both as arguments of a gather and inside it; and a tile value. `pair`:
    in tiles, positions of the first lane and on the other side, which are less than a margin beyond the last ones.
    `ahead`: whether what tables hold of pairs is read before it is wanted."""

    lanes: Side
    vector: str
    other: str
    gather: tuple[str, str]
    gathered_lane: str
    gathered_other: str
    tile: str
    pair: tuple[str, str] | None = None
    ahead: bool = True


TILE_PLACES = Places(
    "row",
    "lane_first + w * LANES",
    "n + m",
    ("n + m", "w"),
    "lane_first + vector * LANES + lane",
    "place",
    "tile_{}[m][w]",
    ("(row_base + lane_first + w * LANES)", "(column_first + n + m)"),
)
STREAM_PLACES = Places("column", "key", "query", ("query", "key"), "key + lane", "query", "tile_{}", ahead=False)


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A value computed outside the tile: `text` is scalar code, `type` what it is kept as; truth is kept as a mask."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Gather:
    """A tensor element, or a segment, that depends on both sides, as code for a lane. `inner` names the further indices
    that it reads. Where following lanes read neighbours, `first` is one as it is stored and `step` the distance."""

    name: str
    kind: str  # "vec" or "ivec"
    text: str
    inner: tuple[str, ...]
    first: str
    step: str


@dataclass(frozen=True, slots=True)
class Table:
    """A tensor with an element for every pair: `first` is that of a row and a column, as it is stored. Columns are
    neighbours and rows `step` apart, or the other way round where `lanes` are neighbours. Where pairs share elements,
    as those of a block, `rows` and `columns` say how far from the first that of row `row` and of column `n` lies."""

    name: str
    kind: str  # "vec" or "ivec"; of truths "turned" where those are that are blocked
    first: str = ""
    step: str = ""
    lanes: bool = False
    rows: str = ""
    columns: str = ""
