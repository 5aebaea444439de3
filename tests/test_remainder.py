"""What a float of a logsumexp leaves out is read by all that reads the weights again."""

from __future__ import annotations

from irc.codegen.expr import Op, loads, walk
from irc.graph.ir import bodies, remainder_name
from irc.passes.differentiate import differentiate
from irc.passes.remainder import with_remainders
from tests.proof.test_flow import graph_of

SINK = """attention sinks {
  size B, S, D
  input q[B,S,D], sink[B]
  core o[b,i,d] {
    score q[b,i,c] * q[b,j,c]
    softmax j with sink[b]
    matmul q[b,j,d]
  }
  return o
}"""


def test_weights_of_sinks_are_made_with_the_remainder() -> None:
    backward = differentiate(graph_of(SINK))
    (lse,) = (n.name for n in backward.inputs if n.role == "saved" and n.name.endswith("lse"))
    made = with_remainders(backward, {remainder_name(lse)})
    weights = [
        e
        for node in made
        for body in bodies(node)
        for e in walk(body)
        if isinstance(e, Op) and e.name in ("exp", "share") and any(x.tensor == lse for x in loads(e))
    ]
    assert len(weights) >= 2  # of keys, and of the sink
    assert all(any(x.tensor == remainder_name(lse) for x in loads(e)) for e in weights)
