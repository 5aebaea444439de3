"""A Library printed: what the templates of its C header (`header.h.j2`) and of its code (`entries.cpp.j2`) see."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import assert_never

from irc.codegen.cpu import ARITHMETIC, STORAGE
from irc.codegen.expr import Expr, Local, integer, loads, op, walk
from irc.codegen.kernel import BYTES, Storage
from irc.codegen.library import (
    AddChunks,
    Argument,
    Buffer,
    Check,
    Clear,
    Copy,
    Entry,
    Invoke,
    Library,
    Multiply,
    Place,
    ProductAxis,
    Statement,
)
from irc.codegen.loops import Counter, counters
from irc.codegen.names import KEYWORDS, OF_TENSORS, identifier, plain, pointer_name, size_name, stride_name
from irc.codegen.printer import print_scalar

C_TYPES: dict[Storage, str] = {
    "f32": "float",
    "f64": "double",
    "bf16": "uint16_t",
    "f16": "uint16_t",
    "i8": "int8_t",
    "u8": "uint8_t",
    "i16": "int16_t",
    "u16": "uint16_t",
    "i32": "int32_t",
    "bool": "uint8_t",
}

# Keywords of C that C++ lacks, and names in the code of an entry.
_TAKEN = KEYWORDS | {"restrict", "T", "sizes", "threads", "saved", "workspace", "code", "offsets"}
_TAKEN |= {"NULL", "NAN", "INFINITY", "EOF", "linux", "unix"}  # macros


def argument_name(name: str) -> str:
    """A name of the spec as a parameter of a C function."""
    text = plain(name)
    return f"{text}_" if text in _TAKEN or text.startswith("size_") or OF_TENSORS.search(text) else text


def elements(shape: tuple[Expr, ...]) -> Expr:
    total: Expr = integer(1)
    for size in shape:
        total = op("mul", total, size)
    return total


def strides(shape: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Of a C-contiguous tensor, in elements."""
    return tuple(elements(shape[d + 1 :]) for d in range(len(shape)))


@dataclass(frozen=True, slots=True)
class PrintedCheck:
    loops: tuple[Counter, ...]
    condition: str
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class PrintedBuffer:
    name: str
    pointer: str
    bytes: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PrintedEntry:
    """`parameters`: (declaration, comment). `required`: (parameter, how many elements it has, code of the
    error when it is NULL but has some)."""

    what: str
    parameters: tuple[tuple[str, str], ...]
    required: tuple[tuple[str, str, int], ...]
    pointers: tuple[str, ...]
    buffers: tuple[PrintedBuffer, ...]
    statements: tuple[str, ...]


def context(library: Library) -> dict[str, object]:
    messages: list[str] = []

    def code(text: str) -> int:
        if text not in messages:
            messages.append(text)
        return messages.index(text) + 1

    def check(item: Check) -> PrintedCheck:
        return PrintedCheck(counters(item.axes), print_scalar(item.predicate), code(item.text), item.text)

    size_checks = [check(item) for item in library.size_checks]
    input_checks = [check(item) for item in library.input_checks]
    read = {name for item in library.input_checks for name in checked_tensors(item)}
    checked = [a for a in library.inputs if a.name in read]
    extremes = {name for item in library.input_checks for name in _ranged(item)}
    entries = []
    for entry in library.entries:
        required = [(argument_name(a.name), print_scalar(elements(a.shape))) for a in entry.arguments if _pointer(a)]
        numbered = tuple((name, count, code(f"{name} is NULL")) for name, count in required)
        entries.append(_entry(entry, numbered, library))
    lost = {what: code(f"{what} is NULL") for what in ("saved", "workspace")}
    return {
        "name": library.name,
        "sizes": tuple((argument_name(s), size_name(s)) for s in library.sizes),
        "fixed": library.fixed,
        "dtype": library.dtype,
        "T": ARITHMETIC[library.arithmetic],
        "size_checks": size_checks,
        "input_checks": input_checks,
        "checked": ", ".join(argument_name(a.name) for a in checked),
        "checked_parameters": tuple(_parameter(a) for a in checked),
        "checked_pointers": tuple(line for a in checked for line in (_pointer_line(a), *_stride_lines(a))),
        "extremes": tuple(_extremes(a) for a in checked if a.name in extremes),
        "saved": tuple(_buffer(b) for b in library.saved),
        "entries": tuple(entries),
        "lost": lost,
        "messages": tuple(json.dumps(text) for text in messages),
    }


def _ranged(check: Check) -> set[str]:
    """Tables of which a check reads the least and the greatest entry, as `Local("NAME.least")` and `NAME.greatest`."""
    return {e.name.rpartition(".")[0] for e in walk(check.predicate) if isinstance(e, Local)}


