"""The order of a sum of products over several indices: which factors are multiplied and summed first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from irc.codegen.expr import Axis, Expr, indices, op

Sum = Callable[[list[str], Expr], Expr]


def contract(factors: list[Expr], missing: list[str], axes: Mapping[str, Axis], reduce: Sum) -> Expr:
    """The sum over `missing` of the product of `factors`, as sums of as few factors as can be.

    `x[s,e] * Wq[e,c] * x[t,f] * Wk[f,c]` becomes two projections and one product. Next comes the index whose factors
    stand furthest to the left and closest together, one whose sum has a query and a key index last. Indices of the
    factors chosen that stand nowhere else are summed with it, so a sum of two factors is one node. One that has a query
    and a key index takes what would be summed after it, since values of pairs do not meet each other:
    `q[h,i,c] * k[h,j,c] * mix[h,g]` is one longer dot product.
    """
    factors, missing = list(factors), list(missing)
    while missing:
        uses = [indices(f) for f in factors]
        places = {n: [k for k, used in enumerate(uses) if n in used] for n in missing}

        def order(name: str, uses: list[frozenset[str]] = uses, at: dict[str, list[int]] = places) -> tuple[int, ...]:
            left = {axes[n].role for k in at[name] for n in uses[k] if n in axes and n not in at}
            return (int({"row", "column"} <= left), at[name][-1], -at[name][0])

        first = min(missing, key=order)
        taken = _all_of(first, uses, places) if order(first)[0] else places[first]
        over = [n for n in missing if set(places[n]) <= set(taken)]
        total = reduce(over, product([factors[k] for k in taken]))
        factors = [total if k == taken[0] else f for k, f in enumerate(factors) if k not in taken[1:]]
        missing = [n for n in missing if n not in over]
    return product(factors)


def _all_of(name: str, uses: list[frozenset[str]], places: Mapping[str, list[int]]) -> list[int]:
    """The factors that the index stands in, those that have another summed index in common with them, and so on."""
    taken: list[int] = []
    more = places[name]
    while len(more) > len(taken):
        taken = more
        met = frozenset().union(*(uses[k] for k in taken)) & places.keys()
        more = [k for k, used in enumerate(uses) if used & met]
    return taken


def product(factors: list[Expr]) -> Expr:
    result = factors[0]
    for factor in factors[1:]:
        result = op("mul", result, factor)
    return result
