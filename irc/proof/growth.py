"""Two states of one program: the full computation, and one step of decoding against what has been cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Literal

from irc.codegen.expr import FALSE, TRUE, Axis, Const, Expr, Index, Load, Size, indices, integer, loads, op, substitute
from irc.graph.ir import Core, Fact, Graph, Map, Reduce, bodies, grouped, operands, shape
from irc.graph.size import Polynomial, expression, polynomial, text
from irc.proof.claim import Claim
from irc.proof.decide import is_proved
from irc.proof.flow import PropertyError, Undecided, Unplaced, all_of, inline, reads_floats
from irc.proof.tokens import factors

Kind = Literal["row", "token", "fixed"]


@dataclass(frozen=True, slots=True)
class Growth:
    """The program's own sizes are those of the full computation. While decoding they are `sizes`, where `step` counts
    the tokens before the last one. Rows (of size `rows`) are then one, row 0, which is row `step` of the full
    computation; without `rows`, every row and key up to `step` is there. Entries of size `tokens` keep their index and
    are there up to `step`. `full` and `sizes` also hold what an offset of `align` says of its table; `given` holds
    of both states. Steps that break one of `kept`, facts in words, decode rows without keys alone."""

    step: Axis
    sizes: Mapping[Expr, Expr]
    full: Mapping[Expr, Expr]
    rows: Expr | None
    tokens: Expr | None
    given: tuple[Expr, ...]
    kept: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether tables of tokens have their full size from the start, beyond `step` holding anything."""
        return self.rows is not None and self.tokens not in self.sizes

    def kind(self, size: Expr) -> Kind:
        """How an axis of that size changes. Raises Undecided where it is neither tokens nor fixed."""
        if size == self.rows:
            return "row"
        if size == self.tokens:
            return "token"
        if substitute(size, dict(self.sizes)) != size:
            raise Undecided(f"an axis of size {text(size)} changes with every token, and is no axis of tokens")
        return "fixed"


def growth(graph: Graph) -> Growth:
    """How the program grows by a token; sizes with a definition are written out. Raises PropertyError where it does
    not."""
    cores = [c for c in graph.cores if c.rows and c.position]
    if not cores:
        raise Unplaced("no core of the program says where its queries sit among its keys, so there is no row to decode")
    cores = [c for c in cores if not all(isinstance(a.size, Const) for a in (*c.rows, *c.columns))] or cores
    if any(len(c.rows) > 1 for c in cores):
        raise Undecided("tokens with two indices or more do not grow one at a time")
    uneven = [c for c in cores if c.rows[0].size != c.columns[0].size]
    core = (uneven or cores)[0]
    rows, keys = core.rows[0].size, core.columns[0].size
    _open(core, rows, "queries")
    taken = {a.name for node in graph for a in (*getattr(node, "axes", ()), *getattr(node, "over", ()))}
    taken |= {node.name for node in graph} | {name for name, _ in graph.sizes}
    name = "t"
    while name in taken:
        name += "'"
    by_table = [x for p in core.position for x in loads(p)]
    if not uneven:
        step = Axis(name, rows)
        found = Growth(step, {rows: op("add", step.index, integer(1))}, {}, None, rows, ())
    elif by_table:
        found = _by_offset(core, Axis(name, rows), by_table, graph)
    else:
        _open(core, keys, "keys")
        step = Axis(name, keys)
        sizes: dict[Expr, Expr] = {rows: integer(1), keys: op("add", step.index, integer(1))}
        found = Growth(step, sizes, {}, rows, keys, (op("eq", rows, keys),))
    if any((c.rows[0].size, c.columns[0].size) not in ((rows, keys), (rows, rows)) for c in cores):
        raise Undecided("the cores of the program run over different sizes, and it is not clear which of them grow")
    return _with_facts(found, core, graph)


def _open(core: Core, size: Expr, what: str) -> None:
    if isinstance(size, Size):
        return
    if isinstance(size, Const):
        raise PropertyError(
            f"{what} of core `{core.name}` run over {text(size)}, which is fixed: nothing can be appended",
            "leave the size open, as in `size S`",
        )
    raise Undecided(f"{what} of core `{core.name}` run over {text(size)}, which does not grow by one")


def _by_offset(core: Core, step: Axis, tables: list[Load], graph: Graph) -> Growth:
    """`align offset e`: a step decodes the row at position `step`, the full computation starts at position 0. The cache
    has its full size from the start, and what lies beyond `step` is not there yet."""
    if len(core.columns) > 1:
        raise Undecided("keys with two indices or more do not grow one at a time")
    rows, (place,) = step.size, core.position
    offset = polynomial(place, {}) - polynomial(core.rows[0].index, {})
    read = {x for node in graph for e in bodies(node) for x in loads(e)}
    for load in tables:
        rest = expression(offset - Polynomial((((load,), 1),)))
        alone = all(x == load for x in read if x.tensor == load.tensor)
        if alone and load not in loads(rest) and core.rows[0].name not in indices(rest):
            now: dict[Expr, Expr] = {rows: integer(1)}
            now[load] = op("sub", step.index, substitute(rest, now))
            return Growth(step, now, {load: op("sub", integer(0), rest)}, rows, core.columns[0].size, ())
    raise Undecided(f"it cannot be told from the offset of `align` in core `{core.name}` where a decoded row sits")


