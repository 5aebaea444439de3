"""Kernels as one C++ source. Templates own loops and memory; expressions arrive printed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from irc.codegen import elements, loops
from irc.codegen.cpu import HEADERS, MASK_HEADERS, TILE_HEADERS
from irc.codegen.kernel import Kernel, LoopKernel, TileKernel

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, autoescape=False
    )


def _headers(kernels: tuple[Kernel, ...]) -> list[str]:
    orders = {kernel.order for kernel in kernels if isinstance(kernel, TileKernel)}
    names = HEADERS + (MASK_HEADERS if orders else ()) + (TILE_HEADERS if orders - {"elements"} else ())
    return [(TEMPLATES / "cpu" / name).read_text() for name in names]


def render_kernel(kernel: Kernel) -> str:
    """One kernel as an `extern "C"` function."""
    match kernel:
        case LoopKernel():
            template, context = "loops", loops.context(kernel)
        case TileKernel(order="elements"):
            template, context = "elements", elements.context(kernel)
        case TileKernel():
            from irc.codegen import tiles

            template, context = kernel.order, tiles.context(kernel)
    return _environment().get_template(f"cpu/{template}.cpp.j2").render(**context)


def render(kernels: tuple[Kernel, ...], name: str, spec: str) -> str:
    """A C++17 source that needs no file of ours, every kernel with the ABI of `kernel.py`."""
    program = _environment().get_template("cpu/program.cpp.j2")
    return program.render(
        name=name, spec=spec, headers=_headers(kernels), kernels=[render_kernel(kernel) for kernel in kernels]
    )
