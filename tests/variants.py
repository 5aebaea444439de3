"""The programs of examples/variants once more, by dense numpy formulas of their own, and arguments to try them on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "examples" / "variants"
Array = np.ndarray[Any, Any]
Rng = np.random.Generator
SIZES = {"B": 2, "H": 3, "S": 37, "Sq": 21, "Sk": 37, "D": 8}


class Values(dict[str, Any]):
    """Arguments and sizes by name, as attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclass(frozen=True)
class Case:
    """`formula` gives the outputs, in their order, from float64 arguments; `sizes` adds to `SIZES`; `draw` gives the
    scalars, the tables, and the floating arguments that the standard normal does not suit; `untold` are the sizes that
    no shape tells."""

    formula: Callable[[Values], Array | tuple[Array, ...]]
    sizes: dict[str, int] = field(default_factory=dict)
    draw: Callable[[Rng, Values], dict[str, Any]] = lambda rng, s: {}
    untold: tuple[str, ...] = ()


def qk(q: Array, k: Array) -> Array:
    """Dot products over the last axis, of every query with every key."""
    return q @ np.swapaxes(k, -1, -2)


def softmax(logit: Array, allowed: Array | bool = True, sink: Array | None = None) -> Array:
    """Weights over the last axis; a `sink` has a weight that nothing reads."""
    logit = np.where(allowed, logit, -np.inf)
    top = np.maximum(logit.max(-1, keepdims=True), -np.inf if sink is None else sink)
    weight = np.exp(logit - top)
    return np.asarray(weight / (weight.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink - top))))


def grid(v: Values) -> tuple[Array, Array]:
    return np.arange(v.S)[:, None], np.arange(v.S)


def normalised(x: Array, least: float) -> Array:
    """The last axis with mean 0 and variance 1."""
    return np.asarray((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + least))


def causal(v: Values) -> Array:
    return np.tri(v.S, dtype=bool)


def scaled(v: Values) -> Array:
    return qk(v.q, v.k) / np.sqrt(v.D)


def heads(vector: Array) -> Array:
    """[H] beside [B,H,i,j]."""
    return vector[:, None, None]


def plain(v: Values, bias: Array | float = 0.0, allowed: Array | bool = True) -> Array:
    return softmax(scaled(v) + bias, allowed) @ v.v


def past(v: Values) -> Array:
    """How far back a key lies, and 0 for those ahead, [i,j]."""
    i, j = grid(v)
    return np.maximum(i - j, 0)


