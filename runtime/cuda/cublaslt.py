"""Stacks of matrix products by cuBLASLt, through ctypes on the library of the toolkit, of a wheel, or already loaded.

What cuBLASLt is told of a product, and the algorithm that it answers, are made once for element types, layouts and
alignments: a call is one cublasLtMatmul. Sums are in f32, of f64 in f64, and so are the parts of sums that an algorithm
splits: of the schemes that add these up, those that keep them in the 16 bits of a result are ruled out. So each sum is
rounded once, and the bits are the same each run. Names in capitals stand in cublasLt.h, library_types.h and
cublas_api.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from irc.codegen.kernel import Storage
from irc.runtime.arrays import Array, address, storage_of
from irc.runtime.cuda import nvcc
from irc.runtime.errors import DeviceError

if TYPE_CHECKING:
    from irc.runtime.cuda.device import Cuda

NAMES = ("libcublasLt.so.13", "libcublasLt.so.12")
MISSING = "libcublasLt was not found, which matrix products outside kernels need: pip install nvidia-cublas"
TYPES: dict[Storage, int] = {"f32": 0, "f64": 1, "f16": 2, "bf16": 14}  # CUDA_R_32F, _64F, _16F, _16BF
COMPUTE_32F, COMPUTE_64F = 68, 70  # CUBLAS_COMPUTE_32F, which is without TF32, and _64F
BATCH_COUNT, BATCH_OFFSET = 5, 6  # CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, _STRIDED_BATCH_OFFSET
TRANSPOSED = (3, 4)  # CUBLASLT_MATMUL_DESC_TRANSA, _TRANSB
MOST_WORKSPACE, REDUCTIONS = 1, 3  # CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, _REDUCTION_SCHEME_MASK
ALIGNMENTS = (5, 6, 7, 8)  # CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, _B_, _C_, _D_
IN_COMPUTE_TYPE = 2  # CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; to split no sum is always allowed
NOT_SUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED

WORKSPACE = 32 << 20  # bytes that an algorithm may ask for
LARGEST_ALIGNMENT = 256  # bytes, beyond which no algorithm asks
MOST = 2**31 - 1
KEPT = 256  # products worked out


class _Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t."""

    _fields_ = (("data", ctypes.c_uint64 * 8),)


class _Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", _Algorithm),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Raises DeviceError where there is none."""
    for candidate in _candidates():
        try:
            found = ctypes.CDLL(candidate)
        except OSError:
            continue
        found.cublasLtGetStatusName.restype = ctypes.c_char_p
        found.cublasLtMatmul.argtypes = [ctypes.c_void_p] * 14 + [ctypes.c_size_t, ctypes.c_void_p]
        return found
    raise DeviceError(MISSING)


def version() -> str:
    """Raises DeviceError where there is none."""
    parts = [ctypes.c_int() for _ in range(3)]  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
    for number, part in enumerate(parts):
        library().cublasLtGetProperty(number, ctypes.byref(part))
    return ".".join(str(part.value) for part in parts)


def _candidates() -> Iterator[str]:
    yield from NAMES
    for folder in nvcc.toolkits():
        yield from (str(folder / inside / name) for inside in ("lib64", "lib") for name in NAMES)


def _check(what: str, status: int) -> None:
    if status:
        raise DeviceError(f"{what} failed: {library().cublasLtGetStatusName(status).decode()}")


def _call(name: str, *given: Any) -> None:
    _check(name, getattr(library(), name)(*given))


class _Made:
    """A description that cuBLASLt keeps as long as something refers to it; `kind`: as its functions are named."""

    def __init__(self, kind: str, *given: Any) -> None:
        self._kind, self.pointer = kind, ctypes.c_void_p()
        _call(f"cublasLt{kind}Create", ctypes.byref(self.pointer), *given)
        self._destroy = getattr(library(), f"cublasLt{kind}Destroy")

    def set(self, attribute: int, value: Any) -> None:
        """value: of the ctypes type that the header says."""
        bytes = ctypes.c_size_t(ctypes.sizeof(value))
        _call(f"cublasLt{self._kind}SetAttribute", self.pointer, attribute, ctypes.byref(value), bytes)

    def __del__(self) -> None:
        if hasattr(self, "_destroy"):
            self._destroy(self.pointer)


class Stack(NamedTuple):
    """Matrices as cuBLASLt is told of them: columns are contiguous, which makes irc's the transposed of these, but
    where `transposed`. Distances are in elements; alignment is in bytes, of the first matrix."""

    storage: Storage
    batch: int
    rows: int
    columns: int
    step: int  # from one column to the next
    apart: int  # from one matrix to the next
    alignment: int
    transposed: bool

    def described(self) -> _Made:
        made = _Made(
            "MatrixLayout", TYPES[self.storage],
            ctypes.c_uint64(self.rows), ctypes.c_uint64(self.columns), ctypes.c_int64(self.step),
        )  # fmt: skip
        made.set(BATCH_COUNT, ctypes.c_int32(self.batch))
        made.set(BATCH_OFFSET, ctypes.c_int64(self.apart))
        return made

    def __str__(self) -> str:
        layout = f"{self.rows} x {self.columns}, columns {self.step} and matrices {self.apart} elements apart"
        return f"{self.storage} {layout}, on {self.alignment} bytes"


