"""A small causal language model over characters, forward and backward by hand in numpy; attention is handed in.

    x = character + position embedding
    x = x + attention(norm(x));  x = x + mlp(norm(x))       for each layer
    logits = norm(x) @ out

Every layer function returns its value and a function from the value's gradient to the gradients of what went in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Weights = dict[str, Array]

HEADS, WIDTH, LAYERS = 4, 64, 2


class Run(Protocol):
    outputs: dict[str, Array]

    def backward(self, **cotangents: Array) -> dict[str, Array]: ...


class Attention(Protocol):
    """What a compiled `charlm.attn` offers, and all that the model asks of an attention."""

    def forward(self, **arrays: Array) -> Run: ...


def initial_weights(characters: int, context: int, seed: int = 0) -> Weights:
    """Normal; matrices scaled by the width of their input, less into the residual stream (Radford et al. 2019)."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, deviation: float) -> Array:
        return (random.standard_normal(shape) * deviation).astype(np.float32)

    wide = 1 / math.sqrt(WIDTH)
    back = wide / math.sqrt(2 * LAYERS)
    weights = {
        "character": normal(characters, WIDTH, deviation=0.1),
        "position": normal(context, WIDTH, deviation=0.1),
    }
    for layer in range(LAYERS):
        weights |= {
            f"{layer}.norm1": np.ones(WIDTH, np.float32),
            f"{layer}.norm2": np.ones(WIDTH, np.float32),
            f"{layer}.Wqkv": normal(WIDTH, 3 * WIDTH, deviation=wide),
            f"{layer}.bqkv": np.zeros(3 * WIDTH, np.float32),
            f"{layer}.Wo": normal(WIDTH, WIDTH, deviation=back),
            f"{layer}.bo": np.zeros(WIDTH, np.float32),
            f"{layer}.up": normal(WIDTH, 4 * WIDTH, deviation=wide),
            f"{layer}.down": normal(4 * WIDTH, WIDTH, deviation=back / 2),
        }
    return weights | {"norm": np.ones(WIDTH, np.float32), "out": normal(WIDTH, characters, deviation=wide / 4)}


def layer_norm(x: Array, gain: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-5))
    unit = centred * inverse

    def backward(dy: Array) -> tuple[Array, Array]:
        du = dy * gain
        dx = du - du.mean(-1, keepdims=True) - unit * (du * unit).mean(-1, keepdims=True)
        return dx * inverse, (dy * unit).sum((0, 1))

    return unit * gain, backward


def matmul(x: Array, w: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """x [B,S,E] times w [E,F]."""

    def backward(dy: Array) -> tuple[Array, Array]:
        return dy @ w.T, x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])

    return x @ w, backward


def silu(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    gate = 1 / (1 + np.exp(-x))
    return x * gate, lambda dy: dy * gate * (1 + x * (1 - gate))


def logits(weights: Weights, attention: Attention, text: NDArray[np.int64]) -> tuple[Array, Callable[[Array], Weights]]:
    """Logits [B,S,C] of the character after each position of text [B,S]; and the gradients of all weights."""
    length = text.shape[1]
    x = weights["character"][text] + weights["position"][:length]
    undo: list[Callable[[Array, Weights], Array]] = []
    for layer in range(LAYERS):
        for part in (attention_part, mlp_part):
            y, backward = part(weights, attention, f"{layer}.", x)
            x = x + y
            undo.append(backward)
    normed, norm_backward = layer_norm(x, weights["norm"])
    out, out_backward = matmul(normed, weights["out"])

    def backward_all(dlogits: Array) -> Weights:
        grads: Weights = {}
        dnormed, grads["out"] = out_backward(dlogits)
        dx, grads["norm"] = norm_backward(dnormed)
        for step in reversed(undo):
            dx = dx + step(dx, grads)
        grads["position"] = np.zeros_like(weights["position"])
        grads["position"][:length] = dx.sum(0)
        grads["character"] = np.zeros_like(weights["character"])
        np.add.at(grads["character"], text, dx)
        return grads

    return out, backward_all


Part = tuple[Array, Callable[[Array, Weights], Array]]


def attention_part(weights: Weights, attention: Attention, at: str, x: Array) -> Part:
    """attention(norm(x)); its backward stores the weights' gradients and returns dx."""
    normed, norm_backward = layer_norm(x, weights[at + "norm1"])
    names = ("Wqkv", "bqkv", "Wo", "bo")
    run = attention.forward(x=normed, **{name: weights[at + name] for name in names})

    def backward(dy: Array, grads: Weights) -> Array:
        own = run.backward(y=np.ascontiguousarray(dy))
        for name in names:
            grads[at + name] = own[name]
        dx, grads[at + "norm1"] = norm_backward(own["x"])
        return dx

    return run.outputs["y"], backward


def mlp_part(weights: Weights, attention: Attention, at: str, x: Array) -> Part:
    """silu(norm(x) @ up) @ down; its backward stores the weights' gradients and returns dx."""
    normed, norm_backward = layer_norm(x, weights[at + "norm2"])
    inner, up_backward = matmul(normed, weights[at + "up"])
    active, silu_backward = silu(inner)
    y, down_backward = matmul(active, weights[at + "down"])

    def backward(dy: Array, grads: Weights) -> Array:
        dactive, grads[at + "down"] = down_backward(dy)
        dnormed, grads[at + "up"] = up_backward(silu_backward(dactive))
        dx, grads[at + "norm2"] = norm_backward(dnormed)
        return dx

    return y, backward


def loss_and_gradients(
    weights: Weights, attention: Attention, text: NDArray[np.int64], following: NDArray[np.int64]
) -> tuple[float, Weights]:
    """Mean cross entropy (nats a character) of the characters that follow, and its gradients."""
    scores, backward = logits(weights, attention, text)
    shifted = scores - scores.max(-1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(-1, keepdims=True))
    chosen = np.take_along_axis(shifted - log_total, following[..., None], -1)
    dscores = np.exp(shifted - log_total)
    np.put_along_axis(dscores, following[..., None], np.take_along_axis(dscores, following[..., None], -1) - 1, -1)
    return -float(chosen.mean(dtype=np.float64)), backward(dscores / np.float32(chosen.size))
