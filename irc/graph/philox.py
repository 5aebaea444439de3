"""Random bits that are a function of their place: Philox4x32 (Salmon, Moraes, Dror and Shaw, 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
WORD = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


ROUNDS = 7  # the fewest that pass the authors' tests


def philox(
    counter: tuple[Array, Array, Array, Array], key: tuple[Array, Array], rounds: int = ROUNDS
) -> tuple[Array, ...]:
    """Four words of 32 bits for each counter and key; all are arrays of uint64 below 2^32."""
    a, b, c, d = counter
    first, second = key
    for _ in range(rounds):
        low, high = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (high >> HALF) ^ b ^ first, high & WORD, (low >> HALF) ^ d ^ second, low & WORD
        first, second = (first + np.uint64(0x9E3779B9)) & WORD, (second + np.uint64(0xBB67AE85)) & WORD
    return a, b, c, d


def uniform(seed: Array, i: Array, j: Array, k: Array) -> Array:
    """24 bits as a number in [0, 1), the same for the same four integers: of four neighbours along k, the four words of
    one counter."""
    words = [np.asarray(x).astype(np.int64).astype(np.uint64) for x in (seed, i, j, k)]
    key = (words[0] & WORD, words[0] >> HALF)
    counter = (words[3] >> np.uint64(2) & WORD, words[2] & WORD, words[1] & WORD, np.zeros_like(words[1]))
    drawn = np.choose((words[3] & np.uint64(3)).astype(np.int64), np.broadcast_arrays(*philox(counter, key)))
    return np.asarray((drawn >> np.uint64(8)).astype(np.float64) * 2.0**-24)
