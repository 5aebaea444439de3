"""`causal` and `window` through whole programs: each verdict against what changing an input shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from irc.grammar.source import Source
from irc.graph.ir import Graph
from irc.pipeline import front
from irc.proof.claim import Answer
from irc.proof.decide import decide
from irc.proof.properties import claims
from tests.proof.dependence import furthest, states

CORE = """
  core o[b,h,i,d] {{
    {align}
    score q[b,h,i,c] * k[b,h,j,c]
    allow {allow}
    softmax j
    matmul v[b,h,j,d]
  }}"""
BLOCK = """attention block {{
  size B, S, H, D, E = H * D
  {more}
  input x[B,S,E]
  param Wq[E,(H D)], Wk[E,(H D)], Wv[E,(H D)], one[S]
  project {{
    {before}
    q[b,h,s,d] = {x}[b,s,e] * Wq[e,(h d)]
    k[b,h,s,d] = {x}[b,s,e] * Wk[e,(h d)]
    v[b,h,s,d] = {x}[b,s,e] * Wv[e,(h d)]
  }}
  {core}
  merge {{
    {after}
  }}
  return y
  ensure {ensure}
}}"""


def block(
    allow: str = "j <= i",
    before: str = "",
    x: str = "x",
    after: str = "y[b,s,(h d)] = o[b,h,s,d]",
    ensure: str = "causal",
    align: str = "",
    more: str = "",
) -> str:
    return BLOCK.format(
        more=more, before=before, x=x, after=after, ensure=ensure, core=CORE.format(allow=allow, align=align)
    )


def cache(allow: str, align: str = "align last", ensure: str = "causal", more: str = "") -> str:
    """Queries and keys of different sizes."""
    core = CORE.format(allow=allow, align=align)
    return f"""attention cache {{
  size B, Sq, Sk, H, D
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D]
  {more}
  {core}
  return o
  ensure {ensure}
}}"""


def layers(masks: tuple[str, ...], ensure: str) -> str:
    """Cores on what others give, without residuals."""
    text, read = "attention layers {\n size B, S, D\n input x[B,S,D]\n", "x"
    for k, mask in enumerate(masks):
        text += f""" core a{k}[b,i,d] {{
    score {read}[b,i,c] * {read}[b,j,c]
    allow {mask}
    softmax j
    matmul {read}[b,j,d]
  }}
