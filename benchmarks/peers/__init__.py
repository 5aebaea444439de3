"""Who is measured: irc and its peers, each a small class with the same two methods, in a file named for its library."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.cases import Problem

Array = np.ndarray[Any, Any]


class Unsupported(Exception):
    """This contestant has no way to compute the case; the text says why and goes into the table."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A case set up for one contestant.

    run: what is timed; its operands lie ready in the contestant's own layout. results: of what `run` returned, numpy
    arrays by name: `o` [B,H,S,D], and gradients under the names of what they belong to. notes: what setting up took.
    before: what is done before each run and not timed.
    """

    run: Callable[[], Any]
    results: Callable[[Any], Mapping[str, Array]]
    notes: Mapping[str, float] = field(default_factory=dict)
    before: Callable[[], None] | None = None


class Contestant(Protocol):
    """Implementations import their library at the top, so that loading one that is not installed raises ImportError."""

    def __init__(self, threads: int) -> None:
        """Sets the library's number of threads for the rest of the process."""

    def prepare(self, problem: Problem) -> Ready:
        """Raises Unsupported, or whatever the library raises, for a case that it cannot compute."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A column of the table: its name, where it is, whose it is, and what is said about it.

    dense: it holds queries x keys in memory, and is measured at the main shape alone. slow: it has never been near the
    fastest peer, and is not measured with one thread. `--everywhere` measures both everywhere.
    """

    name: str
    place: str
    distribution: str
    about: str
    dense: bool = False
    slow: bool = False


ENTRIES = (
    Entry("irc", "ours:Irc", "numpy", "kernels compiled from the variant's text"),
    Entry("irc paged", "ours:Paged", "numpy", "decode from a paged cache: pages of 16 tokens in any order"),
    Entry("sdpa", "torch_sdpa:Fused", "torch", "PyTorch's fused attention, without a dense mask"),
    Entry("sdpa folded", "torch_sdpa:Folded", "torch", "the same, a group's query heads laid along the queries"),
    Entry("flex", "torch_flex:Flex", "torch", "FlexAttention under torch.compile"),
    Entry("sdpa mask", "torch_sdpa:Masked", "torch", "PyTorch's attention with a dense mask or bias", dense=True),
    Entry("eager", "torch_eager:Eager", "torch", "PyTorch, matrix products and softmax", dense=True, slow=True),
    Entry("compiled", "torch_eager:Compiled", "torch", "the same under torch.compile", dense=True),
    Entry("ort", "onnx_runtime:Attention", "onnxruntime", "ONNX Runtime, the best of its operators for the case"),
    Entry("openvino", "open_vino:Attention", "openvino", "OpenVINO's scaled_dot_product_attention"),
    Entry("jax", "jax_xla:Attention", "jax", "its dot_product_attention, or the formula", dense=True, slow=True),
)


def load(entry: Entry, threads: int) -> Contestant:
    """Raises ImportError where the library is not installed."""
    module, name = entry.place.split(":")
    contestant: Contestant = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)(threads)
    return contestant


def version(entry: Entry) -> str | None:
    """Of the distribution that is installed; None where there is none."""
    try:
        return importlib.metadata.version(entry.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
