"""The C++ dialect: names of types, and the lines that unpack a kernel's arguments."""

from __future__ import annotations

from irc.codegen.kernel import Arithmetic, Kernel, Storage
from irc.codegen.names import pointer_name, size_name, stride_name

STORAGE: dict[Storage, str] = {
    "f32": "float",
    "f64": "double",
    "bf16": "irc::bf16",
    "f16": "irc::f16",
    "i8": "int8_t",
    "u8": "irc::u8",
    "i16": "int16_t",
    "u16": "uint16_t",
    "i32": "int32_t",
    "bool": "uint8_t",
}
ARITHMETIC: dict[Arithmetic, str] = {"f32": "float", "f64": "double"}

HEADERS = ("float_math.h", "scalar.h")
MASK_HEADERS = ("ranges.h",)
TILE_HEADERS = (
    "phases.h",
    "vector.h",
    "amx.h",
    "tile_forms.h",
    "tile_vector_math.h",
    "tile_panels.h",
    "tile_products.h",
    "tile_pairs.h",
)
DISTANCE_HEADERS = ("tile_distances.h",)
TRUTH_HEADERS = ("tile_truths.h",)
ADD_HEADERS = ("tile_adds.h",)
STREAM_HEADERS = ("stream.h",)
PRODUCT_HEADERS = ("products.h",)
ENTRY_HEADERS = (*PRODUCT_HEADERS, "entry.h")
"""Inlined in this order, the second and third where there is a kernel of tiles, the fourth where one has a panel of
distances, the fifth where one reads a table of truths, the sixth where one is of elements, the seventh where one has a
form for few rows, the last for whole programs. Products take the eighth, after those of tiles."""


def prologue(kernel: Kernel) -> tuple[str, ...]:
    """Declarations of `T`, of `NAME_ptr` and `NAME_s0` … for each tensor, and of `size_NAME` for each size. A last
    dimension has neighbours side by side, or one element, at 0: runtime/cpu.py sees to that."""
    lines = [f"using T = {ARITHMETIC[kernel.arithmetic]};"]
    for position, tensor in enumerate(kernel.tensors):
        const = "" if tensor.written else "const "
        kind = f"{const}{STORAGE[tensor.storage]} *"
        lines.append(f"{kind}__restrict {pointer_name(tensor.name)} = ({kind})data[{position}];")
        for d in range(tensor.rank):
            stride = f"strides[{position}][{d}]" if d + 1 < tensor.rank else "1"
            lines.append(f"const int64_t {stride_name(tensor.name, d)} = {stride};")
    lines += [f"const int64_t {size_name(name)} = sizes[{position}];" for position, name in enumerate(kernel.sizes)]
    return tuple(lines)
