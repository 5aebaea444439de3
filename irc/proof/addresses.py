"""Whether what is read through tables is the entry of one token.

`pool[page[b, j // Z], j % Z]` and `pool[first[b] + j]` are those of token j, wherever the tables put it;
`pool[page[b, (j + 1) // Z], (j + 1) % Z]` is that of the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from irc.codegen.expr import Expr, Load, Op, indices, is_lookup


def of_token(
    read: Iterable[Expr], token: Expr, parts: Sequence[Expr], moving: frozenset[str], picks: bool = False
) -> bool:
    """Whether the expressions that choose an entry stand for `token`, whose indices are `parts`, and for no other.

    It must stand there as it is, whole or as a quotient and a remainder, alone or beside entries of tables, and nothing
    else of the indices `moving` may, but to choose a table: `page[segment(cu, i), j // Z]` is of the query's sequence.
    With `picks` another table may choose it alone: of `page[i, j]`, j is the number of a pick of query i.
    """
    own = frozenset(n for part in parts for n in indices(part))
    seen: set[Expr] = set()
    halves: dict[tuple[Expr, Expr], set[str]] = {}
    rest = list(read)
    while rest:
        e = rest.pop()
        if e in seen or not indices(e) & moving:
            continue
        seen.add(e)
        match e:
            case _ if e == token or e in parts:
                pass
            case Load(_, at, _):
                if picks and not all(indices(i) & own or chosen(i, moving) for i in at):
                    return False
                rest += [i for i in at if indices(i) & own]
            case Op("flat", args, _):
                rest += args[::2]
            case Op("floordiv" | "mod" as name, (whole, by), _) if not indices(by) & moving:
                both = halves.setdefault((whole, by), set())
                both.add(name)
                rest += [whole] if len(both) == 2 else []
            case Op("add" | "mul", _, _):
                terms = [(t, _entry(t, moving)) for t in _terms(e)]
                others = [t for t, entry in terms if entry is None]
                if e in others or len(others) > 1 or not all(indices(t) & moving for t in others):
                    return False
                rest += [entry or t for t, entry in terms]
            case _:
                return False
    found = token in seen or all(p in seen for p in parts)
    return found and all(whole in seen for whole, _ in halves)


def chosen(e: Expr, moving: frozenset[str]) -> bool:
    """Whether an expression has those of its indices that move from tables alone."""
    return is_lookup(e) or not indices(e) & moving or (isinstance(e, Op) and all(chosen(a, moving) for a in e.args))


def _terms(e: Expr) -> list[Expr]:
    return [t for arg in e.args for t in _terms(arg)] if isinstance(e, Op) and e.name == "add" else [e]


def _entry(term: Expr, moving: frozenset[str]) -> Expr | None:
    """The entry of a table that the term is a multiple of."""
    match term:
        case Op("mul", (Load() as entry, by), _) | Op("mul", (by, Load() as entry), _) if not indices(by) & moving:
            return entry if entry.indices else None
        case Load(_, at, _) if at:
            return term
        case _:
            return None
