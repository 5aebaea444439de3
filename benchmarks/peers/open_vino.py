"""OpenVINO's CPU plugin: scaled_dot_product_attention, forward only, with a dense mask or bias where one is needed."""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13

from benchmarks.cases import DECODE_GROUPS, Problem
from benchmarks.peers import Array, Ready, Unsupported

TYPES = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16, "f16": openvino.Type.f16}


class Attention:
    def __init__(self, threads: int) -> None:
        self.core = openvino.Core()
        self.settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}

    def prepare(self, problem: Problem) -> Ready:
        if problem.case.work not in ("forward", "decode"):
            raise Unsupported("inference only")
        variant, shape = problem.variant, problem.case.shape
        if variant.score is not None and not variant.additive:
            raise Unsupported("a map of the score is neither a mask nor a bias")
        arrays = {n: problem.operands[n] for n in "qkv"}
        if problem.case.decodes:  # a group's query heads laid along the queries: the operator shares no heads
            arrays["q"] = arrays["q"].reshape(shape.batch, DECODE_GROUPS, -1, shape.width)
        if variant.name not in ("full", "causal"):
            arrays["bias"] = problem.bias(masked=True)
        element = TYPES[problem.case.dtype]
        inputs = [opset13.parameter(list(a.shape), element, name=n) for n, a in arrays.items()]
        node = opset13.scaled_dot_product_attention(*inputs, causal=variant.name == "causal")
        precision = {"INFERENCE_PRECISION_HINT": problem.case.dtype}
        model = openvino.Model([opset13.result(node)], inputs, "attention")
        request = self.core.compile_model(model, "CPU", self.settings | precision).create_infer_request()
        o = np.empty_like(arrays["q"])
        for number, array in enumerate(arrays.values()):
            request.set_input_tensor(number, _tensor(array, element))
        request.set_output_tensor(0, _tensor(o, element))

        def run() -> Array:
            request.infer()
            assert arrays  # the request uses their memory, and does not keep it
            return o

        return Ready(run, lambda o: {"o": o.reshape(problem.operands["q"].shape)})


def _tensor(array: Array, element: openvino.Type) -> openvino.Tensor:
    """On the array's memory; numpy's bf16 is unknown to OpenVINO, its bits are not."""
    bits = array.view(np.uint16) if element == openvino.Type.bf16 else array
    return openvino.Tensor(bits, list(array.shape), element)