"""
        read = f"a{k}"
    return text + f" return {read}\n ensure {ensure}\n}}"


def two_layers(first: str, second: str, ensure: str = "causal") -> str:
    """A core on what another one gives."""
    return f"""attention layers {{
  size B, S, D
  input x[B,S,D]
  scalar w: int
  assume w >= 1
  core a[b,i,d] {{
    score x[b,i,c] * x[b,j,c]
    allow {first}
    softmax j
    matmul x[b,j,d]
  }}
  project {{ z[b,s,d] = a[b,s,d] + x[b,s,d] }}
  core y[b,i,d] {{
    score z[b,i,c] * z[b,j,c]
    allow {second}
    softmax j
    matmul z[b,j,d]
  }}
  return y
  ensure {ensure}
}}"""


RESHAPED = (
    """attention reshaped {
  size B, S, H, D
  input x[B,S,(H D)]
  param one[H,S,D]
  project {
    q[b,h,s,d] = x[b, (h * S + s) // H, ((h * S + s) % H) * D + d] * one[h,s,d]
    k[b,h,s,d] = x[b, (h * S + s) // H, ((h * S + s) % H) * D + d] * one[h,s,d]
    v[b,h,s,d] = x[b, (h * S + s) // H, ((h * S + s) % H) * D + d] * one[h,s,d]
  }"""
    + CORE.format(align="", allow="j <= i")
    + """
  return o
  ensure causal
}"""
)
REVERSED = "z[b,s,e] = x[b,S - 1 - s,e] * one[s]"
TWICE = REVERSED + "\n    w[b,s,e] = z[b,S - 1 - s,e] * one[s]"
BACK = "y[b,s,(h d)] = o[b,h,S - 1 - s,d] * one[s]"
RASTER = """attention raster {
  size B, Y, X, D
  input q[B,(Y X),D], k[B,(Y X),D], v[B,(Y X),D]
  core o[b,(yi xi),d] {
    score q[b,(yi xi),c] * k[b,(yj xj),c]
    allow %s
    softmax (yj xj)
    matmul v[b,(yj xj),d]
  }
  return o
  ensure causal
}"""
HEADS_FIRST = """attention heads {
  size B, S, H, D
  input q[B,H,S,D], k[B,(H S),D], v[B,(H S),D]
  core o[b,h,i,d] over h: H, i: S, j: S {
    score q[b,h,i,c] * k[b,(h j),c]
    allow %s
    softmax j
    matmul v[b,(h j),d]
  }
  return o
  ensure causal
}"""

Start = Callable[[Mapping[str, int]], int]


@dataclass(frozen=True)
class Case:
    """`read` and `written`: the token dimension of each tensor; `start`: where row 0 of queries and outputs sits."""

    text: str
    holds: bool
    sizes: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"B": (1,), "S": (1, 2, 4), "H": (2,), "D": (1,)})
    read: dict[str, int] = field(default_factory=lambda: {"x": 1})
    written: dict[str, int] = field(default_factory=lambda: {"y": 1})
    rows: tuple[str, ...] = ()
    start: Start = lambda sizes: 0
    width: Start | None = None
    heads: bool = False  # the token dimension of an input is (h s)


CACHE = {
    "sizes": {"B": (1,), "Sq": (1, 2, 3), "Sk": (1, 3), "H": (1,), "D": (2,)},
    "read": {"q": 2, "k": 2, "v": 2},
    "written": {"o": 2},
    "rows": ("q", "o"),
}
LAST: Start = lambda s: s["Sk"] - s["Sq"]  # noqa: E731
LAYERS = {"sizes": {"B": (1,), "S": (1, 2, 4, 5), "D": (1,)}, "read": {"x": 1}, "written": {"y": 1}}
DEEP = {"sizes": {"B": (1,), "S": (1, 4, 6), "D": (1,)}, "read": {"x": 1}, "written": {"a3": 1}}
PIXELS = {"sizes": {"B": (1,), "Y": (1, 2), "X": (1, 2, 3), "D": (1,)}, "written": {"o": 1}}
KEPT = {"sizes": {"B": (1,), "S": (1, 2, 4), "N": (2,), "D": (1,)}, "read": {"q": 1, "k": 1, "v": 1, "u": 1}}
PIXELS["read"] = {"q": 1, "k": 1, "v": 1}
MEMORY = """attention memory {
  size B, S, N, D
  input q[B,S,D], k[B,S,D], v[B,S,D], %s
  core far[b,i,d] {
    score q[b,i,c] * %s
    softmax n
    matmul %s
  }
  core near[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow j <= i
    softmax j
    matmul v[b,j,d]
  }
  merge { y[b,s,d] = %s + near[b,s,d] }
  return y
  ensure causal
}"""  # the first core has rows of a batch alone: each token has keys of its own


def memory(declared: str, keys: str, after: str = "far[b,s,d]", values: str | None = None) -> str:
    return MEMORY % (declared, keys, (values or keys).replace(",c]", ",d]"), after)


SHIFTED = "y[b,s,(h d)] = o[b,h,min(s + 1, S - 1),d] * one[s]"
MEAN = "m[b,e] = sum(s: x[b,s,e]) / S\n z[b,s,e] = x[b,s,e] - m[b,e]"
RUNNING = "z[b,s,e] = sum(t: where(t <= s, x[b,t,e], 0)) * one[s]"
PREVIOUS = "z[b,s,e] = where(s > 0, x[b,max(s - 1, 0),e], 0) * one[s]"
NEXT = "z[b,s,e] = where(s + 1 < S, x[b,min(s + 1, S - 1),e], 0) * one[s]"

CASES = {
    "plain": Case(block(), True),
    "residual": Case(block(after="y[b,s,(h d)] = o[b,h,s,d] + x[b,s,(h d)]"), True),
    "complement": Case(block("j > i"), False),
    "transposed": Case(block("i <= j"), False),
    "one ahead": Case(block("j <= i + 1"), False),
    "no mask": Case(block("true"), False),
    "tokens into heads": Case(RESHAPED, False, written={"o": 2}),
    "reversed": Case(block(before=REVERSED, x="z"), False),
    "reversed twice": Case(block(before=TWICE, x="w"), True),
    "reversed and back": Case(block("j >= i", before=REVERSED, x="z", after=BACK), True),
    "reversed, mask not": Case(block(before=REVERSED, x="z", after=BACK), False),
    "merge reads the next": Case(block(after=SHIFTED), False),
    "mean over tokens": Case(block(before=MEAN, x="z"), False),
    "running sum": Case(block(before=RUNNING, x="z"), True),
    "previous token": Case(block(before=PREVIOUS, x="z"), True),
    "next token": Case(block(before=NEXT, x="z"), False),
    "next token, strict mask": Case(block("j < i", before=NEXT, x="z", after="y[b,s,(h d)] = o[b,h,s,d]"), False),
    "same offset for queries and keys": Case(block("j <= pos(i)", align="align offset 1"), False),
    "gate": Case(block("j <= i and gate[b,j] > 0", more="input gate[B,S]"), True, read={"x": 1, "gate": 1}),
    "gate first": Case(block("gate[b,j] > 0 and j <= i", more="input gate[B,S]"), True, read={"x": 1, "gate": 1}),
    "gate of the future": Case(block("j <= i and gate[b,S-1-j] > 0", more="input gate[B,S]"), False, read={"gate": 1}),
    "mean of another input": Case(
        block(before="m[b,e] = sum(s: u[b,s,e]) / S\n z[b,s,e] = x[b,s,e] + m[b,e]", x="z", more="input u[B,S,E]"),
        False,
        read={"u": 1},
    ),
    "last token of another input": Case(
        block(after="y[b,s,(h d)] = o[b,h,s,d] + u[b,S - 1,(h d)]", more="input u[B,S,E]"), False, read={"u": 1}
    ),
    "first token of another input": Case(
        block(after="y[b,s,(h d)] = o[b,h,s,d] + u[b,0,(h d)]", more="input u[B,S,E]\n assume S >= 1"),
        True,
        read={"u": 1},
    ),
    "heads and tokens in one axis": Case(
        HEADS_FIRST % "j <= i", True, read={"k": 1, "v": 1}, written={"o": 2}, heads=True
    ),
    "heads and tokens in one axis, leaking": Case(
        HEADS_FIRST % "j <= i + 1", False, read={"k": 1, "v": 1}, written={"o": 2}, heads=True
    ),
    "layers": Case(two_layers("j <= i", "j <= i"), True, **LAYERS),
    "second layer leaks": Case(two_layers("j <= i", "j <= i + 1"), False, **LAYERS),
    "first layer leaks": Case(two_layers("j <= i + w", "j <= i"), False, **LAYERS),
    "layers undo each other": Case(two_layers("j <= i + 1", "j <= i - 1"), False, **LAYERS),
    "cache": Case(cache("j <= pos(i)"), True, start=LAST, **CACHE),
    "cache, aligned first": Case(cache("j <= pos(i)", "align first"), True, **CACHE),
    "cache, position lost": Case(cache("j <= i + Sq"), False, start=LAST, **CACHE),
    "raster": Case(RASTER % "yj < yi or yj == yi and xj <= xi", True, **PIXELS),
    "quadrant": Case(RASTER % "yj <= yi and xj <= xi", True, **PIXELS),
    "rows": Case(RASTER % "yj <= yi", False, **PIXELS),
    "window": Case(block("i - 2 < j and j <= i", ensure="window(2)"), True, width=lambda s: 2),
    "window off by one": Case(block("i - 2 <= j and j <= i", ensure="window(2)"), False, width=lambda s: 2),
    "no window": Case(block("j <= i", ensure="window(2)"), False, width=lambda s: 2),
    "window of layers": Case(two_layers("i - 2 < j", "i - 2 < j", "window(3)"), True, width=lambda s: 3, **LAYERS),
    "windows add up": Case(two_layers("i - 2 < j", "i - 2 < j", "window(2)"), False, width=lambda s: 2, **LAYERS),
    "windows of four": Case(layers(("i - 2 < j and j <= i",) * 4, "window(5)"), True, width=lambda s: 5, **DEEP),
    "windows of four add up": Case(
        layers(("i - 2 < j and j <= i",) * 4, "window(4)"), False, width=lambda s: 4, **DEEP
    ),
    "four layers, the third leaks": Case(layers(("j <= i", "j <= i", "j <= i + 1", "j <= i"), "causal"), False, **DEEP),
    "window of a cache": Case(
        cache("pos(i) - 2 < j and j <= pos(i)", ensure="window(2)"), True, start=LAST, width=lambda s: 2, **CACHE
    ),
    "keys of each token": Case(memory("u[B,S,N,D]", "u[b,i,n,c]"), True, **KEPT),
    "keys of each token, shifted": Case(
        memory("u[B,S,N,D]", "u[b,i,n,c]", "where(s + 1 < S, far[b,min(s + 1, S - 1),d], 0)"), False, **KEPT
    ),
    "keys of the next token": Case(memory("u[B,S,N,D]", "u[b,min(i + 1, S - 1),n,c]"), False, **KEPT),
    "keys are all tokens": Case(
        memory("u[B,S,S,D]", "u[b,i,n,c]", values="where(true, v[b,n,c], u[b,i,n,c])"), False, **KEPT
    ),
    "window by rows": Case(
        cache("i - 2 < j and j <= pos(i)", ensure="window(2)"), False, start=LAST, width=lambda s: 2, **CACHE
    ),
}


def graph_of(text: str) -> Graph:
    return front(Source("test", text))


def answers(graph: Graph) -> list[Answer]:
    return [decide(claim, graph) for promise in graph.properties for claim in claims(promise, graph)]


def verdict(graph: Graph) -> str:
    found = {a.status for a in answers(graph)}
    return "refuted" if "refuted" in found else "unknown" if "unknown" in found else "proved"


@pytest.mark.parametrize("name", CASES)
def test_order_of_tokens_is_what_changing_inputs_shows(name: str) -> None:
    case = CASES[name]
    graph = graph_of(case.text)
    assert verdict(graph) == ("proved" if case.holds else "refuted")
    broken = False
    for sizes, inputs in states(graph, case.sizes):
        begin = case.start(sizes)
        read = {n: (dim, begin if n in case.rows else 0) for n, dim in case.read.items()}
        written = {n: (dim, begin if n in case.rows else 0) for n, dim in case.written.items()}
        for at, seen in furthest(graph, inputs, sizes, read, written):
            seen = seen % sizes["S"] if case.heads else seen
            broken |= seen > at if case.width is None else seen <= at - case.width(sizes)
    assert broken != case.holds
