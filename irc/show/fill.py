"""Tensors made up for a picture: by formulas in the language, or else smooth along positions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from irc.codegen.expr import Kind
from irc.error import InputError
from irc.grammar.source import Source
from irc.graph.interpret import DTYPES, Array, interpret, size_value
from irc.graph.ir import Graph

FORMULA = re.compile(r"\s*(\w+)\s*\[([\w\s,]+)\]\s*=(?!=)(.+)", re.DOTALL)


def formula(text: str, graph: Graph, sizes: Mapping[str, int]) -> tuple[str, Array]:
    """The name and the elements of an input given as `q[b,h,s,c] = cos(s / (c + 1))`, an expression of the indices and
    the program's sizes. Raises `InputError` or `SpecError` for what is no such formula."""
    from irc.pipeline import front

    found = FORMULA.fullmatch(text)
    node = next((n for n in graph.inputs if found is not None and n.name == found[1]), None)
    if found is None or node is None:
        names = ", ".join(n.name for n in graph.inputs)
        raise InputError(f"{text!r} is no formula of an input, as in 'q[b,h,s,c] = cos(s)'; the inputs are {names}")
    indices = [name.strip() for name in found[2].split(",")]
    shape = [size_value(extent, sizes) for extent in node.shape]
    if len(indices) != len(shape):
        raise InputError(f"'{node.name}' has {len(shape)} dimensions, and {len(indices)} are written in {text!r}")
    known = ", ".join(f"{name} = {value}" for name, value in sizes.items())
    ranges = ", ".join(f"{name}: {extent}" for name, extent in zip(indices, shape, strict=True))
    program = (
        f"attention fill {{\n size {known}\n project {{\n  made[{found[2]}] over {ranges} = {found[3]}\n }}\n"
        " return made\n}\n"
    )
    made = interpret(front(Source("--fill", program)), {}, {})["made"]
    return node.name, made.astype(DTYPES[node.kind])


def smooth(shape: tuple[int, ...]) -> Array:
    """Elements of [..., position, feature]: cosines and sines of growing wavelength, as a position embedding has them
    (Vaswani et al. 2017), slower in each further entry of the dimensions in front. The dot product of two positions
    falls with their distance."""
    *front, positions, features = (1, 1, *shape)[-max(len(shape), 2) :]
    entry = np.arange(math.prod(front)).reshape(-1, 1, 1)
    position, feature = np.arange(positions).reshape(-1, 1), np.arange(features)
    angle = position / (1.0 + feature // 2) / (1.0 + entry)
    return np.asarray(np.where(feature % 2 == 0, np.cos(angle), np.sin(angle)).reshape(shape))


def complete(
    graph: Graph, sizes: Mapping[str, int], values: Mapping[str, Any], formulas: Iterable[str], whole: bool
) -> dict[str, Any]:
    """The inputs that are given or have a formula; if `whole`, all of them: other floating tensors of two dimensions or
    more are smooth. Raises `InputError` for what is then missing, and for a tensor given twice."""
    found = dict(values)
    for text in formulas:
        name, made = formula(text, graph, sizes)
        if name in found:
            raise InputError(f"'{name}' is given twice")
        found[name] = made
    for node in graph.inputs if whole else ():
        if node.name in found:
            continue
        if node.kind is not Kind.FLOAT or len(node.shape) < 2:
            raise InputError(f"'{node.name}' is missing: give it with --set, --inputs or --fill")
        found[node.name] = smooth(tuple(size_value(extent, sizes) for extent in node.shape))
    return found
