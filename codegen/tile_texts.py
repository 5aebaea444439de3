"""What tiles.cpp.j2 and its kin read of a tile kernel: names, sizes, and printed expressions, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from irc.codegen.hoist import Hoists
from irc.codegen.kernel import Side


@dataclass(frozen=True, slots=True)
class AxisText:
    index: str
    size: str


@dataclass(frozen=True, slots=True)
class RowText:
    """A row of a panel or of a result that lies in memory: its first element, an lvalue, and where rows are evenly
    spaced the step from row to row."""

    element: str
    step: str | None


@dataclass(frozen=True, slots=True)
class NumbersText:
    """Numbers of a token that follow each other, each computed so."""

    features: tuple[AxisText, ...]
    value: str


@dataclass(frozen=True, slots=True)
class PanelText:
    """`numbers`: all of a token, in their order. `dotted`: read by dots; `summed`: by products that sum over its side;
    `guarded`: these must not let a blocked element in that is not finite; `distant`: read by products of distances.
    `fixed`: names for what a token's features have in common."""

    name: str
    width: int
    numbers: tuple[NumbersText, ...]
    row: RowText | None
    dotted: bool
    summed: bool
    guarded: bool
    distant: bool
    form: str = "Form"
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DistanceText:
    """A panel of distances, 0 where `exists` fails; `dotted`: read by dots; and by sums over columns, or over rows."""

    name: str
    width: int
    features: tuple[AxisText, ...]
    value: str
    exists: str | None
    row: RowText | None
    dotted: bool
    over_columns: bool
    over_rows: bool


@dataclass(frozen=True, slots=True)
class DotText:
    name: str
    row: str
    column: str
    width: int


@dataclass(frozen=True, slots=True)
class LoopText:
    """What is computed of pairs for each point of the axes `inner`, and `summed`. By their names, `made`: what is
    computed before, of no point, and `parts`: what several are made of; `unrolled`: of little code."""

    made: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, str], ...]
    summed: tuple[str, ...]
    inner: tuple[AxisText, ...]
    unrolled: bool


@dataclass(frozen=True, slots=True)
class BlockSum:
    """Sums of what panels and tile values hold, by their names, for a block of pairs."""

    loop: LoopText
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """tile_NAME[m][w] = text; with `inner`, the sum of it over those axes. `kept` values are read after their tile."""

    name: str
    text: str
    masked: bool
    kept: bool
    inner: tuple[AxisText, ...] = ()


@dataclass(slots=True)
class Stage:
    """Dots and other sums over features, then elementwise lines that need them. Without `unrolled` the lines run as a
    loop: they are long.

    names: of the tile values that the lines mention. From these: `reads`, those that others made; `makes`, the lines'
    own; `leaves`, those of them that later stages read.
    """

    dots: list[DotText] = field(default_factory=list)
    sums: list[BlockSum] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    unrolled: bool = True
    names: set[str] = field(default_factory=set)
    summed: set[str] = field(default_factory=set)  # the values of others that its sums read
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A result of rows, of columns, or of distances. `width` is 0 for a reduction, `features` the axes that its target
    is indexed by, `side` its panel's; `added` to what is there."""

    name: str
    tile: str
    panel: str
    width: int
    features: tuple[AxisText, ...]
    reduce: str
    weighted: bool
    target: str
    row: RowText | None
    side: str
    added: bool


@dataclass(frozen=True, slots=True)
class Computed:
    """A result of rows or of columns, as `side` says, that is summed of what is computed of each pair, for each of
    `width` features. The rest as of Result."""

    name: str
    width: int
    target: str
    features: tuple[AxisText, ...]
    row: RowText | None
    side: Side
    weighted: bool = False
    added: bool = False
    reduce: str = "sum"


@dataclass(frozen=True, slots=True)
class SumsText:
    """Results that are computed of each pair for the same features, of the tile values `reads`."""

    loop: LoopText
    results: tuple[Computed, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptText:
    """A tile value that is read after its tile; `uses` as Kept wants them."""

    name: str
    uses: str


@dataclass(frozen=True, slots=True)
class SoftmaxText:
    """`logit`: the score times log2(e), or where `natural` the score. `score` is printed where the largest one is
    stored. `waits`: whether weights are made when the next two columns' logits are, since these take long themselves:
    a processor looks so far ahead only, and a shorter chain of operations leaves more of that to the dots."""

    weight: str
    logit: str
    natural: bool
    waits: bool
    score: str | None
    init: str | None
    lse: str | None
    max: str | None
    remainder: str | None


@dataclass(frozen=True, slots=True)
class TileText:
    """The context of the template tiles.cpp.j2."""

    batch: tuple[AxisText, ...]
    rows: tuple[AxisText, ...]
    columns: tuple[AxisText, ...]
    row_panels: tuple[PanelText, ...]
    column_panels: tuple[PanelText, ...]
    distance_panels: tuple[DistanceText, ...]
    distance_dots: tuple[DotText, ...]  # with panels of distances, made of all columns at once
    stages: tuple[Stage, ...]
    waiting: tuple[str, ...]  # values of a block that a stage leaves to another
    late: tuple[Line, ...]  # after the softmax: what is made of its weights
    late_reads: tuple[str, ...]
    softmax: SoftmaxText | None
    kept: tuple[KeptText, ...]
    row_products: tuple[Result, ...]
    row_sums: tuple[Computed, ...]
    column_sums: tuple[Computed, ...]
    summed_together: tuple[SumsText, ...]  # these
    row_reduces: tuple[Result, ...]
    column_products: tuple[Result, ...]
    column_reduces: tuple[Result, ...]
    distance_products: tuple[Result, ...]
    distance_reduces: tuple[Result, ...]
    support: str | None
    support_of_a_pair: str | None  # the same for scalars
    hoists: Hoists
