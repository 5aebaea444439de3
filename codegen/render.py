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
from irc.codegen.expr import TRUE, Expr, op
from irc.codegen.kernel import Arithmetic, Kernel, LoopKernel, TileKernel
from irc.codegen.library import Library
from irc.codegen.parts import Part
from irc.codegen.printer import print_scalar
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
    names += STREAM_HEADERS if any(stream.form(kernel) for kernel in tiled) else ()
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
            few, tiled = stream.form(kernel), tiles.context(kernel, schedule)
            if few is None:
                return (_filled("tiles", {**tiled, "few": None}),)
            name, runs = few
            tiled |= {"few": print_scalar(runs), "of_few": name}
            streamed = {**stream.context(kernel, schedule.caches), "function": name}
            return _filled("tiles", tiled), _filled("stream", streamed)


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
) -> tuple[str, tuple[tuple[Part, ...], ...]]:
    """A source as `render` makes it, of the kernels of several runs, and the parts of each run, one for each function.
    With IRC_PARTS defined, part n is compiled where IRC_PART_n is, and no function chooses another form of itself."""
    texts, parts = _functions(runs, schedule)
    return _program(tuple(chain.from_iterable(runs)), name, spec, list(enumerate(texts)), None), parts


def _functions(
    runs: tuple[tuple[Kernel, ...], ...], schedule: Schedule
) -> tuple[list[str], tuple[tuple[Part, ...], ...]]:
    """The functions of all runs, and the parts of each. Loops that do what those of a kernel before do call that."""
    texts: list[str] = []
    parts: list[tuple[Part, ...]] = []
    known: dict[Kernel, tuple[str, int]] = {}
    for kernels in runs:
        made: list[Part] = []
        for kernel in kernels:
            alike = nameless(kernel) if isinstance(kernel, LoopKernel) else kernel
            name, number = known.setdefault(alike, (kernel.name, len(texts)))
            if name == kernel.name:
                rendered, calls = render_kernel(kernel, schedule), None
            else:
                rendered, calls = (_filled("alike", {"kernel": kernel, "name": name}),), number
            for (function, when), text in zip(_forms(kernel), rendered, strict=True):
                made.append(Part(len(texts), len(text), kernel.name, function, when, calls))
                texts.append(text)
        parts.append(tuple(made))
    return texts, tuple(parts)


def _forms(kernel: Kernel) -> tuple[tuple[str, Expr], ...]:
    """Names of the kernel's functions, as they are rendered, and the sizes for which each runs."""
    few = stream.form(kernel) if isinstance(kernel, TileKernel) else None
    return ((kernel.name, TRUE),) if few is None else ((kernel.name, op("not", few[1])), few)


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