def split(x: Array, heads: int) -> Array:
    """[B,S,(H D)] to [B,H,S,D]."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def joined(x: Array) -> Array:
    """[B,H,S,D] to [B,S,(H D)]."""
    x = np.swapaxes(x, 1, 2)
    return x.reshape(*x.shape[:2], -1)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def whole(rng: Rng, high: int, shape: tuple[int, ...]) -> Array:
    """Uniform in 0 … high - 1."""
    return rng.integers(0, high, shape).astype(np.int32)


# what the score is


def fire(v: Values) -> Array:
    rate = np.exp(v.stretch)
    near = np.log(1 + rate * past(v)) / np.log(1 + rate * (np.arange(v.S) + 1))[:, None]
    hidden = np.maximum(near[..., None] * v.w1 + v.b1, 0)
    return plain(v, np.moveaxis(hidden @ v.w2.T, -1, 0), causal(v))


def clamped(v: Values) -> Array:
    """Distances i - j from 0, for -R and what is beyond, to 2 R."""
    i, j = grid(v)
    return np.minimum(np.maximum(i - j, -v.R), v.R) + v.R


def additive(v: Values) -> Array:
    hidden = np.tanh(v.q[..., :, None, :] + v.k[..., None, :, :])
    return softmax(np.einsum("hc,bhijc->bhij", v.w, hidden), causal(v)) @ v.v


def relative_values(v: Values) -> Array:
    far = 2 * v.R - clamped(v)
    weight = softmax((qk(v.q, v.k) + np.einsum("bhic,ijc->bhij", v.q, v.K[far])) / np.sqrt(v.D))
    return weight @ v.v + np.einsum("bhij,ijd->bhid", weight, v.V[far])


def relative_keys(v: Values) -> Array:
    keys = v.k[:, :, None] + v.A[2 * v.R - clamped(v)]
    return softmax(np.einsum("bhic,bhijc->bhij", v.q, keys) / np.sqrt(v.D)) @ v.v


def relative_decomposed(v: Values) -> Array:
    y, x = np.arange(v.Y * v.X) // v.X, np.arange(v.Y * v.X) % v.X
    between = v.rows[y[:, None] - y + v.Y - 1] + v.columns[x[:, None] - x + v.X - 1]
    return plain(v, np.einsum("bhic,ijc->bhij", v.q, between))


def transformer_xl(v: Values) -> Array:
    position = np.einsum("bhic,hijc->bhij", v.q + v.w[:, None], v.r[:, past(v)])
    return softmax((qk(v.q + v.u[:, None], v.k) + position) / np.sqrt(v.D), causal(v)) @ v.v


def disentangled(v: Values) -> Array:
    to_position = np.einsum("bhic,hijc->bhij", v.q, v.kr[:, clamped(v)])
    from_position = np.einsum("bhjc,hijc->bhij", v.k, v.qr[:, clamped(v).T])
    return softmax((qk(v.q, v.k) + to_position + from_position) / np.sqrt(3 * v.D)) @ v.v


def t5(v: Values) -> Array:
    i, j = grid(v)
    return softmax(qk(v.q, v.k) + np.moveaxis(v.T[v.bucket[j - i + v.S - 1]], -1, 0)) @ v.v


def buckets(rng: Rng, s: Values) -> dict[str, Any]:
    """Half for each direction; of these, half exact and half on a logarithmic scale up to 32."""
    distance = np.arange(2 * s.S - 1) - (s.S - 1)
    half, far = s.N // 2, np.maximum(abs(distance), 1)
    scale = np.log(far / (half // 2)) / np.log(32 / (half // 2)) * (half - half // 2)
    steps = np.where(abs(distance) < half // 2, abs(distance), np.minimum(half // 2 + np.floor(scale), half - 1))
    return {"bucket": (steps + half * (distance > 0)).astype(np.int32)}


def edges(v: Values) -> Array:
    total = np.zeros((v.B, v.H, v.S, v.S))
    for n in range(v.N):
        found = np.moveaxis(v.T[:, n][:, v.edge[..., n]], 0, 1)
        total += np.where((v.hops > n)[:, None], found, 0)
    return plain(v, total / np.maximum(v.hops, 1)[:, None])


def latent(v: Values) -> Array:
    score = qk(v.q, split(v.latent @ v.Wk, v.H)) + qk(v.qr, v.kr[:, None])
    return softmax(score / np.sqrt(v.D + v.P), causal(v)) @ split(v.latent @ v.Wv, v.H)


def rotary(v: Values) -> Array:
    """Pairs of features as complex numbers."""
    turn = np.exp(1j * np.arange(v.S)[:, None] * v.base ** (-np.arange(v.P) / v.P))
    q, k = ((x[..., 0, :] + 1j * x[..., 1, :]) * turn for x in (v.q, v.k))
    weight = softmax((q @ np.conj(np.swapaxes(k, -1, -2))).real / np.sqrt(2 * v.P), causal(v))
    return np.einsum("bhij,bhjud->bhiud", weight, v.v)


def cosine(v: Values) -> Array:
    q, k = (x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6) for x in (v.q, v.k))
    return softmax(qk(q, k) * np.exp(heads(v.temperature))) @ v.v


# what weighs


def sink_learned(v: Values) -> Array:
    i, j = grid(v)
    k, values = (np.repeat(x, v.H // v.G, axis=1) for x in (v.k, v.v))
    score = qk(v.q, k) / np.sqrt(v.D)
    return softmax(score, (j <= i) & (j > i - v.window), heads(v.sink)) @ values


def quantised_cache(v: Values) -> Array:
    k, values = (np.repeat(x, v.H // v.G, 1) for x in (v.k * v.kscale[:, :, None], v.v * v.vscale[..., None]))
    past = np.arange(v.T) <= np.arange(v.T - v.Sq, v.T)[:, None]
    return softmax(qk(v.q, k) / math.sqrt(v.D), past) @ values


def forgetting(v: Values) -> Array:
    kept = np.cumsum(-np.log1p(np.exp(-v.gates)), -1)
    return plain(v, kept[..., None] - kept[..., None, :], causal(v))


def retention(v: Values) -> Array:
    weight = np.where(causal(v), scaled(v) * heads(v.gamma) ** past(v), 0)
    return weight / np.maximum(abs(weight.sum(-1, keepdims=True)), 1) @ v.v


def hstu(v: Values) -> Array:
    age = np.maximum(v.time[:, :, None] - v.time[:, None], 1)
    logit = qk(v.q, v.k) + v.ago[np.clip(np.floor(np.log2(age)), 0, v.M - 1).astype(int)][:, None]
    return np.where(causal(v), logit / (1 + np.exp(-logit)), 0) / v.S @ v.v


def linear(v: Values) -> Array:
    positive = [np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (v.q, v.k)]
    weight = np.where(causal(v), qk(*positive), 0)
    return weight / weight.sum(-1, keepdims=True) @ v.v


def power_scores(v: Values) -> Array:
    weight = np.where(causal(v), qk(v.q, v.k) ** 4, 0)
    return weight / np.maximum(weight.sum(-1, keepdims=True), 1) @ v.v


def philox(counter: list[int], key: list[int]) -> list[int]:
    """The four words of Philox4x32-7, in the paper's own terms."""
    c, k, word = list(counter), list(key), 0xFFFFFFFF
    for _ in range(7):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & word, first >> 32 ^ c[3] ^ k[1], first & word]
        k = [k[0] + 0x9E3779B9 & word, k[1] + 0xBB67AE85 & word]
    return c


