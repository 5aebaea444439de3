"""What a tile kernel computes of pairs, in stages: dots and other sums over features of a block of columns, then what
is made of these elementwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from irc.codegen.expr import Axis, Expr, Index, Local, substitute, walk
from irc.codegen.hoist import Hoists, inner_name
from irc.codegen.inner import Packing, is_short, shared_parts, shares_work
from irc.codegen.kernel import Dot, InnerSum, Panel, TileOp, Value
from irc.codegen.names import identifier
from irc.codegen.panels import axis_texts, width
from irc.codegen.tile_texts import AxisText, BlockSum, DotText, Line, LoopText, Stage


def panel_name(name: str) -> str:
    return f"panel_{identifier(name)}"


def tile_names(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(identifier(name) for name in names))


def values_of(expr: Expr) -> set[str]:
    return {e.name for e in walk(expr) if isinstance(e, Local)}


def in_stages(
    steps: Sequence[TileOp],
    kept: Collection[str],
    panels: Mapping[str, Panel],
    far: set[str],
    hoists: Hoists,
    packing: Packing | None,
) -> tuple[list[Stage], list[DotText]]:
    """The stages of steps before a softmax, and the dots with panels of distances (`far`), which are made before them.
    `packing`: of sums in registers, where there may be such."""
    stages: list[Stage] = []
    before: list[DotText] = []
    together: list[_Together] = []

    def summing() -> Stage:
        """The last stage if it has no lines so far, or a new one."""
        if not stages or stages[-1].lines:
            stages.append(Stage())
        return stages[-1]

    def keep(stage: Stage, name: str, masked: bool) -> None:
        """A line that stores what a dot or a sum made, or masks it."""
        stage.lines.append(Line(identifier(name), hoists.vector(Local(name)), masked, name in kept))
        stage.names.add(identifier(name))

    for step in steps:
        match step:
            case Dot(name, row, column):
                stage = summing()
                dot = DotText(identifier(name), panel_name(row), panel_name(column), width(panels[row]))
                (before if {row, column} & far else stage.dots).append(dot)
                if name in kept:
                    keep(stage, name, False)
            case InnerSum(name, over, value, masked) if packing and (inner := packing.packed(value, over)) is not None:
                found = next((made for made in together if made.takes(over, inner)), None)
                if found is None:
                    together.append(found := _Together(summing(), over))
                found.sums[name] = inner
                found.stage.summed.update(tile_names(values_of(value)))
                if masked or name in kept:
                    keep(found.stage, name, masked)
            case Value() | InnerSum():
                if not stages:
                    stages.append(Stage())
                stages[-1].lines.append(line_of(step, step.name in kept, hoists))
                stages[-1].names.update(tile_names(values_of(step.value)))
            case _:
                pass
    for made in together:
        assert packing is not None
        made.stage.sums.append(_block_sum(made, packing, before, hoists))
    return stages, before


@dataclass
class _Together:
    """Sums over the same features, by their names, that a stage makes in one loop."""

    stage: Stage
    over: tuple[Axis, ...]
    sums: dict[str, Expr] = field(default_factory=dict)

    def takes(self, over: tuple[Axis, ...], value: Expr) -> bool:
        """Whether a sum of the value can be made here, and has work in common with one that is."""
        read = set().union(*map(values_of, self.sums.values()))
        shared = any(shares_work(value, other) for other in self.sums.values())
        return over == self.over and values_of(value) <= read and shared


def finish(stages: list[Stage], before: Sequence[DotText], reads: Sequence[Expr], softmax: str | None) -> None:
    """The stages, once all are known: how their lines run, and what they take from each other. `softmax`: the text of
    its logit, which the last stage makes; what it reads."""
    for stage in stages:
        stage.unrolled = not any(_is_long(line) for line in stage.lines)
    if softmax is not None:
        if not stages:
            stages.append(Stage())
        if "gather_" in softmax:
            stages[-1].unrolled = False
        for read in reads:
            stages[-1].names.update(tile_names(values_of(read)))
    _pass_on(stages, {dot.name for dot in before})


def line_of(step: Value | InnerSum, kept: bool, hoists: Hoists) -> Line:
    over = step.over if isinstance(step, InnerSum) else ()
    return Line(
        identifier(step.name), hoists.vector(inner_value(step.value, over)), step.masked, kept, _inner_texts(over)
    )


def inner_value(value: Expr, over: tuple[Axis, ...]) -> Expr:
    """The value, with names for what it is summed over that stand nowhere else."""
    return substitute(value, {a.index: Index(inner_name(a.name)) for a in over})


def _inner_texts(over: tuple[Axis, ...]) -> tuple[AxisText, ...]:
    return axis_texts(tuple(Axis(inner_name(a.name), a.size) for a in over))


def _is_long(line: Line) -> bool:
    return "gather_" in line.text or bool(line.inner)


def _pass_on(stages: list[Stage], before: set[str]) -> None:
    """Which values each stage takes from others, or from `before` them, and which it leaves to them."""
    for stage in stages:
        dots = before | set(summed_in(stage))
        stage.makes = tuple(dict.fromkeys(line.name for line in stage.lines if line.name not in dots))
        stage.reads = tuple(sorted(stage.names - set(stage.makes)))
    for n, stage in enumerate(stages):
        later = {name for after in stages[n + 1 :] for name in (*after.reads, *after.summed)}
        stage.leaves = tuple(name for name in stage.makes if name in later)


def summed_in(stage: Stage) -> tuple[str, ...]:
    return *(dot.name for dot in stage.dots), *(name for each in stage.sums for name in each.names)


def _in_block(tile: str, distance_dots: list[DotText]) -> str:
    """A tile value of column n + m and vector w, where a block of them is made."""
    if tile in (dot.name for dot in distance_dots):
        return f"irc::load_vector<vec>(dots_{tile} + (n + m) * PANEL + w * LANES)"
    return f"block_{tile}[m][w]"


def _block_sum(made: _Together, packing: Packing, before: list[DotText], hoists: Hoists) -> BlockSum:
    read = set().union(*map(values_of, made.sums.values()))
    texts: dict[Expr, str] = {Local(tile): _in_block(identifier(tile), before) for tile in read}
    loop = in_one_loop(tuple(made.sums.values()), made.over, packing, hoists, texts)
    return BlockSum(loop, tuple(map(identifier, made.sums)))


def in_one_loop(
    values: Sequence[Expr], over: tuple[Axis, ...], packing: Packing, hoists: Hoists, texts: Mapping[Expr, str]
) -> LoopText:
    """What is summed over the same features; `texts`: of the tile values."""
    values, apart = packing.apart(values, over)
    hoists.known = {**texts}
    made = {local: (f"made_{number}", hoists.vector(part)) for number, (local, part) in enumerate(apart.items())}
    hoists.known |= packing.texts | {local: f"{name}[m][w]" for local, (name, _) in made.items()}
    short = all(map(is_short, values))
    values, repeated = shared_parts(values)
    parts = tuple(
        (f"part_{number}", hoists.vector(inner_value(part, over))) for number, part in enumerate(repeated.values())
    )
    hoists.known |= {local: name for local, (name, _) in zip(repeated, parts, strict=True)}
    summed = tuple(hoists.vector(inner_value(value, over)) for value in values)
    hoists.known = {}
    return LoopText(tuple(made.values()), parts, summed, _inner_texts(over), short)
