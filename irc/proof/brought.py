"""Which tensors come with the tokens of a call, and which are weights, the same for every call.

`input` and integers come with them. `const` says that a tensor receives no gradient, which caches, frozen keys and what
is given for inference do not either: it comes with the tokens where its entries are tokens. So does a `param` that has
entries of the batch too.
"""

from __future__ import annotations

from irc.codegen.expr import Kind
from irc.ir import Input, shape
from irc.proof.tokens import Tokens, factors


def brought(found: Tokens) -> frozenset[str]:
    return frozenset(n.name for n in found.graph.inputs if n.shape and _is_brought(n, found))


def _is_brought(node: Input, found: Tokens) -> bool:
    if node.role == "input" or node.kind is not Kind.FLOAT:
        return True
    if node.role == "param":
        return bool(found.of(node.name)) and _has_batch(node, found)
    if _has_batch(node, found):
        return bool(found.of(node.name)) or node.name in found.reached
    return bool(found.asked(node.name)) and (node.name in found.alone or node.name not in found.reached)


def _has_batch(node: Input, found: Tokens) -> bool:
    """Whether a dimension runs over the batch: an output's first dimension, where that is not tokens, or its first
    part."""
    lengths = [n for c in found.cores for n in (found.rows(c), found.columns(c))]
    first = [sizes[0] for _, name in found.graph.outputs if (sizes := shape(found.graph[name]))]
    whole = [s for s in first if not any(found.same(s, n) for n in lengths)]
    batch = [*whole, *(factors(s)[0].size for s in whole)]
    parts = [part for s in node.shape for part in (s, *(a.size for a in factors(s)))]
    return any(found.same(part, s) for part in parts for s in batch)