def _with_facts(found: Growth, core: Core, graph: Graph) -> Growth:
    """With what is assumed of sizes and scalars, and of the table of an offset, in both states. Of other tables it is
    assumed of the full computation alone. Raises PropertyError where a state cannot keep what is assumed: everything
    would follow."""
    given = list(found.given)
    offsets = [x for x in found.full if isinstance(x, Load)]
    if given and not _possible(given, found, core, graph):
        raise PropertyError(f"what the program assumes lets no computation have as many {_counts(found)}")
    for fact in graph.facts:
        if fact.nondecreasing is None:
            matches = _instances(fact.predicate, offsets) if fact.free else [{}]
            here = [substitute(fact.predicate, m) for m in matches]
            new = [substitute(p, dict(state)) for p in here for state in (found.sizes, found.full)]
            new = [p for p in new if p not in (fact.predicate, TRUE)]
            given += new
            both = [] if new else [fact.predicate, substitute(fact.predicate, dict(found.sizes))]
            if (new or both[0] != both[1]) and not _possible([*given, *both], found, core, graph):
                raise PropertyError(f"the program assumes {fact.text}, which one query against a cache breaks")
    return replace(found, given=tuple(dict.fromkeys(given)), kept=_tied(found, graph))


def _tied(found: Growth, graph: Graph) -> tuple[str, ...]:
    """What is assumed of a number that the program reads, or of a table without tokens, and changes with every token,
    as `pad[b] <= S` does. Raises Undecided where a step may have to be given another one than the full computation: but
    where those that the assumption forbids decode rows without keys."""
    offsets = {x.tensor for x in found.full if isinstance(x, Load)}
    loose = {n.name for n in graph.inputs if not {found.rows, found.tokens} & {*n.shape}} - offsets
    tied: dict[str, Fact] = {}
    for fact in graph.facts * len(graph.facts):  # one fact may tie a table to what another one ties
        names = {x.tensor for x in loads(fact.predicate)}
        if names & tied.keys() or _changes(fact, found):
            tied |= {name: fact for name in sorted(names & loose - tied.keys())}
    read = {name for _, name in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in read:
            read.update(operands(node))
    kept: dict[str, None] = {}
    for name in (n for n in tied if n in read):
        about = [(fact, {x.tensor for x in loads(fact.predicate)}) for fact in graph.facts]
        others = tied.keys() - {name}
        binding = [f for f, names in about if name in names and (names & others or _changes(f, found))]
        if not all(_forbids_empty_rows(fact, found, graph) for fact in binding):
            why = f"so a step may need another `{name}` than the whole run"
            raise Undecided(f"the program assumes {tied[name].text}, {why}; an assumption that is not needed may go")
        kept |= dict.fromkeys(fact.text for fact in binding)
    return tuple(kept)


def _changes(fact: Fact, found: Growth) -> bool:
    return substitute(fact.predicate, dict(found.sizes)) != fact.predicate


def _forbids_empty_rows(fact: Fact, found: Growth, graph: Graph) -> bool:
    """Whether a step of each core that breaks the fact, as the full computation does not, has no key."""
    if not _changes(fact, found):
        return False
    for core in (c for c in graph.cores if c.rows):
        mask = inline(core.support or TRUE, graph)
        row: dict[Expr, Expr] = {core.rows[0].index: found.step.index}
        matches = _instances(fact.predicate, list(loads(mask))) if fact.free else [{}]
        if reads_floats(mask) or not matches:
            return False
        here = [substitute(fact.predicate, m) for m in matches]
        broken = (op("not", substitute(p, dict(found.sizes))) for p in here)
        whole = (substitute(p, dict(found.full)) for p in here)
        given = all_of([*found.given, *whole, reduce(partial(op, "or"), broken)])
        goal = op("not", substitute(substitute(mask, row), dict(found.full)))
        free = (*core.batch, *core.columns, found.step)
        if not is_proved(Claim(f"a step that breaks {fact.text} has no key", free, goal, given), graph):
            return False
    return True


def _counts(found: Growth) -> str:
    assert found.rows is not None and found.tokens is not None
    return f"queries, {text(found.rows)}, as keys, {text(found.tokens)}"


def _possible(given: list[Expr], found: Growth, core: Core, graph: Graph) -> bool:
    """Whether the facts and what is given let a step decode between the first token and the last one."""
    step = found.step.index
    between = (op("lt", integer(0), step), op("lt", op("add", step, integer(1)), found.step.size))
    claim = Claim("no step of decoding", (*core.batch, found.step), FALSE, all_of([*given, *between]))
    return not is_proved(claim, graph)


def _instances(predicate: Expr, read: list[Load]) -> list[dict[Expr, Expr]]:
    """What the free indices of a fact are where it speaks of an element that is read."""
    found: list[dict[Expr, Expr]] = []
    for pattern in loads(predicate):
        for load in read:
            if load.tensor == pattern.tensor and all(isinstance(i, Index) for i in pattern.indices):
                match = dict(zip(pattern.indices, load.indices, strict=True))
                if indices(predicate) <= {i.name for i in match if isinstance(i, Index)}:
                    found.append(match)
    return found


def dimensions(name: str, graph: Graph) -> tuple[tuple[Axis, ...], ...]:
    """The axes that make up each dimension of a tensor."""
    node = graph[name]
    if isinstance(node, Map | Reduce):
        return grouped(node.axes, node.groups)
    return tuple(factors(size) for size in shape(node))
