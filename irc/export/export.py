"""A compiled program as files for other languages: library, C header, source, and a manifest of what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from irc.calls.program import Program
from irc.codegen.expr import Axis, Const, Index, Kind, Load, Local, Op, Size
from irc.codegen.kernel import Kernel, Storage
from irc.codegen.library import Entry, Library
from irc.codegen.render import render, render_header
from irc.compiled import Fused, Integers, arguments
from irc.error import DeviceError, InputError
from irc.export.entries import library
from irc.graph.printer import expression
from irc.runtime import toolchain
from irc.runtime.arrays import DTYPE, NARROW


def export(program: Program, folder: Path, types: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Write `lib<name>.so`, `<name>.h`, `<name>.cpp` and `manifest.json` into the folder; answers their paths.

    types: of integers that are not of 32 bits, `{"k": "i8"}`. Raises `InputError` for others, while a size that the
    kernels depend on is open, and where one of these files is a folder; `DeviceError` for a target without a library.
    """
    if program.target != "cpu":
        raise DeviceError(f"target {program.target!r} has no library to write: the target cpu alone has")
    integers = _integers(program, types or {})
    built = program.built({}, integers)
    name, kernels = program.graph.name, tuple(built.kernels.values())
    made = library(program, integers)
    contents = {
        "program": name,
        "sizes": program.fixed,
        "entries": [_entry(made, entry) for entry in made.entries],
        "ensures": [{"property": name, "verdict": v.label, "why": v.why} for name, v in program.verdicts.items()],
        "kernels": [_kernel(kernel) for kernel in kernels],
        "forward": _plan(built.compiled.forward),
        "backward": _plan(built.compiled.backward) if built.compiled.backward is not None else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = f"lib{name}.so", f"{name}.h", f"{name}.cpp", "manifest.json"
    for path in (folder / file for file in files):
        if path.is_dir():
            raise InputError(f"{path}: expected a file, or none yet, where one is to be written; it is a folder")
    with TemporaryDirectory(prefix="building-", dir=folder) as beside:  # files of another library stay together
        binary, header, source, manifest = (Path(beside) / file for file in files)
        toolchain.compile(render(kernels, name, program.text.text, made, program.schedule(program.fixed)), binary)
        binary.with_suffix(".cpp").rename(source)
        header.write_text(render_header(made), encoding="utf-8")
        manifest.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        return tuple((Path(beside) / file).replace(folder / file) for file in files)


def _integers(program: Program, types: Mapping[str, str]) -> Integers:
    """Raises InputError for what is no tensor of integers, or no element type of such."""
    takes = [n.name for n in arguments(program.graph) if n.kind is Kind.INT and n.shape]
    found: list[tuple[str, Storage]] = []
    for name, given in types.items():
        if name not in takes:
            have = f"those are {', '.join(takes)}" if takes else "there are none"
            raise InputError(f"type of {name}: {program.graph.name} has no tensor of integers of that name; {have}")
        storage = next((s for s, dtype in DTYPE.items() if s == given and dtype in NARROW), None)
        if storage is not None:
            found.append((name, storage))
        elif given != "i32":
            raise InputError(f"type of {name}: expected i8, u8, i16, u16 or i32, got {given}")
    return tuple(found)


def _entry(made: Library, entry: Entry) -> dict[str, Any]:
    """The function's name, and its arguments between the sizes and `saved, workspace, threads`."""
    return {"name": f"{made.name}_{entry.what}", "arguments": plain(entry.arguments)}


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
