"""Stacks of matrix products by cuBLAS, through ctypes on the library of the toolkit, of a wheel, or already loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from irc.codegen.kernel import Storage
from irc.runtime.arrays import Array, address, storage_of
from irc.runtime.cuda import nvcc
from irc.runtime.errors import DeviceError

if TYPE_CHECKING:
    from irc.runtime.cuda.device import Cuda

NAMES = ("libcublas.so.13", "libcublas.so.12")
MISSING = "libcublas was not found, which matrix products outside kernels need: pip install nvidia-cublas"
TYPES: dict[Storage, int] = {"f32": 0, "f64": 1, "f16": 2, "bf16": 14}  # cudaDataType
COMPUTE_32F, COMPUTE_64F = 68, 70  # cublasComputeType_t: without TF32
WHOLE_SUMS = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
DEFAULT_ALGORITHM = -1
MOST = 2**31 - 1


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Raises DeviceError where there is none."""
    for candidate in _candidates():
        try:
            found = ctypes.CDLL(candidate)
        except OSError:
            continue
        return found
    raise DeviceError(MISSING)


def version() -> str:
    """Raises DeviceError where there is none."""
    parts = [ctypes.c_int() for _ in range(3)]  # major, minor, patch
    for number, part in enumerate(parts):
        library().cublasGetProperty(number, ctypes.byref(part))
    return ".".join(str(part.value) for part in parts)


def _candidates() -> Iterator[str]:
    yield from NAMES
    for folder in nvcc.toolkits():
        yield from (str(folder / inside / name) for inside in ("lib64", "lib") for name in NAMES)


class Handle:
    """cuBLAS on one thread; made and used where the device's context is current."""

    def __init__(self) -> None:
        self.library = library()
        self.handle = ctypes.c_void_p()
        self.check("cublasCreate", self.library.cublasCreate_v2(ctypes.byref(self.handle)))
        self.check("cublasSetMathMode", self.library.cublasSetMathMode(self.handle, WHOLE_SUMS))

    def check(self, what: str, status: int) -> None:
        if status:
            raise DeviceError(f"{what} failed with status {status}")


def leading(matrices: Array) -> tuple[bool, int] | None:
    """Of matrices as cuBLAS may take them where they lie: whether rows are the contiguous axis, and the elements from
    one of the others to the next. None for others."""
    rows, columns = (stride // matrices.itemsize for stride in matrices.strides[-2:])
    height, width = matrices.shape[-2:]
    if (columns == 1 or width == 1) and (rows >= width or height == 1):
        return False, max(rows if height > 1 else width, width)
    if (rows == 1 or height == 1) and (columns >= height or width == 1):
        return True, max(columns if width > 1 else height, height)
    return None


def multiply(device: Cuda, left: Array, right: Array, storage: Storage) -> Array:
    """left[b,m,k] right[b,k,n], of one element type, as a row-major array [b,m,n]; summed in f32, of f64 in f64."""
    (batch, m, k), n = left.shape, right.shape[-1]
    what = f"the matrix product of {batch} times {m} x {k} by {k} x {n}"
    result = device.allocate((batch, m, n), storage)
    wide = storage == "f64"
    one, zero = ((ctypes.c_double if wide else ctypes.c_float)(value) for value in (1, 0))

    def operand(matrices: Array) -> tuple[int, tuple[Any, ...]]:
        found = leading(matrices)
        assert found is not None
        transposed, step = found
        if max(*matrices.shape, step) > MOST:
            raise DeviceError(f"{what}: cuBLAS takes sides up to {MOST}")
        apart = matrices.strides[0] // matrices.itemsize if batch > 1 else 0
        kind = TYPES[storage_of(matrices)]
        return int(transposed), (ctypes.c_void_p(address(matrices)), kind, step, ctypes.c_longlong(apart))

    # cuBLAS has columns contiguous: the transposed product, of the operands in the other order
    (right_transposed, second), (left_transposed, first) = operand(right), operand(left)
    use = device.cublas()
    use.check("cublasSetStream", use.library.cublasSetStream_v2(use.handle, ctypes.c_void_p(device.stream_handle)))
    status = use.library.cublasGemmStridedBatchedEx(
        use.handle, right_transposed, left_transposed, n, m, k, ctypes.byref(one), *second, *first, ctypes.byref(zero),
        ctypes.c_void_p(address(result)), TYPES[storage], n, ctypes.c_longlong(m * n), batch,
        COMPUTE_64F if wide else COMPUTE_32F, DEFAULT_ALGORITHM,
    )  # fmt: skip
    use.check(what, status)
    return result
