"""Masks, and what a person says of them: whether every row has a key, whether none lies after its query."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.expr import TRUE, op
from irc.elaborate.build import build
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.graph.ir import Graph
from irc.proof.claim import Claim

SAME = "size B, H, S, D\n input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]"
CACHE = "size B, H, Sq, Sk, D\n input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D]\n assume Sq <= Sk"
IMAGE = "size B, H, Y, X, D\n input q[B,H,(Y X),D], k[B,H,(Y X),D], v[B,H,(Y X),D]"
PLAIN = "core o[b,h,i,d] {{ {align}\n score q[b,h,i,c] * k[b,h,j,c]\n allow {allow}\n softmax j\n matmul v[b,h,j,d] }}"
FLAT = """core o[b,h,(yi xi),d] {{ score q[b,h,(yi xi),c] * k[b,h,(yj xj),c]
 allow {allow}
 softmax (yj xj)
 matmul v[b,h,(yj xj),d] }}"""


@dataclass(frozen=True)
class Mask:
    """`nonempty`, `causal`: whether they hold. `equal`: a predicate, and whether the mask is equivalent to it."""

    allow: str
    nonempty: bool
    causal: bool | None
    declare: str = ""
    tensors: str = SAME
    align: str = ""
    core: str = PLAIN
    equal: tuple[str, bool] | None = None

    def graph(self) -> Graph:
        core = self.core.format(allow=self.allow, align=self.align)
        ensure = f"\n ensure allow == ({self.equal[0]})" if self.equal else ""
        text = f"attention mask {{\n {self.tensors}\n {self.declare}\n {core}\n return o{ensure}\n}}\n"
        return build(parse(Source("<test>", text))[0])

    def claims(self) -> list[tuple[str, Claim, bool]]:
        """(name, claim, whether it holds)."""
        graph = self.graph()
        (core,) = graph.cores
        allowed = TRUE if core.support is None else core.support
        rows, pairs = (*core.batch, *core.rows), (*core.batch, *core.rows, *core.columns)
        found = [("nonempty", Claim("", rows, allowed, some=core.columns, core=core.name), self.nonempty)]
        if self.causal is not None:
            later = op("le", core.columns[0].index, core.position[0])
            found.append(("causal", Claim("", pairs, later, allowed, core=core.name), self.causal))
        if self.equal is not None:
            (wanted,) = (p.argument for p in graph.properties)
            assert wanted is not None
            found.append(("equal", Claim("", pairs, op("eq", allowed, wanted), core=core.name), self.equal[1]))
        return found


W = "scalar w: int\n assume w >= 1"
DOC = "input doc[B,S]: int"
SORTED = DOC + "\n assume nondecreasing doc[b,s] over s"
LEN = "input len[B]: int\n assume 0 <= len[b] <= S"
BLOCK = "scalar m: int\n assume m >= 1"
PACKED = """input cu[N]: int, of[B,S]: int
 assume N >= 1, nondecreasing cu[n] over n, 0 <= of[b,s] < N, 0 <= cu[of[b,s]] <= s"""
TOKENS = SAME.replace("D\n", "D, N\n", 1)
OFFSETS = "input cu[N + 1]: int\n assume nondecreasing cu[n] over n"
CU = OFFSETS + ", cu[0] == 0, cu[N] == S"
TWO = """size B, H, Sq, Sk, D, N
 input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D], x[N + 1]: int, y[N + 1]: int
 assume nondecreasing x[n] over n, nondecreasing y[n] over n, x[0] == 0, y[0] == 0, x[N] == Sq, y[N] == Sk"""
BY_SEGMENT = "align offset y[segment(x, i) + 1] - x[segment(x, i) + 1]"

MASKS: dict[str, Mask] = {
    "causal": Mask("j <= i", True, True),
    "strictly causal": Mask("j < i", False, True),
    "flipped": Mask("j >= i", True, False),
    "off by one": Mask("j <= i + 1", True, False),
    "complemented": Mask("not (j <= i)", False, False, equal=("j >= i + 1", True)),
    "last aligned": Mask("j <= pos(i)", True, True, "", CACHE, "align last"),
    "alignment lost": Mask("j <= i", True, True, "", CACHE, "align last", equal=("j <= pos(i)", False)),
    "alignment negated": Mask("j <= i + Sq - Sk", False, True, "", CACHE, "align last"),
    "first aligned": Mask("j <= pos(i)", True, True, "", CACHE, "align first"),
    "more queries than keys": Mask(
        "j <= pos(i)", False, True, "", CACHE.replace("Sq <= Sk", "Sk <= Sq"), "align last"
    ),
    "past lengths": Mask(
        "j <= pos(i)", True, True, "input past[B]: int\n assume 0 <= past[b], past[b] + Sq <= Sk", CACHE,
        "align offset past[b]",
    ),
    "sliding": Mask("i - w < j and j <= i", True, True, W, equal=("j <= i and w > i - j", True)),
    "sliding off by one": Mask("i - w <= j and j <= i", True, True, W, equal=("i - w < j and j <= i", False)),
    "sliding, any width": Mask("i - w < j and j <= i", False, True, "scalar w: int"),
    "sliding both ways": Mask("abs(i - j) < w", True, False, W),
    "sliding with a cache": Mask("pos(i) - w < j and j <= pos(i)", True, True, W, CACHE, "align last"),
    "sliding, 4096 wide": Mask("i - 4096 < j and j <= i", True, True),
    "window of 3 and not 4": Mask("i - j < 3 and j <= i", True, True, equal=("j <= i and i - j < 4", False)),
    "dilated by 4": Mask("j <= i and (i - j) % 4 == 0", True, True),
    "dilated": Mask("j <= i and (i - j) % m == 0 and i - j < w * m", True, True, W + "\n " + BLOCK),
    "dilated, wrong phase": Mask("j <= i and (i - j) % m == 1", False, True, BLOCK),
    "strided": Mask("j <= i and (i - j < w or j % m == m - 1)", True, True, W + "\n " + BLOCK),
    "strided by 128": Mask("j <= i and (i - j < 128 or j % 128 == 127)", True, True),
    "only every eighth": Mask("j <= i and j % 8 == 7", False, True),
    "global tokens": Mask("abs(i - j) < w or j < g or i < g", True, False, W + "\n scalar g: int"),
    "sink and window": Mask("j <= i and (j < 4 or i - j < w)", True, True, W),
    "prefix": Mask("j <= i or j < n[b]", True, False, "input n[B]: int\n assume 0 <= n[b] <= S"),
    "documents": Mask("doc[b,i] == doc[b,j] and j <= i", True, True, DOC),
    "documents, both ways": Mask("doc[b,i] == doc[b,j]", True, False, SORTED),
    "sorted documents": Mask(
        "doc[b,j] == doc[b,i]", True, False, SORTED, equal=("doc[b,j] <= doc[b,i] and doc[b,i] <= doc[b,j]", True)
    ),
    "earlier documents are earlier": Mask("doc[b,j] < doc[b,i]", False, True, SORTED),
    "earlier documents, unsorted": Mask("doc[b,j] < doc[b,i]", False, False, DOC),
    "padding": Mask("j < len[b]", False, False, LEN),
    "padding, none empty": Mask("j < len[b]", True, False, "input len[B]: int\n assume 1 <= len[b] <= S"),
    "padding and causal": Mask("j < len[b] and j <= i", True, True, "input len[B]: int\n assume 1 <= len[b] <= S"),
    "padding, of queries": Mask("i < len[b] and j <= i", False, True, LEN),
    "padding on the left": Mask("j >= S - len[b] and j <= i", False, True, LEN),
    "packed": Mask("cu[of[b,i]] <= j and j <= i", True, True, PACKED, SAME.replace("D\n", "D, N\n", 1)),
    "packed, offsets unordered": Mask(
        "cu[of[b,j]] <= cu[of[b,i]] and j <= i", True, True, PACKED, SAME.replace("D\n", "D, N\n", 1)
    ),
    "shared prefix": Mask(
        "j <= i and (j < n or doc[b,i] == doc[b,j])", True, True, DOC + "\n scalar n: int"
    ),
    "image and text": Mask(
        "j // p <= seen[b,i]", True, None,
        "input seen[B,Sq]: int\n scalar p: int\n assume p >= 1, 0 <= seen[b,i]", CACHE,
    ),
    "blocks of 64": Mask("i // 64 == j // 64", True, False, equal=("i - i % 64 <= j and j < i - i % 64 + 64", True)),
    "blocks": Mask("i // m == j // m", True, False, BLOCK),
    "causal blocks": Mask("j // m <= i // m", True, False, BLOCK),
    "causal in blocks": Mask(
        "i // m == j // m and j <= i", True, True, BLOCK, equal=("i - i % m <= j and j <= i", True)
    ),
    "earlier blocks": Mask("j // m < i // m", False, True, BLOCK),
    "block starts": Mask("j == i - i % m", True, True, BLOCK),
    "remainder of a negative": Mask("(j - i) % 5 == 0 and j <= i", True, True),
    "flattened image": Mask("abs(i // 8 - j // 8) <= 1 and abs(i % 8 - j % 8) <= 1", True, False),
    "batch folded": Mask("i // n == j // n and j % n <= i % n", True, True, "scalar n: int\n assume n >= 1"),
    "neighbourhood": Mask(
        "abs(yi - yj) <= r and abs(xi - xj) <= r", True, False, "scalar r: int\n assume r >= 0", IMAGE, core=FLAT
    ),
    "neighbourhood, radius 0 excluded": Mask(
        "abs(yi - yj) < r and abs(xi - xj) < r", False, False, "scalar r: int\n assume r >= 0", IMAGE, core=FLAT
    ),
    "rows above": Mask("yj <= yi and abs(xi - xj) <= 1", True, True, "", IMAGE, core=FLAT),
    "clamped neighbourhood": Mask(
        "abs(clamp(yi, r, Y - 1 - r) - yj) <= r", True, False,
        "scalar r: int\n assume 0 <= r, 2 * r < Y", IMAGE, core=FLAT,
    ),
    "tiles": Mask(
        "yi // t == yj // t and xi // t == xj // t", True, False, "scalar t: int\n assume t >= 1", IMAGE, core=FLAT
    ),
    "per-head windows": Mask(
        "i - w[h] < j and j <= i", True, True, "input w[H]: int\n assume w[h] >= 1"
    ),
    "per-head windows, any": Mask("i - w[h] < j and j <= i", False, True, "input w[H]: int"),
    "tree": Mask("anc[i,j]", True, False, "input anc[S,S]: bool\n assume anc[t,t]"),
    "tree, no ancestor later": Mask(
        "anc[i,j]", True, True, "input anc[S,S]: bool\n assume anc[t,t], not anc[s,t] or t <= s"
    ),
    "table of blocks": Mask(
        "sel[i // 2, j // 2]", True, False, "input sel[S,S]: bool\n assume sel[n,n]"
    ),
    "start within the row": Mask(
        "first[b,i] <= j and j <= i", True, True, "input first[B,S]: int\n assume 0 <= first[b,i] <= i"
    ),
    "start anywhere": Mask(
        "first[b,i] <= j and j <= i", False, True, "input first[B,S]: int\n assume 0 <= first[b,i] < S"
    ),
    "segments": Mask(
        "segment(cu, i) == segment(cu, j) and j <= i", True, True, CU, TOKENS,
        equal=("cu[segment(cu, i)] <= j and j <= i", True),
    ),
    "segments, both ways": Mask(
        "segment(cu, j) == segment(cu, i)", True, False, CU, TOKENS,
        equal=("cu[segment(cu, i)] <= j and j < cu[segment(cu, i) + 1]", True),
    ),
    "segments, and one more": Mask(
        "cu[segment(cu, i)] <= j and j <= cu[segment(cu, i) + 1]", True, False, CU, TOKENS,
        equal=("segment(cu, i) == segment(cu, j)", False),
    ),
    "segments of any offsets": Mask(
        "segment(cu, i) == segment(cu, j)", True, False, OFFSETS, TOKENS,
        equal=("cu[segment(cu, i)] <= j and (segment(cu, i) == N or j < cu[min(segment(cu, i) + 1, N)])", False),
    ),
    "earlier segments": Mask("segment(cu, j) < segment(cu, i)", False, True, OFFSETS, TOKENS),
    "no later segment": Mask(
        "segment(cu, j) <= segment(cu, i)", True, False, OFFSETS, TOKENS,
        equal=("j <= i or segment(cu, i) == segment(cu, j)", True),
    ),
    "sliding in segments": Mask(
        """segment(cu, i) == segment(cu, j) and j - cu[segment(cu, j)] <= i - cu[segment(cu, i)]
 allow i - cu[segment(cu, i)] - w < j - cu[segment(cu, j)]""",
        True, True, CU + "\n " + W, TOKENS, equal=("segment(cu, i) == segment(cu, j) and j <= i and i - w < j", True),
    ),
    "distances in segments": Mask(
        "segment(cu, i - j) == 0 and j <= i", True, True, CU + ", N >= 1, cu[1] >= 1", TOKENS
    ),
    "first of its segment": Mask("j == cu[segment(cu, i)]", True, True, CU, TOKENS),
    "first of its segment, any offsets": Mask("j == cu[segment(cu, i)]", False, False, OFFSETS, TOKENS),
    "segments of every row": Mask(
        "segment(cu[b], i) == segment(cu[b], j) and j <= i", True, True,
        "input cu[B,N + 1]: int\n assume nondecreasing cu[b,n] over n, cu[b,0] == 0, cu[b,N] == S", TOKENS,
    ),
    "cross attention by segments": Mask("segment(x, i) == segment(y, j)", False, None, "", TWO),
    "cross attention by segments, none empty": Mask(
        "segment(x, i) == segment(y, j)", True, None, "assume nondecreasing y[n] - n over n", TWO
    ),
    "last aligned in segments": Mask(
        "segment(x, i) == segment(y, j) and j <= pos(i)", False, True, "", TWO, BY_SEGMENT,
        equal=("y[segment(x, i)] <= j and j <= pos(i)", True),
    ),
    "last aligned in segments of more keys": Mask(
        "segment(x, i) == segment(y, j) and j <= pos(i)", True, True, "assume nondecreasing y[n] - x[n] over n", TWO,
        BY_SEGMENT,
    ),
    "threshold": Mask("j <= i and t > 0.5", False, True, "scalar t: float"),
}  # fmt: skip
