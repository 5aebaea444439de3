"""Which tensors come with the tokens of a call, and which are weights, the same for every call.

`input` and integers come with them. `const` says that a tensor receives no gradient, which caches, frozen keys and what
is given for inference do not either: it comes with the tokens where its entries are tokens. So does a `param` that has
entries of the batch too.
"""

from __future__ import annotations

from irc.codegen.expr import Kind
from irc.graph.ir import Input
from irc.proof.tokens import Tokens


def brought(found: Tokens) -> frozenset[str]:
    return frozenset(n.name for n in found.graph.inputs if n.shape and _is_brought(n, found))


def _is_brought(node: Input, found: Tokens) -> bool:
    if node.role == "input" or node.kind is not Kind.FLOAT:
        return True
    if node.role == "param":
        return bool(found.asked(node.name)) and found.has_batch(node)
    if found.has_batch(node):
        return bool(found.of(node.name)) or node.name in found.reached
    return bool(found.asked(node.name)) and (node.name in found.alone or node.name not in found.reached)
