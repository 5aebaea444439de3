"""A counterexample as a small matrix: who sees down, what is seen across, the offending pair marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from irc.codegen.expr import TRUE, Axis, Expr, Index, Load, Size, loads, walk
from irc.graph.interpret import complete_sizes, size_value
from irc.graph.ir import Core, Graph
from irc.proof.claim import Claim, Model
from irc.proof.state import over, value

FILLED, EMPTY, WRONG, WANTED, ROW = "■", "·", "✗", "○", "◂"
MOST = 12  # rows and columns that are drawn; of more, the ends and those around the mark


@dataclass(frozen=True, slots=True)
class Picture:
    """What sees what in one state of the program: the pairs of a core, or which entry of an input each entry of an
    output reads.

    `filled` is [rows, columns], product axes flattened. `rows` and `columns` name each axis with its index along that
    side. `row` and `column` are the offending pair; without a column, it is the row that offends. `legend` is in words
    what a filled cell, an empty one and the offending one are. `given` names sizes, scalars and tables.
    """

    filled: np.ndarray[Any, np.dtype[np.bool_]]
    rows: dict[str, tuple[int, ...]]
    columns: dict[str, tuple[int, ...]]
    row: int | None
    column: int | None
    legend: tuple[str, str, str]
    given: str


def pairs(graph: Graph, core: Core, model: Model, legend: str = "", also: Sequence[Expr] = ()) -> Picture | None:
    """The pairs of the core; None where the model leaves out what its mask reads.

    `legend` says what is wrong with the offending pair, where that is not plain. `also` are expressions whose sizes,
    scalars and tables are named too.
    """
    support = core.support if core.support is not None else TRUE
    try:
        filled = over(support, (*core.rows, *core.columns), graph, model)
    except (KeyError, IndexError):
        return None
    sizes = complete_sizes(graph, model.sizes)
    extents = [[size_value(a.size, sizes) for a in side] for side in (core.rows, core.columns)]
    rows, columns = _positions(core.rows, extents[0]), _positions(core.columns, extents[1])
    filled = filled.reshape([prod(side) for side in extents])
    row, column = _at(rows, model), _at(columns, model)
    read = (support, *core.position, *(a.size for a in (*core.rows, *core.columns)), *also)
    if not legend and column is None:
        legend = "no key is allowed"
    elif not legend:
        legend = "allowed, and must not be" if filled[row, column] else "blocked, and must be allowed"
    return Picture(filled, rows, columns, row, column, ("allowed", "blocked", legend), given(graph, read, model))


def reads(graph: Graph, claim: Claim, model: Model) -> Picture | None:
    """Which place of an input each place of an output reads, for a claim that says the two."""
    if len(claim.said) != 2:
        return None
    try:
        seen, at, read = (over(e, claim.free, graph, model) for e in (claim.given, *claim.said))
        row, column = (int(value(e, graph, model)) for e in claim.said)
    except (KeyError, IndexError):
        return None
    least, most = min(0, int(at.min()), int(read.min())), max(int(at.max()), int(read.max()))
    filled = np.zeros((most - least + 1,) * 2, np.bool_)
    filled[at[seen] - least, read[seen] - least] = True
    places = tuple(range(least, most + 1))
    legend = ("read", "not read", "read, and must not be")
    several = (a.size for a in claim.free if over(a.size, (), graph, model) > 1)
    shown = given(graph, (*claim.said, *several, *loads(claim.given)), model)
    return Picture(filled, {"output": places}, {"input": places}, row - least, column - least, legend, shown)


def _positions(axes: tuple[Axis, ...], extents: list[int]) -> dict[str, tuple[int, ...]]:
    """The index of each axis along a side, the last axis running fastest; of no axes, there is one place."""
    where = np.indices(extents).reshape(len(axes), prod(extents))
    return {a.name: tuple(int(n) for n in along) for a, along in zip(axes, where, strict=True)}


def _at(side: dict[str, tuple[int, ...]], model: Model) -> int | None:
    """The place along a side where the model's indices are; None where it does not say."""
    if not side:
        return 0
    point = tuple(model.indices.get(name) for name in side)
    places = list(zip(*side.values(), strict=True))
    return places.index(point) if point in places else None


