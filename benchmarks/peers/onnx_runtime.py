"""ONNX Runtime: MultiHeadAttention, GroupQueryAttention (com.microsoft) and Attention (ONNX 23), forward only.

Masks and biases that the operators have no attribute for are dense tensors, made beforehand. Operands and results lie
in memory that is bound once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from benchmarks.cases import DECODE_GROUPS, Problem
from benchmarks.peers import Array, Ready, Unsupported
from benchmarks.variants import CAP, WINDOW

ELEMENTS = {"f32": onnx.TensorProto.FLOAT, "f16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
OPSETS = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: its inputs in order (an empty name: absent), its outputs, and the arrays they are bound to."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    arrays: Mapping[str, Array]


class Attention:
    def __init__(self, threads: int) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3

    def prepare(self, problem: Problem) -> Ready:
        if problem.case.work not in ("forward", "decode"):
            raise Unsupported("inference only")
        node = _decode(problem) if problem.case.decodes else _prefill(problem)
        element = ELEMENTS[problem.case.dtype]
        session = onnxruntime.InferenceSession(
            _model(node, element).SerializeToString(), self.options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        values = {n: onnxruntime.OrtValue.ortvalue_from_numpy(a) for n, a in node.arrays.items()}
        for name in node.inputs:
            if name:
                binding.bind_ortvalue_input(name, values[name])
        for name in node.outputs:
            binding.bind_ortvalue_output(name, values[SHARED.get(name, name)])
        b, h, s, d = problem.operands["q"].shape

        def run() -> Array:
            session.run_with_iobinding(binding)
            return node.arrays["o"]  # which the binding uses, and does not keep: neither this nor the operands

        return Ready(run, lambda o: {"o": o.reshape(b, s, h, d).transpose(0, 2, 1, 3)})


SHARED = {"k_cache_out": "k_cache", "v_cache_out": "v_cache"}  # a cache is written where it lies


def _model(node: Node, element: int) -> onnx.ModelProto:
    def info(name: str) -> onnx.ValueInfoProto:
        array = node.arrays[SHARED.get(name, name)]
        kind = onnx.TensorProto.INT32 if array.dtype == np.int32 else element
        return helper.make_tensor_value_info(name, kind, array.shape)

    domain = "" if node.operator == "Attention" else "com.microsoft"
    made = helper.make_node(node.operator, node.inputs, node.outputs, domain=domain, **node.attributes)
    graph = helper.make_graph([made], "attention", [info(n) for n in node.inputs if n], [info(n) for n in node.outputs])
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=10)


def _rows(array: Array) -> Array:
    """[B,H,S,D] as [B,S,H·D], the operators' layout."""
    b, h, s, d = array.shape
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).reshape(b, s, h * d)


def _prefill(problem: Problem) -> Node:
    shape, variant = problem.case.shape, problem.variant
    arrays = {n: _rows(problem.operands[n]) for n in "qkv"}
    arrays["o"] = np.empty_like(arrays["q"])
    heads = {"q_num_heads": shape.heads, "kv_num_heads": shape.heads}
    if variant.name == "full" and problem.case.dtype == "f16":
        return Node("Attention", ("q", "k", "v"), ("o",), heads, arrays)
    if variant.name == "full":
        return Node("MultiHeadAttention", ("q", "k", "v"), ("o",), {"num_heads": shape.heads}, arrays)
    attributes: dict[str, Any] = {"num_heads": shape.heads, "kv_num_heads": shape.heads}
    if variant.name == "window":
        attributes["local_window_size"] = WINDOW
    if variant.name == "softcap":
        attributes["softcap"] = CAP
    arrays |= _lengths(shape.batch, shape.tokens)
    arrays |= {n: np.empty((shape.batch, shape.heads, shape.tokens, shape.width), problem.dtype) for n in ("pk", "pv")}
    inputs: tuple[str, ...] = ("q", "k", "v", "", "", "past", "total")
    if variant.additive or variant.name == "documents":
        arrays["bias"] = problem.bias(masked=not variant.additive)  # the operator is causal of itself
        inputs = (*inputs, "", "", "", "bias")
    return Node("GroupQueryAttention", inputs, ("o", "pk", "pv"), attributes, arrays)


def _decode(problem: Problem) -> Node:
    """The cache holds all keys; the step writes its own, the last, in place."""
    shape, operands = problem.case.shape, problem.operands
    arrays = {
        "q": _rows(operands["q"]),
        "k": _rows(operands["k"][:, :, -1:]),
        "v": _rows(operands["v"][:, :, -1:]),
        "k_cache": operands["k"],
        "v_cache": operands["v"],
        "o": np.empty((shape.batch, 1, shape.heads * shape.width), problem.dtype),
        **_lengths(shape.batch, shape.tokens),
    }
    attributes = {"num_heads": shape.heads, "kv_num_heads": DECODE_GROUPS}
    inputs = ("q", "k", "v", "k_cache", "v_cache", "past", "total")
    return Node("GroupQueryAttention", inputs, ("o", *SHARED), attributes, arrays)


def _lengths(batch: int, tokens: int) -> dict[str, Array]:
    return {"past": np.full(batch, tokens - 1, np.int32), "total": np.full(1, tokens, np.int32)}
