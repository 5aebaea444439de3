"""Which indices of a core are query rows: the kernels put them against the softmax indices, the keys."""

from __future__ import annotations

from collections.abc import Iterator

from irc.codegen.expr import Expr
from irc.elaborate.names import expanded, index_names, names, parts
from irc.elaborate.scope import LetBinding, Lets, Scope
from irc.grammar.syntax import (
    Access,
    Align,
    Binary,
    Call,
    Compare,
    Core,
    Drop,
    Expression,
    Group,
    Let,
    Name,
    Normaliser,
    Stage,
    Stat,
)


def with_lets(core: Core, lets: Lets) -> list[tuple[Stage, Lets]]:
    """The expression stages, each with the lets that it sees."""
    return [(s, seen) for s, seen in statements(core, lets) if isinstance(s, Stage)]


def statements(core: Core, lets: Lets) -> Iterator[tuple[Align | Stage | Normaliser | Drop | Stat, Lets]]:
    """The statements of a core but its lets, each with the lets that it sees."""
    seen = dict(lets)
    for statement in core.statements:
        if isinstance(statement, Let):
            seen = {**seen, statement.name.id: LetBinding(statement.value, statement.name.span, seen)}
        else:
            yield statement, seen


def rows(
    core: Core, header: tuple[str, ...], columns: tuple[str, ...], sizes: dict[str, Expr], scope: Scope, lets: Lets
) -> list[str]:
    """The query indices, in the order of the header.

    Candidates are indices of the header that are no feature and that the operand of `matmul` does not mention, but for
    where a table is told how far a key is: heads and batch entries have their own values. Where none of them is
    compared with a key, one is that has its own values but no keys (`matmul z[b,i,j]`). Of several, one that shares its
    keys with others stands before one that has its own; then one that is compared with a key, before one of the same
    size, and that before the last.
    What stands with it in a product axis is a query index too, unless the values mention it: in q[b,h,(n i),c] with
    values v[b,h,(n j),d], a block n is an entry of a batch. Without a product axis, as many likely ones as there are
    keys have a key each.
    """
    stages = with_lets(core, lets)
    given = {n for s, seen in stages if s.kind == "matmul" for n in index_names(s.value, scope, seen)}
    others = {n for s, seen in stages if s.kind != "matmul" for n in index_names(s.value, scope, seen)}
    members = [n for n in header if n in others]
    compared = _compared(stages, columns, scope)
    candidates = [n for n in members if n not in given] or [n for n in members if n in compared]
    if not candidates:
        own = set().union(*(_own_names(s.value, columns, scope, seen) for s, seen in stages if s.kind == "matmul"))
        alike = {n for n in members if any(scope.same(sizes[n], sizes[c]) for c in columns)}
        candidates = [n for n in members if n in alike - own]
    if not candidates:
        return []
    keyed = _keyed(stages, columns, scope)
    if not compared & set(candidates):
        candidates = [n for n in members if n in compared - keyed] or candidates
    candidates = [n for n in candidates if n not in keyed] or candidates
    likely = [n for n in candidates if n in compared] or [
        n for n in candidates if any(scope.same(sizes[n], sizes[c]) for c in columns)
    ]
    chosen = (likely or candidates)[-1]
    for group in _groups(core, stages):
        if chosen in group and all(n in members for n in group):
            return [n for n in header if n in group and (n in given) == (chosen in given)]
    return likely if len(likely) == len(columns) else [chosen]


def _keyed(stages: list[tuple[Stage, Lets]], columns: tuple[str, ...], scope: Scope) -> set[str]:
    """Indices by which every operand of the scores that has a key index differs: what has keys of its own."""
    found: list[set[str]] = []
    for stage, lets in stages:
        if stage.kind == "score":
            read = (
                _mentioned(e, columns, scope, lets)[0] for e in expanded(stage.value, lets) if isinstance(e, Access)
            )
            found += [names for names in read if names & set(columns)]
    return set.intersection(*found) if found else set()


