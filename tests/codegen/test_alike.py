"""Loops that are the same but for names: one function, which others call with their own tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from compiled import call

from irc.codegen.alike import nameless
from irc.codegen.expr import Axis, Expr, Load, Size, number, op
from irc.codegen.kernel import Loop, LoopKernel, Target, Tensor
from irc.codegen.render import render, render_runs


def scaled(name: str, of: str, to: str, size: str, axis: str, factor: float = 2.0) -> LoopKernel:
    """to[i] = factor * of[i]"""
    i = Axis(axis, Size(size))
    body: Expr = op("mul", number(factor), Load(of, (i.index,)))
    loop = Loop((i,), (), "", body, None, None, Target(to, (i.index,)), False, (axis,))
    return LoopKernel(name, (Tensor(of, "f32", 1), Tensor(to, "f32", 1, True)), (size,), (loop,), None, "f32", (name,))


FIRST, SECOND = scaled("first", "x", "y", "N", "i"), scaled("second", "mul", "add", "i", "x")
OTHER = scaled("other", "x", "y", "N", "i", 3.0)


def test_names_tell_no_kernels_apart() -> None:
    assert nameless(FIRST) == nameless(SECOND)


def test_what_a_kernel_does_tells_it_apart() -> None:
    assert nameless(FIRST) != nameless(OTHER)
    assert nameless(FIRST) != nameless(replace(FIRST, arithmetic="f64"))
    assert nameless(FIRST) != nameless(replace(FIRST, tensors=FIRST.tensors[::-1])), "arguments in another order"
    assert nameless(FIRST) != nameless(replace(FIRST, zero="y"))


def test_a_kernel_alike_is_a_call_of_the_first() -> None:
    text, (parts,) = render_runs(((FIRST, SECOND, OTHER),), "three", "made by hand")
    assert text.count("for (int64_t") == 2
    assert "  first(data, strides, sizes, threads);" in text
    assert parts[1].length < parts[0].length


def test_a_part_tells_what_it_calls() -> None:
    _, (forward, backward) = render_runs(((FIRST, OTHER), (SECOND,)), "three", "made by hand")
    assert [(part.number, part.calls) for part in forward] == [(0, None), (1, None)]
    assert [(part.number, part.calls) for part in backward] == [(2, 0)]


def test_each_has_its_own_tensors() -> None:
    arrays = {name: np.full(5, value, np.float32) for name, value in (("x", 1), ("y", 0), ("mul", 4), ("add", 0))}
    both = render((FIRST, SECOND), "both", "made by hand")
    for kernel in (FIRST, SECOND):
        call(kernel, arrays, {"N": 5, "i": 5}, source=both)
    assert (arrays["y"] == 2).all()
    assert (arrays["add"] == 8).all()
