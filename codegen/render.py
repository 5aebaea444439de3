"""Kernels as one C++ source. Templates own loops and memory; expressions arrive printed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import jinja2

from irc.codegen import elements, entries, loops, stream, tiles
from irc.codegen.alike import nameless
from irc.codegen.cpu import (
    ADD_HEADERS,
    ARITHMETIC,
    DISTANCE_HEADERS,
    ENTRY_HEADERS,
    HEADERS,
    MASK_HEADERS,
    PRODUCT_HEADERS,
    STREAM_HEADERS,
    TILE_HEADERS,
    TRUTH_HEADERS,
)
from irc.codegen.kernel import Arithmetic, Kernel, LoopKernel, TileKernel
from irc.codegen.library import Library
from irc.codegen.schedule import Schedule
from irc.codegen.truths import truth_tables

MODEL = Schedule()
TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, autoescape=False
    )


def _headers(kernels: tuple[Kernel, ...], whole: bool) -> list[str]:
    tiled = [kernel for kernel in kernels if isinstance(kernel, TileKernel)]
    names = HEADERS + (MASK_HEADERS if tiled else ()) + (TILE_HEADERS if whole or tiled else ())
    names += DISTANCE_HEADERS if any(tiles.has_distances(kernel) for kernel in tiled) else ()
    names += TRUTH_HEADERS if any(truth_tables(kernel) for kernel in tiled) else ()
    names += ADD_HEADERS if any(kernel.order == "elements" for kernel in tiled) else ()
    names += STREAM_HEADERS if any(stream.has_form(kernel) for kernel in tiled) else ()
    names += ENTRY_HEADERS if whole else ()
    return [(TEMPLATES / "cpu" / name).read_text(encoding="utf-8") for name in names]


def render_kernel(kernel: Kernel, schedule: Schedule) -> tuple[str, ...]:
    """One kernel as an `extern "C"` function, and its form for few rows as another."""
    match kernel:
        case LoopKernel():
            return (_filled("loops", loops.context(kernel)),)
        case TileKernel(order="elements"):
            return (_filled("elements", elements.context(kernel, schedule)),)
        case TileKernel():
            tiled = tiles.context(kernel, schedule)
            if not stream.has_form(kernel):
                return (_filled("tiles", {**tiled, "few": None}),)
            few = stream.context(kernel, schedule.caches)
            return _filled("tiles", {**tiled, "few": few["few"]}), _filled("stream", few)


def _filled(template: str, context: dict[str, object]) -> str:
    return environment().get_template(f"cpu/{template}.cpp.j2").render(**context)


def render(
    kernels: tuple[Kernel, ...], name: str, spec: str, library: Library | None = None, schedule: Schedule = MODEL
) -> str:
    """A C++17 source that needs no file of ours: every kernel with the ABI of `kernel.py`, and entries."""
    texts, _ = _functions((kernels,), schedule)
    return _program(kernels, name, spec, [(None, text) for text in texts], library)


def render_runs(
    runs: tuple[tuple[Kernel, ...], ...], name: str, spec: str, schedule: Schedule = MODEL
) -> tuple[str, tuple[dict[int, int], ...]]:
    """A source as `render` makes it, of the kernels of several runs, and the parts that each run needs, one for each
    function: their lengths by their numbers. With IRC_PARTS defined, part n is compiled where IRC_PART_n is."""
    texts, parts = _functions(runs, schedule)
    return _program(tuple(chain.from_iterable(runs)), name, spec, list(enumerate(texts)), None), parts


def _functions(
    runs: tuple[tuple[Kernel, ...], ...], schedule: Schedule
) -> tuple[list[str], tuple[dict[int, int], ...]]:
    """The functions of all runs, and for each run those that it needs, lengths by numbers. Loops that do what those of
    a kernel before do call that."""
    texts: list[str] = []
    parts: list[dict[int, int]] = []
    known: dict[Kernel, tuple[str, int]] = {}
    for kernels in runs:
        needed: dict[int, int] = {}
        for kernel in kernels:
            alike = nameless(kernel) if isinstance(kernel, LoopKernel) else kernel
            name, number = known.setdefault(alike, (kernel.name, len(texts)))
            if name == kernel.name:
                rendered = render_kernel(kernel, schedule)
            else:
                rendered = (_filled("alike", {"kernel": kernel, "name": name}),)
                needed[number] = len(texts[number])
            needed |= {len(texts) + n: len(text) for n, text in enumerate(rendered)}
            texts += rendered
        parts.append(needed)
    return texts, tuple(parts)


def _program(
    kernels: tuple[Kernel, ...], name: str, spec: str, texts: Sequence[tuple[int | None, str]], library: Library | None
) -> str:
    return (
        environment()
        .get_template("cpu/program.cpp.j2")
        .render(
            name=name,
            spec=spec,
            headers=_headers(kernels, library is not None),
            functions=texts,
            entries="" if library is None else _render(library, "entries.cpp"),
        )
    )


def render_peak(pairs: bool, arithmetic: Arithmetic) -> str:
    """A source with `void irc_peak(int64_t steps, int threads)`, multiplications and additions in registers as products
    of tiles do them, and `int irc_peak_operations()`, those of one thread in one step."""
    headers = [(TEMPLATES / "cpu" / name).read_text(encoding="utf-8") for name in HEADERS + TILE_HEADERS]
    form = "irc::Pair" if pairs else f"irc::Single<{ARITHMETIC[arithmetic]}>"
    return environment().get_template("cpu/peak.cpp.j2").render(headers=headers, form=form)


def render_products() -> str:
    """A source with `irc_product`, matrix products of any tensors."""
    headers = [
        (TEMPLATES / "cpu" / name).read_text(encoding="utf-8") for name in HEADERS + TILE_HEADERS + PRODUCT_HEADERS
    ]
    return environment().get_template("cpu/products.cpp.j2").render(headers=headers)


def render_header(library: Library) -> str:
    """The C header of the library's entries."""
    return _render(library, "header.h")


def _render(library: Library, template: str) -> str:
    return environment().get_template(f"cpu/{template}.j2").render(**entries.context(library))
