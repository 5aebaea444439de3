"""What the language leaves out, and the nearest that it has.

Every element is made by itself, from elements read at its own indices; only `sum`, and a core over its keys, run along
an index. So nothing accumulates from one position to the next, nothing is put in order, and no data say how long a
loop is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RUNNING = frozenset({"cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "cumulative_sum", "prefix_sum", "scan"})
ORDERED = frozenset(
    {"sort", "argsort", "topk", "top_k", "top_p", "kthvalue", "rank", "quantile", "percentile", "median"}
    | {"argmax", "argmin", "unique", "nonzero"}
)
MASKS = frozenset({"if", "causal", "window", "sliding_window", "mask_mod", "attn_mask", "masked_fill", "where"})
LOOPS = frozenset({"for", "while", "repeat", "loop", "until"})

RUNNING_HELP = (
    "a running sum is `g[b,s] over s: S = sum(t: where(t <= s, x[b,t], 0))`, or made outside and taken as an input; "
    "what lies between a key and a query is then a difference, `bias g[b,i] - g[b,j]`"
)
ORDERED_HELP = (
    "choose outside and read the choice from a table: `let key = top[b,h,i // 64,n] * 64 + m`, `k[b,h,key,c]`, "
    "`softmax (n m)`; of a row's scores, `stat` gives `max` and the first `argmax`"
)
SCORE_HELP = (
    "`relu j` in place of `softmax j` gives a negative score no weight; a choice by rank is made outside, as a table"
)
WRITTEN: Mapping[str, str] = MappingProxyType(
    {
        "mean": "sum(c: …) / D",
        "norm": "sqrt(sum(c: x[c] ^ 2))",
        "square": "x ^ 2",
        "pow": "x ^ y",
        "exp2": "2 ^ x",
        "log2": "log(x) / log(2)",
        "log1p": "log(1 + x)",
        "tan": "sin(x) / cos(x)",
        "ceil": "-floor(-x)",
        "round": "floor(x + 0.5)",
        "sign": "where(x > 0, 1, where(x < 0, -1, 0))",
        "int": "floor(x)",
        "clip": "clamp(x, low, high)",
        "maximum": "max(x, y)",
        "minimum": "min(x, y)",
        "softplus": "max(x, 0) + log(1 + exp(-abs(x)))",
        "silu": "x * sigmoid(x)",
        "swish": "x * sigmoid(x)",
        "gelu": "x * (1 + erf(x / sqrt(2))) / 2",
        "elu": "where(x > 0, x, exp(min(x, 0)) - 1)",
        "leaky_relu": "where(x > 0, x, 0.01 * x)",
        "logsigmoid": "log(sigmoid(x))",
        "logistic": "sigmoid(x)",
        "masked_fill": "where(p, value, x)",
    }
)
"""Functions of other languages, and what they are in this one."""

NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "True": "write `true`",
        "False": "write `false`",
        "inf": "what must not count does not exist: `block p`",
        "nan": "what must not count does not exist: `block p`",
        "pi": "write `3.141592653589793`",
    }
)
"""Numbers that other languages have names for."""

MASK_HELP = "`allow p` says which pairs exist, as in `allow j <= i`, or `block p` which do not"
MAP_HELP = "`map e` makes another score of each, `bias e` adds to it"
PLACE = "a place in a table is told from the pair, its sizes and tables alone"
PLACE_HELP = "read every entry, and choose: `sum(n: where(n == clamp(floor(score), 0, N - 1), table[n], 0))`"
LENGTH_HELP = (
    "an index runs over the whole of an axis; what does not exist is left out by `allow j < len[b]`, "
    "or in a sum by `where(n < count[b], …, 0)`"
)
PAIR_HELP = (
    "what a row has in common comes from its normaliser, or from a `stat` that a later core reads; scores of other "
    "keys are those of a tensor, `z[b,h,i,j] = q[b,h,i,c] * k[b,h,j,c]` in `project`, and so is what depends on the "
    "keys in between (stick-breaking): "
    "`left[b,h,i,j] over j: S = sum(t: where(j < t and t < i, log(sigmoid(-z[b,h,i,t])), 0))`, `bias left[b,h,i,j]`"
)


def why(name: str) -> str | None:
    """Why there is no function of that name, where it is one that is left out."""
    if name in RUNNING:
        return "nothing is carried from one position to the next"
    return "nothing puts the elements of an axis in order" if name in ORDERED else None


def written(name: str) -> str | None:
    """What to write for a function of other languages."""
    return f"write `{WRITTEN[name]}`" if name in WRITTEN else None


def instead(name: str) -> str | None:
    """What to write for a function or a statement of that name, where it is one that is left out."""
    if name in RUNNING:
        return RUNNING_HELP
    if name in ORDERED:
        return ORDERED_HELP
    if name in MASKS:
        return MASK_HELP
    if name == "score_mod":
        return MAP_HELP
    return LENGTH_HELP if name in LOOPS else None
