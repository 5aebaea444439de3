"""A compiled program as files for other languages: library, C header, source, and a manifest of how to call them."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from irc.codegen.expr import Axis, Const, Index, Load, Local, Op, Size
from irc.codegen.kernel import Kernel
from irc.error import DeviceError
from irc.fuse import Fused
from irc.printer import expression
from irc.program import Program

SIGNATURE = "(void *const *data, const int64_t *const *strides, const int64_t *sizes, int threads)"


def export(program: Program, folder: Path) -> tuple[Path, ...]:
    """Write `lib<name>.so`, `<name>.h`, `<name>.cpp` and `manifest.json` into the folder; answers their paths.

    Raises `InputError` while a size that the kernels depend on is open, `DeviceError` for a target without a library.
    """
    name, kernels = program.graph.name, program.kernels
    built = program.built({})
    if built.directory is None:
        raise DeviceError(f"target {program.target!r} has no library to write")
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / file for file in (f"lib{name}.so", f"{name}.h", f"{name}.cpp", "manifest.json"))
    library, header, source, manifest = paths
    shutil.copyfile(built.directory / "kernels.so", library)
    header.write_text(_header(name, kernels), encoding="utf-8")
    source.write_text(program.source, encoding="utf-8")
    contents = {
        "program": name,
        "sizes": program.fixed,
        "kernels": [_kernel(kernel) for kernel in kernels],
        "forward": _plan(built.compiled.forward),
        "backward": _plan(built.compiled.backward) if built.compiled.backward is not None else None,
    }
    manifest.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    return paths


def _header(name: str, kernels: tuple[Kernel, ...]) -> str:
    guard = f"IRC_{name.upper()}_H"
    lines = [
        f"/* The kernels of the attention program '{name}'.",
        " *",
        " * data[n] points at the first element of tensor n; strides[n] holds its strides in elements,",
        " * one a dimension; the last axis is contiguous. sizes are in the order given. Scalars are tensors of rank 0.",
        " * manifest.json lists the steps that make up a forward and a backward run.",
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "#include <stdint.h>",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
    ]
    for kernel in kernels:
        lines += ["", "/*"]
        for number, tensor in enumerate(kernel.tensors):
            use = "written" if tensor.written else "read"
            lines.append(f" * data[{number}]  {tensor.name}: {tensor.storage}, rank {tensor.rank}, {use}")
        lines += [f" * sizes    {', '.join(kernel.sizes) or 'none'}", " */"]
        lines.append(f"void {kernel.name}{SIGNATURE};")
    return "\n".join([*lines, "", "#ifdef __cplusplus", "}", "#endif", "#endif", ""])


def _kernel(kernel: Kernel) -> dict[str, Any]:
    return {"name": kernel.name, "tensors": plain(kernel.tensors), "sizes": list(kernel.sizes)}


def _plan(fused: Fused) -> Any:
    return plain(fused.plan)


def plain(value: Any) -> Any:
    """Frozen nodes as JSON: an object with its type's name under `is`, expressions as text, an axis as {name: size}."""
    match value:
        case Const() | Index() | Size() | Load() | Local() | Op():
            return expression(value)
        case Axis(name, size, _):
            return {name: expression(size)}
        case tuple():
            return [plain(item) for item in value]
        case _ if is_dataclass(value):
            return {"is": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        case _:
            return value