def checked_tensors(check: Check) -> set[str]:
    """Names of the arguments whose entries a check reads."""
    return {load.tensor for load in loads(check.predicate)} | _ranged(check)


def _extremes(argument: Argument) -> tuple[str, str, str, str]:
    """Variables for the least and the greatest entry, the table's pointer and how many entries it has."""
    least, greatest = (identifier(f"{argument.name}.{which}") for which in ("least", "greatest"))
    return least, greatest, pointer_name(argument.name), print_scalar(elements(argument.shape))


def _pointer(argument: Argument) -> bool:
    return argument.needed and argument.use != "value"


def _entry(entry: Entry, required: tuple[tuple[str, str, int], ...], library: Library) -> PrintedEntry:
    return PrintedEntry(
        what=entry.what,
        parameters=tuple((_parameter(a), _comment(a)) for a in entry.arguments),
        required=required,
        pointers=tuple(_pointer_line(a) for a in entry.arguments if a.needed),
        buffers=tuple(_buffer(b) for b in entry.buffers),
        statements=tuple(_statement(s) for s in entry.statements),
    )


def _comment(argument: Argument) -> str:
    """Element type and shape."""
    shape = ", ".join(print_scalar(size).replace("size_", "") for size in argument.shape)
    text = f"{argument.storage}[{shape}]" if argument.use != "value" else argument.storage
    return text if argument.needed else f"{text}, not used: may be NULL"


def _parameter(argument: Argument) -> str:
    kind, name = C_TYPES[argument.storage], argument_name(argument.name)
    if argument.use == "value":
        return f"{kind} {name}"
    return f"{'const ' if argument.use == 'read' else ''}{kind} *{name}"


def _pointer_line(argument: Argument) -> str:
    name = argument_name(argument.name)
    const = "const " if argument.use != "written" else ""
    kind = f"{const}{STORAGE[argument.storage]} *"
    return f"{kind}const {pointer_name(argument.name)} = ({kind}){'&' if argument.use == 'value' else ''}{name};"


def _stride_lines(argument: Argument) -> tuple[str, ...]:
    return tuple(
        f"const int64_t {stride_name(argument.name, d)} = {print_scalar(stride)};"
        for d, stride in enumerate(strides(argument.shape))
    )


def _buffer(buffer: Buffer) -> PrintedBuffer:
    total = print_scalar(op("mul", elements(buffer.shape), integer(BYTES[buffer.storage])))
    return PrintedBuffer(buffer.name, pointer_name(buffer.name), total, buffer.first, buffer.last)


# statements


def _at(place: Place) -> str:
    start = f"({STORAGE[place.storage]} *){pointer_name(place.tensor)}"
    offset = print_scalar(place.offset)
    return start if offset == "0" else f"{start} + {offset}"


def _list(items: list[str]) -> str:
    return "{" + ", ".join(items) + "}"


def _axes(axes: tuple[ProductAxis, ...]) -> str:
    return _list([_list([print_scalar(e) for e in (a.extent, a.left, a.right, a.result)]) for a in axes])


def _statement(statement: Statement) -> str:
    match statement:
        case Clear(target, shape):
            return f"irc::clear({_at(target)}, {print_scalar(elements(shape))});"
        case Invoke(kernel, tensors):
            data = _list([_at(place) for place in tensors])
            rows = _list([_list([print_scalar(s) for s in place.strides]) for place in tensors])
            sizes = _list([size_name(size) for size in kernel.sizes])
            return f"irc::call({kernel.name},\n      {data},\n      {rows}, {sizes}, threads);"
        case Multiply(result, left, right, batch, rows_, columns, inner, pairs_, absent):
            given = [f"irc::tensor({_at(place)})" for place in (result, left, right)]
            given += [_axes(part) for part in (batch, rows_, columns, inner)]
            return f"irc::product({_list([*given, str(pairs_).lower(), str(absent)])}, threads);"
        case AddChunks(result, source, chunks, shape):
            counts = f"{print_scalar(chunks)}, {print_scalar(elements(shape))}"
            kind = "double" if result.storage == "f64" else "float"
            return f"irc::sum_chunks<{kind}>({_at(result)}, {_at(source)}, {counts}, threads);"
        case Copy(target, source, shape):
            pairs = zip(shape, target.strides, source.strides, strict=True)
            axes = _list([_list([print_scalar(e) for e in axis]) for axis in pairs])
            return f"irc::copy({_at(target)}, {_at(source)}, {axes});"
        case _:
            assert_never(statement)
