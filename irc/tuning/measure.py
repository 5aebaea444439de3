"""What measuring needs: arguments made at random, and a library that notes how long each kernel takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from irc.calls.program import Program
from irc.codegen.expr import Kind
from irc.codegen.kernel import Kernel
from irc.compiled import arguments
from irc.error import InputError
from irc.graph.interpret import complete_sizes, size_value
from irc.runtime.arrays import DTYPE, Array, take
from irc.runtime.execute import Library
from irc.runtime.sizes import untold


class Timed:
    """A library through which calls go to another: it adds up the seconds in each kernel, on a clock of choice, until
    they are taken."""

    def __init__(self, library: Library, clock: Callable[[], float]) -> None:
        self.by_address = library.by_address
        self.load = library.load
        self.device = library.device
        self.clock = clock
        self._bound = library.bound
        self._seconds: dict[str, float] = {}

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        run = self._bound(kernel, tensors, sizes, threads)

        def call(tensors: Mapping[str, Any], places: Mapping[str, int]) -> None:
            start = self.clock()
            run(tensors, places)
            self._seconds[kernel.name] = self._seconds.get(kernel.name, 0.0) + self.clock() - start

        return call

    def take(self) -> dict[str, float]:
        """Seconds by the kernel's name since the last time."""
        taken, self._seconds = self._seconds, {}
        return taken


def constants(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that a program has to fix to be measured: those of its kernels, and those that no shape tells."""
    known = program.kernel_sizes(sizes)
    declared = [(n.name, n.shape) for n in arguments(program.graph)]
    shapes = {name: tuple(size_value(extent, sizes) for extent in dims) for name, dims in declared}
    return known | {name: sizes[name] for name in untold(declared, shapes, program.graph.sizes, known)}


def timed(program: Program, sizes: Mapping[str, int], clock: Callable[[], float], given: Mapping[str, Any]) -> Timed:
    """Let the program's calls of these sizes, and of arguments like those given, go through a timed library. Raises
    InputError for the interpreter."""
    integers = program.integers(given)
    watched = program.built(sizes, integers).library
    if watched is None:
        raise InputError(f"target {program.target!r} has no kernels to measure")
    library = Timed(watched, clock)
    program.measured_through(sizes, library, integers)
    return library


def all_sizes(program: Program, given: Mapping[str, int]) -> dict[str, int]:
    """Every size of the program. Raises InputError for one that is not given, or that the program has not."""
    names = [name for name, _ in program.graph.sizes]
    for name in given:
        if name not in names:
            raise InputError(f"size {name}: the program has no such size; it has {', '.join(names)}")
    known = complete_sizes(program.graph, given)
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"give every size: --size {','.join(f'{name}=…' for name in missing)}")
    return known


def random_arguments(program: Program, sizes: Mapping[str, int], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call: as given, else normal numbers, a param's divided by the root of its first axis.

    Tables and scalars decide what a mask allows, and so what there is to do: they are never made up. Raises InputError
    naming those that are not given.
    """
    random = np.random.default_rng(0)
    found, missing = {}, []
    for node in arguments(program.graph):
        shape = tuple(size_value(e, sizes) for e in node.shape)
        if node.name in given:
            value = given[node.name]
            found[node.name] = (
                take(node.name, value, "i32") if node.kind is Kind.INT else value
            )  # once, not in every call
        elif node.kind is Kind.FLOAT and shape:
            values = random.standard_normal(shape, np.float32)
            scale = shape[0] ** -0.5 if node.role == "param" and shape[0] else 1.0
            found[node.name] = (scale * values).astype(DTYPE[program.storage(node)])
        else:
            missing.append(node.name)
    if missing:
        raise InputError(
            f"{', '.join(missing)}: what masks read is not made up; give it with --set, --inputs or --fill"
        )
    return found


def cotangents(outputs: Mapping[str, Any]) -> dict[str, Array]:
    """Ones for every floating output."""
    return {name: np.ones_like(value) for name, value in outputs.items() if value.dtype.kind not in "biu"}


@contextmanager
def threads_of_kernels(threads: int) -> Iterator[None]:
    """Kernels run on so many threads."""
    before = os.environ.get("IRC_THREADS")
    os.environ["IRC_THREADS"] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ["IRC_THREADS"]
        else:
            os.environ["IRC_THREADS"] = before