def given(graph: Graph, read: Sequence[Expr], model: Model) -> str:
    """The state of the program as far as the expressions see it: `Sq = 2, Sk = 3, w = 1, doc[0] = [0, 1, 1]`."""
    parts = [e for expr in read for e in walk(expr)]
    used = {e.name for e in parts if isinstance(e, Size)}
    found = [f"{name} = {model.sizes[name]}" for name, _ in graph.sizes if name in used and name in model.sizes]
    tensors = {load.tensor: load for expr in reversed(read) for load in reversed(loads(expr))}
    found += [f"{name} = {_plain(value)}" for name, value in model.scalars.items() if name in tensors]
    for name, table in model.tables.items():
        if name in tensors:
            point = _leading(tensors[name], model)
            at = f"[{','.join(map(str, point))}]" if point else ""
            found.append(f"{name}{at} = {_listed(table[point])}")
    return ", ".join(found)


def _leading(load: Load, model: Model) -> tuple[int, ...]:
    """The first indices of an access, as long as each is the index of an axis at a known point; never all."""
    point: list[int] = []
    for index in load.indices[:-1]:
        if not isinstance(index, Index) or index.name not in model.indices:
            break
        point.append(model.indices[index.name])
    return tuple(point)


def _listed(table: Any) -> str:
    if np.ndim(table) == 0:
        return _plain(table)
    items = [_listed(row) for row in table[:MOST]]
    return f"[{', '.join(items)}{', …' if len(table) > MOST else ''}]"


def _plain(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def text(shown: Picture) -> tuple[str, ...]:
    """The matrix and its legend, a line each."""
    down = _kept(shown.filled.shape[0], shown.row)
    across = _kept(shown.filled.shape[1], shown.column)
    widths = {name: max(len(name), *(len(str(n)) for n in (*along, 0))) for name, along in shown.rows.items()}
    lead = max(len(name) for name in shown.columns)
    wide = [max(1 if c is None else len(str(along[c])) for along in shown.columns.values()) for c in across]
    lines = []
    for n, (name, along) in enumerate(shown.columns.items(), 1):
        names = " ".join((r if n == len(shown.columns) else "").rjust(w) for r, w in widths.items())
        heads = ("…" if c is None else str(along[c]) for c in across)
        lines.append(f"{names}  {name.rjust(lead)}  {_spread(heads, wide)}".rstrip())
    for r in down:
        labels = " ".join(("…" if r is None else str(shown.rows[n][r])).rjust(w) for n, w in widths.items())
        cells = ("…" if r is None or c is None else _cell(shown, r, c) for c in across)
        arrow = f"  {ROW}" if r is not None and r == shown.row and shown.column is None else ""
        lines.append(f"{labels}  {' ' * lead}  {_spread(cells, wide)}{arrow}".rstrip())
    return (*lines, "", _legend(shown))


def _spread(cells: Iterable[str], widths: list[int]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _cell(shown: Picture, row: int, column: int) -> str:
    filled = shown.filled[row, column]
    if (row, column) == (shown.row, shown.column):
        return WRONG if filled else WANTED
    return FILLED if filled else EMPTY


def _legend(shown: Picture) -> str:
    filled, empty, wrong = shown.legend
    parts = [f"{FILLED} {filled}", f"{EMPTY} {empty}"]
    if shown.row is not None:
        mark = ROW if shown.column is None else _cell(shown, shown.row, shown.column)
        parts.append(f"{mark} {wrong}")
    return "   ".join(parts)


def _kept(count: int, marked: int | None) -> list[int | None]:
    """The places drawn along one side; None is a gap."""
    if count <= MOST:
        return list(range(count))
    near = set() if marked is None else set(range(marked - 2, marked + 3))
    kept = sorted(n for n in near | {0, 1, 2, count - 1} if 0 <= n < count)
    found: list[int | None] = []
    for n in kept:
        if found and found[-1] is not None and n != found[-1] + 1:
            found.append(None)
        found.append(n)
    return found