def _compared(stages: list[tuple[Stage, Lets]], columns: tuple[str, ...], scope: Scope) -> set[str]:
    """Indices that stand in `pos(…)`, in one comparison with a key index, or beside one in a sum or a difference."""
    found: set[str] = set()
    for stage, lets in stages:
        for e in expanded(stage.value, lets):
            if isinstance(e, Call) and e.function.id == "pos":
                found |= {a.id for a in e.args if isinstance(a, Name)}
            used = set[str]()
            if isinstance(e, Compare):
                used = bare_names(e, scope, lets)
            elif isinstance(e, Binary) and e.op in "+-":
                used = set().union(
                    *(bare_names(t, scope, seen) for t, seen in _addends(e, lets) if isinstance(t, Name))
                )
            if used & set(columns):
                found |= used - set(columns)
    return found


def _own_names(e: Expression, columns: tuple[str, ...], scope: Scope, lets: Lets) -> set[str]:
    """Indices that values have as their own. Not those beside a key in a place of a table, as in T[i - j + S] and
    T[time[i] - time[j]]; but those by which keys are looked up, as in v[top[i, r] * L + l] and v[first[i] + l]. Of what
    is added to values that all queries share, those alone that go with all indices of these: i in v[h,j] + e[h,i,j],
    neither in v[h,j] + e[i,j] nor in v[j] + T[relation[i, j]]."""
    terms = [_mentioned(term, columns, scope, seen) for term, seen in _addends(e, lets)]
    whole = [plain | looked_up for plain, looked_up in terms]
    rich = (plain for plain, _ in terms if all(names <= plain for names in whole if not plain <= names))
    return set.intersection(*whole).union(*rich)


def _addends(e: Expression, lets: Lets) -> list[tuple[Expression, Lets]]:
    """What a sum adds and subtracts, each with the lets that it sees."""
    match e:
        case Binary(op="+" | "-", left=left, right=right):
            return _addends(left, lets) + _addends(right, lets)
        case Name(id=name) if name in lets:
            return _addends(lets[name].value, lets[name].lets)
    return [(e, lets)]


def _mentioned(e: Expression, columns: tuple[str, ...], scope: Scope, lets: Lets) -> tuple[set[str], set[str]]:
    """Indices that an expression mentions plainly, and those by which it looks up keys."""
    match e:
        case Access(indices=places):
            plain, looked_up = set[str](), set[str]()
            for place in places:
                read = set(index_names(place, scope, lets))
                inside = [set(index_names(x, scope, lets)) for x in expanded(place, lets) if isinstance(x, Access)]
                if not read & set(columns):
                    plain |= read
                elif inside and bare_names(place, scope, lets) & set(columns):
                    looked_up |= read
                else:
                    plain |= read & set(columns)
                    looked_up |= set().union(*(names for names in inside if names & set(columns)))
            return plain, looked_up
        case Name(id=name) if name in lets:
            return _mentioned(lets[name].value, columns, scope, lets[name].lets)
        case Name():
            return set(index_names(e, scope, lets)), set()
        case _:
            found = [_mentioned(p, columns, scope, lets) for p in parts(e)]
            return set().union(*(plain for plain, _ in found)), set().union(*(names for _, names in found))


def bare_names(e: Expression, scope: Scope, lets: Lets) -> set[str]:
    """Indices that an expression uses as numbers: neither inside the brackets of a tensor nor in `pos(…)` or
    `segment(…)`."""
    match e:
        case Access():
            return set()
        case Call(function=Name(id="pos" | "segment")):
            return set()
        case Name(id=name) if name in lets:
            return bare_names(lets[name].value, scope, lets[name].lets)
        case Name():
            return set(index_names(e, scope, lets))
        case _:
            return set().union(*(bare_names(p, scope, lets) for p in parts(e)))


def _groups(core: Core, stages: list[tuple[Stage, Lets]]) -> list[tuple[str, ...]]:
    """Product axes of the header and of the scores."""
    found = [i for i in core.outputs[0].indices if isinstance(i, Group)]
    for stage, lets in stages:
        if stage.kind == "score":
            found += [e for e in expanded(stage.value, lets) if isinstance(e, Group)]
    return [tuple(n.id for n in names(g)) for g in found]