def dropout(v: Values) -> Array:
    seed, shape = int(v.seed), (v.B, v.H, v.S, v.S)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    draws = [philox([j // 4, i, b * v.H + h, 0], key)[j % 4] for b, h, i, j in np.ndindex(shape)]
    kept = (np.asarray(draws).reshape(shape) >> 8) * 2.0**-24 >= v.p
    return softmax(scaled(v), causal(v)) * kept / (1 - v.p) @ v.v


def statistics(v: Values) -> tuple[Array, ...]:
    score = np.where(causal(v), scaled(v), -np.inf)
    weight = softmax(score)
    surprise = -np.log(np.where(weight > 0, weight, 1))
    return weight @ v.v, np.log(np.exp(score).sum(-1)), score.max(-1), (weight * surprise).sum(-1)


def native_sparse(v: Values) -> Array:
    k, values, top = (np.repeat(a, v.H // v.G, 1) for a in (v.k, v.v, v.top))
    i, j = grid(v)
    short, summed = (
        np.einsum("bhnld,l->bhnd", a.reshape(v.B, v.H, v.N, v.L, v.D), p) for a, p in ((k, v.Pk), (values, v.Pv))
    )

    def part(keys: Array, values: Array, allowed: Array) -> Array:
        some = allowed.any(-1, keepdims=True)
        return np.asarray((softmax(qk(v.q, keys) / np.sqrt(v.D), allowed | ~some) * some) @ values)

    parts = (
        part(short, summed, np.arange(v.N) * v.L + v.L - 1 <= i),
        part(k, values, (top[..., None] == j // v.L).any(-2) & (j <= i)),
        part(k, values, (i - v.window < j) & (j <= i)),
    )
    return np.asarray(sum(sigmoid(gate)[..., None] * o for gate, o in zip(v.gate, parts, strict=True)))


def picked(rng: Rng, s: Values) -> dict[str, Any]:
    order = np.argsort(rng.random((s.B, s.G, s.S, s.N)), -1)
    return {"window": 9, "top": order[..., : s.K].astype(np.int32)}


def topk_tiles(v: Values) -> Array:
    chosen = np.zeros((v.B, v.H, v.N, v.N), bool)
    np.put_along_axis(chosen, v.top, True, axis=-1)
    i, j = np.arange(v.N * v.M) // v.M, np.arange(v.N * v.M)
    return plain(v, 0, chosen[:, :, i][..., j // v.M] & (j % v.M < v.full[j // v.M]))


def some_tiles(rng: Rng, s: Values) -> dict[str, Any]:
    order = rng.permuted(np.broadcast_to(np.arange(s.N, dtype=np.int32), (s.B, s.H, s.N, s.N)), axis=-1)
    return {"top": order[..., : s.K], "full": 1 + whole(rng, s.M, (s.N,))}


# several heads, several cores


def differential(v: Values) -> Array:
    parts = v.x.reshape(v.B, v.S, -1)
    (q1, q2), (k1, k2) = (np.split(parts @ w, 2, axis=-1) for w in (v.Wq, v.Wk))
    first, second = (
        softmax(qk(split(q, v.H), split(k, v.H)) / np.sqrt(v.D), causal(v)) for q, k in ((q1, k1), (q2, k2))
    )
    dots = np.exp((v.lq * v.lk).sum(-1))
    o = (first - heads(dots[0] - dots[1] + v.start) * second) @ split(parts @ v.Wv, v.H)
    o = o / np.sqrt((o * o).mean(-1, keepdims=True) + 1e-5) * (1 - v.start)
    return joined(o) @ v.Wo


def talking_heads(v: Values) -> Array:
    logit = np.einsum("gm,bgij->bmij", v.P, scaled(v))
    return np.einsum("mh,bmij->bhij", v.W, softmax(logit, causal(v))) @ v.v


def evoformer_column(v: Values) -> Array:
    q, k, values = (np.moveaxis(x, 1, 3) for x in (v.q, v.k, v.v))  # [B,H,S,N,D]
    return sigmoid(v.gate) * np.moveaxis(softmax(qk(q, k) / np.sqrt(v.D)) @ values, 3, 1)


def triangle_start(v: Values) -> Array:
    score = np.einsum("bhijc,bhikc->bhijk", v.q, v.key) / np.sqrt(v.D) + v.third[:, :, None]
    return sigmoid(v.gate) * np.einsum("bhijk,bhikd->bhijd", softmax(score), v.v)


def triangle_end(v: Values) -> Array:
    score = np.einsum("bhijc,bhkjc->bhijk", v.q, v.key) / np.sqrt(v.D)
    score = score + np.swapaxes(v.third, -1, -2)[:, :, :, None]
    return sigmoid(v.gate) * np.einsum("bhijk,bhkjd->bhijd", softmax(score), v.v)


def axial(v: Values) -> Array:
    across = softmax(qk(v.q[0], v.k[0]) / np.sqrt(v.D)) @ v.v
    q, k, values = (np.swapaxes(x, -2, -3) for x in (v.q[1], v.k[1], across))
    return np.swapaxes(softmax(qk(q, k) / np.sqrt(v.D)) @ values, -2, -3)


def blocks(v: Values) -> Array:
    i, j = np.arange(v.N * v.M)[:, None], np.arange(v.N * v.M)
    return plain(v, 0, (i // v.M == j // v.M) & (j <= i))


def swin(v: Values) -> Array:
    at = np.arange(v.M * v.M)
    y, x = np.divmod(at[:, None], v.M)
    bias = v.T[:, y - at // v.M + v.M - 1, x - at % v.M + v.M - 1]
    flat = [t.transpose(0, 1, 2, 4, 3, 5, 6).reshape(v.B, v.H, v.Y * v.X, v.M**2, v.D) for t in (v.q, v.k, v.v)]
    o = softmax(qk(flat[0], flat[1]) / np.sqrt(v.D) + bias[:, None]) @ flat[2]
    return o.reshape(v.B, v.H, v.Y, v.X, v.M, v.M, v.D).transpose(0, 1, 2, 4, 3, 5, 6)


def multi_query(v: Values) -> Array:
    q, k, values = split(v.x @ v.Wq, v.H), (v.x @ v.Wk)[:, None], (v.x @ v.Wv)[:, None]
    return joined(softmax(qk(q, k) / np.sqrt(v.D), causal(v)) @ values) @ v.Wo


def decoder_block(v: Values) -> Array:
    q, k, values = (split(v.x @ w, v.H) for w in (v.Wq, v.Wk, v.Wv))
    z = v.x + joined(softmax(qk(q, k) / np.sqrt(v.D), causal(v)) @ values) @ v.Wo
    q, k, values = split(z @ v.Uq, v.H), split(v.memory @ v.Uk, v.H), split(v.memory @ v.Uv, v.H)
    seen = np.arange(v.Sk) < v.len[:, None, None, None]
    return z + joined(softmax(qk(q, k) / np.sqrt(v.D), seen) @ values) @ v.Uo


def cached(v: Values) -> Array:
    seen = np.arange(v.Sk) <= v.past[:, None, None, None] + np.arange(v.Sq)[:, None]
    return plain(v, 0, seen)


def local_global(v: Values) -> Array:
    return plain(v, 0, causal(v) & (heads(v.everywhere) | (past(v) < v.window)))


def linformer(v: Values) -> Array:
    return softmax(qk(v.q, v.Ek @ v.k) / np.sqrt(v.D)) @ (v.Ev @ v.v)


def induced_sets(v: Values) -> Array:
    found = softmax(qk(v.point, v.k) / np.sqrt(v.D)) @ v.v
    return softmax(qk(v.q, found) / np.sqrt(v.D)) @ found


def pooling(v: Values) -> Array:
    seen = np.arange(v.S) < v.len[:, None, None, None]
    return softmax(qk(v.seed, v.k) / np.sqrt(v.D), seen) @ v.v


def each_sequence(v: Values, queries: Array, keys: Array, do: Callable[[Array, Array, Array], Array]) -> Array:
    """What `do` gives of q, k and v of each packed sequence that has queries, heads first, one after another again."""
    parts = []
    for first, last, start, end in zip(queries, queries[1:], keys, keys[1:], strict=False):
        if first == last:
            continue
        q, k, values = (np.swapaxes(x, 0, 1) for x in (v.q[first:last], v.k[start:end], v.v[start:end]))
        parts.append(np.swapaxes(do(q, k, values), 0, 1))
    return np.concatenate(parts)


def turned(x: Array, base: float) -> Array:
    """Halves of features [h,s,2,P] as complex numbers, turned by the position."""
    rates = base ** (-np.arange(x.shape[-1]) / x.shape[-1])
    pairs = (x[..., 0, :] + 1j * x[..., 1, :]) * np.exp(1j * np.arange(x.shape[1])[:, None] * rates)
    return np.concatenate([pairs.real, pairs.imag], -1)


def packed_rotary(v: Values) -> Array:
    def attended(q: Array, k: Array, values: Array) -> Array:
        k, values = (np.repeat(x, v.H // v.G, 0) for x in (k, values))
        i, j = np.ogrid[: q.shape[1], : q.shape[1]]
        score = qk(turned(q, v.base), turned(k, v.base)) / np.sqrt(2 * v.P)
        return np.einsum("hij,hjud->hiud", softmax(score, (j <= i) & (i - j < v.window)), values)

    return each_sequence(v, v.cu, v.cu, attended)


def packed_alibi(v: Values) -> tuple[Array, Array]:
    def attended(q: Array, k: Array, values: Array) -> Array:
        far = np.arange(k.shape[1]) - np.arange(q.shape[1])[:, None] - (k.shape[1] - q.shape[1])
        logit = np.where(far <= 0, qk(q, k) / np.sqrt(v.D) + heads(v.slope) * far, -np.inf)
        total = np.log(np.exp(logit).sum(-1, keepdims=True))
        return np.concatenate([np.exp(logit - total) @ values, total], -1)

    found = each_sequence(v, v.cu_q, v.cu_k, attended)
    return found[..., :-1], found[..., -1]


def lengths(rng: Rng, high: int, count: int) -> dict[str, Any]:
    return {"len": 1 + whole(rng, high, (count,))}


CASES: dict[str, Case] = {
    "additive": Case(additive),
    "alibi_learned": Case(lambda v: plain(v, -heads(v.slope) * past(v), causal(v))),
    "axial": Case(axial, {"Y": 7, "X": 9}),
    "bias_batch": Case(lambda v: plain(v, -heads(v.strength) * v.distance[:, None])),
    "bias_columns": Case(
        lambda v: plain(v, np.log(v.merged)[:, None, None]), draw=lambda r, s: {"merged": r.uniform(1, 4, (s.B, s.Sk))}
    ),
    "bias_heads": Case(lambda v: softmax(scaled(v) / np.sqrt(2) + v.T) @ v.v),
    "bias_pairs": Case(lambda v: plain(v, v.bias)),
    "bias_rows": Case(lambda v: sigmoid(scaled(v) - v.threshold[..., None]) @ v.v),
    "blocks": Case(blocks, {"N": 4, "M": 9}, untold=("N", "M")),
    "cached": Case(cached, draw=lambda r, s: {"past": whole(r, s.Sk - s.Sq + 1, (s.B,))}),
    "cosine": Case(cosine),
    "decoder_block": Case(decoder_block, draw=lambda r, s: lengths(r, s.Sk, s.B), untold=("H",)),
    "differential_block": Case(differential, draw=lambda r, s: {"start": 0.2}),
    "disentangled": Case(disentangled, {"R": 5}, untold=("R",)),
    "dropout": Case(dropout, {"S": 13}, lambda r, s: {"p": 0.25, "seed": 2**30 + 7}),
    "euclidean": Case(
        lambda v: softmax(-((v.q[..., :, None, :] - v.k[..., None, :, :]) ** 2).sum(-1) / np.sqrt(v.D)) @ v.v
    ),
    "evoformer_column": Case(evoformer_column, {"N": 11, "S": 9}),
    "evoformer_row": Case(lambda v: sigmoid(v.gate) * plain(v, v.pair[:, None]), {"N": 3}),
    "fire": Case(fire, {"M": 6}),
    "forgetting": Case(forgetting),
    "gated_output": Case(lambda v: joined(sigmoid(split(v.x @ v.Wg, v.H)) * plain(v, 0, causal(v))) @ v.Wo, {"E": 20}),
    "gelu": Case(lambda v: scaled(v) * np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)(scaled(v)) @ v.v),
    "graph_distances": Case(
        lambda v: plain(v, np.moveaxis(v.T[:, v.dist], 0, 1)),
        {"M": 6},
        lambda r, s: {"dist": whole(r, s.M, (s.B, s.S, s.S))},
    ),
    "graph_edges": Case(
        edges,
        {"M": 5, "N": 3},
        lambda r, s: {"edge": whole(r, s.M, (s.B, s.S, s.S, s.N)), "hops": whole(r, s.N + 1, (s.B, s.S, s.S))},
    ),
    "induced_sets": Case(induced_sets, {"M": 7}),
    "kerple": Case(lambda v: plain(v, -heads(np.exp(v.a)) * np.log(1 + heads(np.exp(v.c)) * past(v)), causal(v))),
    "latent_absorbed": Case(latent, {"P": 4, "R": 12, "V": 10}),
    "latent_expanded": Case(latent, {"P": 4, "R": 12, "V": 10}),
    "linformer": Case(linformer, {"R": 7}),
    "local_global": Case(local_global, draw=lambda r, s: {"everywhere": np.arange(s.H) == 1, "window": 5}),
    "multi_query": Case(multi_query, {"E": 20}),
    "native_sparse": Case(native_sparse, {"H": 4, "G": 2, "N": 5, "L": 8, "K": 2}, picked, ("L",)),
    "packed_alibi": Case(
        packed_alibi,
        {"Tq": 21, "Tk": 37, "N": 4},
        lambda r, s: {"cu_q": np.array([0, 5, 5, 14, 21], np.int32), "cu_k": np.array([0, 8, 11, 20, 37], np.int32)},
    ),
    "packed_rotary": Case(
        packed_rotary,
        {"T": 37, "H": 4, "G": 2, "P": 4, "N": 5},
        lambda r, s: {"cu": np.array([0, 9, 10, 10, 25, 37], np.int32), "base": 100.0, "window": 6},
    ),
    "pair_bias": Case(
        lambda v: sigmoid(v.gate) * plain(v, np.moveaxis(normalised(v.pair, 1e-5) @ v.W, -1, 1)), {"S": 13, "C": 5}
    ),
    "pooling": Case(pooling, {"R": 4}, lambda r, s: lengths(r, s.S, s.B)),
    "power_scores": Case(power_scores),
    "quantised_cache": Case(
        quantised_cache,
        {"H": 4, "G": 2, "T": 37},
        lambda r, s: (
            {n: r.integers(-127, 128, (s.B, s.G, s.T, s.D)).astype(np.int8) for n in "kv"}
            | {"kscale": r.random((s.B, s.G, s.D)) / 64, "vscale": r.random((s.B, s.G, s.T)) / 64}
        ),
    ),
    "relative_clamped": Case(lambda v: plain(v, v.T[:, clamped(v)]), {"R": 5}, untold=("R",)),
    "relative_decomposed": Case(relative_decomposed, {"Y": 5, "X": 7}, untold=("Y", "X")),
    "relative_keys": Case(relative_keys, {"R": 5}, untold=("R",)),
    "relative_values": Case(relative_values, {"R": 5}),
    "relu": Case(lambda v: np.maximum(scaled(v), 0) / v.S @ v.v),
    "relu_squared": Case(lambda v: np.where(causal(v), np.maximum(scaled(v), 0), 0) ** 2 / v.S @ v.v),
    "hstu": Case(hstu, {"M": 6}, lambda r, s: {"time": np.cumsum(r.integers(1, 9, (s.B, s.S)), 1).astype(np.int32)}),
    "linear": Case(linear),
    "retention": Case(retention, draw=lambda r, s: {"gamma": r.uniform(0.7, 0.98, s.H)}),
    "rotary": Case(rotary, {"P": 4}, lambda r, s: {"base": 100.0}),
    "sandwich": Case(lambda v: plain(v, v.similarity[past(v) + v.S - 1] * heads(v.ratio), causal(v))),
    "scalable_softmax": Case(
        lambda v: softmax(scaled(v) * heads(v.s) * np.log(np.arange(v.S) + 1)[:, None], causal(v)) @ v.v
    ),
    "scaled_rows_columns": Case(lambda v: softmax(qk(v.q, v.k) * v.row[..., None] * v.column[:, :, None]) @ v.v),
    "sigmoid": Case(lambda v: np.where(causal(v), sigmoid(scaled(v) + heads(v.offset) - np.log(v.S)), 0) @ v.v),
    "sink_learned": Case(sink_learned, {"H": 4, "G": 2}, lambda r, s: {"window": 9}),
    "softcap_learned": Case(
        lambda v: softmax(heads(v.cap) * np.tanh(scaled(v) / heads(v.cap)), causal(v)) @ v.v,
        draw=lambda r, s: {"cap": r.uniform(0.5, 3, s.H)},
    ),
    "softmax_plus_one": Case(lambda v: softmax(scaled(v), causal(v), np.zeros(1)) @ v.v),
    "statistics": Case(statistics),
    "swin": Case(swin, {"Y": 2, "X": 3, "M": 4}),
    "t5_buckets": Case(t5, {"N": 16}, buckets),
    "talking_heads": Case(talking_heads),
    "topk_tiles": Case(topk_tiles, {"N": 5, "M": 8, "K": 3}, some_tiles, ("M",)),
    "transformer_xl": Case(transformer_xl),
    "triangle_end": Case(triangle_end, {"N": 9}),
    "triangle_start": Case(triangle_start, {"N": 9}),
    "value_residual": Case(
        lambda v: plain(Values(v, v=heads(v.mix) * v.v + (1 - heads(v.mix)) * v.first), 0, causal(v))
    ),
}