def leading(matrices: Array) -> tuple[bool, int] | None:
    """Of matrices as cuBLASLt may take them where they lie: whether columns, not rows, are the contiguous axis, and the
    elements from one of the others to the next. None for others."""
    apart, rows, columns = (stride // matrices.itemsize for stride in matrices.strides)
    batch, height, width = matrices.shape
    if batch > 1 and apart < 0:
        return None
    if (columns == 1 or width == 1) and (rows >= width or height == 1):
        return False, max(rows if height > 1 else width, width)
    if (rows == 1 or height == 1) and (columns >= height or width == 1):
        return True, max(columns if width > 1 else height, height)
    return None


def stack(matrices: Array) -> Stack:
    """Of matrices of which `leading` is not None."""
    found = leading(matrices)
    assert found is not None
    transposed, step = found
    batch, height, width = matrices.shape
    if max(batch, height, width) > MOST:
        raise DeviceError(f"cuBLASLt takes sides up to {MOST}")
    rows, columns = (height, width) if transposed else (width, height)
    apart = matrices.strides[0] // matrices.itemsize if batch > 1 else 0
    place = address(matrices)
    alignment = min(place & -place, LARGEST_ALIGNMENT)
    return Stack(storage_of(matrices), batch, rows, columns, step, apart, alignment, transposed)


class CublasLt:
    """cuBLASLt on a device, made and used where its context is current; lives as long as the process. Safe to use from
    several threads."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        _call("cublasLtCreate", ctypes.byref(self.handle))
        self.product = lru_cache(maxsize=KEPT)(self._product)

    def _product(self, first: Stack, second: Stack, result: Stack) -> Matmul:
        """Raises DeviceError where cuBLASLt has no algorithm."""
        wide = result.storage == "f64"
        scale = (ctypes.c_double if wide else ctypes.c_float) * 2
        operation = _Made("MatmulDesc", COMPUTE_64F if wide else COMPUTE_32F, TYPES["f64" if wide else "f32"])
        for attribute, operand in zip(TRANSPOSED, (first, second), strict=True):
            operation.set(attribute, ctypes.c_int32(operand.transposed))
        wishes = _Made("MatmulPreference")
        wishes.set(MOST_WORKSPACE, ctypes.c_uint64(WORKSPACE))
        wishes.set(REDUCTIONS, ctypes.c_uint32(IN_COMPUTE_TYPE))
        for attribute, operand in zip(ALIGNMENTS, (first, second, result, result), strict=True):
            wishes.set(attribute, ctypes.c_uint32(operand.alignment))
        layouts = (first.described(), second.described(), result.described())
        a, b, d = (layout.pointer for layout in layouts)
        answer, answers = _Result(), ctypes.c_int()
        status = library().cublasLtMatmulAlgoGetHeuristic(
            self.handle, operation.pointer, a, b, d, d, wishes.pointer, 1, ctypes.byref(answer), ctypes.byref(answers)
        )
        if status == NOT_SUPPORTED or (not status and (not answers.value or answer.state)):
            raise DeviceError(f"cuBLASLt has no algorithm for {first} times {second}, to {result}")
        _check("cublasLtMatmulAlgoGetHeuristic", status)
        return Matmul(self.handle, operation, layouts, answer.algorithm, answer.workspace_bytes, scale(1, 0))


@dataclass(frozen=True, slots=True)
class Matmul:
    """A product of which all is known but where its operands lie, and the result."""

    handle: ctypes.c_void_p
    operation: _Made
    layouts: tuple[_Made, _Made, _Made]  # of the first operand, of the second, of the result
    algorithm: _Algorithm
    workspace_bytes: int
    factors: Any  # of the product, and of what lay where the result goes

    def __call__(self, device: Cuda, first: int, second: int, result: int) -> None:
        """At these addresses, on the stream of the call. Raises DeviceError."""
        bytes = self.workspace_bytes
        workspace = device.allocate((bytes,), "bool") if bytes else None
        one, (a, b, d) = self.factors, (layout.pointer for layout in self.layouts)
        status = library().cublasLtMatmul(
            self.handle, self.operation.pointer, ctypes.byref(one), first, a, second, b,
            ctypes.byref(one, ctypes.sizeof(one) // 2), result, d, result, d, ctypes.byref(self.algorithm),
            None if workspace is None else address(workspace), bytes, device.stream_handle,
        )  # fmt: skip
        _check("cublasLtMatmul", status)


def multiply(device: Cuda, left: Array, right: Array, storage: Storage) -> Array:
    """left[b,m,k] right[b,k,n], of one element type, as a row-major array [b,m,n]; summed in f32, of f64 in f64.
    `leading` of neither is None. Raises DeviceError."""
    (batch, m, k), n = left.shape, right.shape[-1]
    use = device.cublaslt
    try:
        result = device.allocate((batch, m, n), storage)
        # of the transposed matrices, in the other order
        use.product(stack(right), stack(left), stack(result))(device, address(right), address(left), address(result))
    except DeviceError as error:
        raise DeviceError(f"the matrix product of {batch} times {m} x {k} by {k} x {n}: {error}") from None
    return result
