"""A CUDA device: its tensors, its streams, and what is done with tensors outside a program's kernels.

Arguments that lie on the device are used in place, and results are then arrays of the same library on the device, made
on that library's current stream. Others are copied there and results back, which the call waits for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property, lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime import arrays, memory, operands
from irc.runtime.arrays import DTYPE, Array, address, storage_of
from irc.runtime.cuda import capture, foreign, products
from irc.runtime.cuda.cublaslt import CublasLt
from irc.runtime.cuda.memory import ALIGNMENT, Pool, Tensor
from irc.runtime.errors import DeviceError, InputError
from irc.runtime.memory import New
from irc.runtime.plan import Product

LEAST_CAPABILITY = (8, 0)
HOPPER = (9, 0)  # its matrix and copy instructions are in sm_90a alone
SCALARS_KEPT = 256
NON_BLOCKING = 1  # of a stream: it does not wait for the default one


def find(number: int = 0) -> Cuda:
    """A device, by its number among those that CUDA_VISIBLE_DEVICES leaves. Raises DeviceError without pycuda, a
    driver, or a device of that number that irc has kernels for."""
    return _found(number)


@lru_cache
def _found(number: int) -> Cuda:
    found = driver()
    if number >= (count := found.Device.count()):
        raise DeviceError(f"no CUDA device {number}: the driver has {count}, from number 0 on")
    try:
        return Cuda(found, number)
    except found.Error as error:
        raise DeviceError(f"CUDA device {number} cannot be used: {error}") from None


def driver() -> Any:
    """pycuda's module. Raises DeviceError."""
    try:
        import pycuda.driver as found
    except ModuleNotFoundError as error:
        raise DeviceError(f"pycuda is not installed ({error}): pip install 'attention-irc[cuda]'") from None
    except ImportError as error:
        raise DeviceError(f"pycuda cannot be loaded, is NVIDIA's driver installed? {error}") from None
    try:
        found.init()
        count = found.Device.count()
    except found.Error as error:
        raise DeviceError(f"no CUDA device: {error}") from None
    if not count:
        raise DeviceError("no CUDA device: the driver has found none, or CUDA_VISIBLE_DEVICES hides it")
    return found


class Cuda:
    """One device. Its primary context is current on a thread while a call runs there, and no longer.
    Safe to use from several threads."""

    def __init__(self, driver: Any, number: int) -> None:
        self.driver, self.number = driver, number
        self._device = driver.Device(number)
        self.name, self.capability = self._device.name(), tuple(self._device.compute_capability())
        if self.capability < LEAST_CAPABILITY:
            have, need = (".".join(map(str, pair)) for pair in (self.capability, LEAST_CAPABILITY))
            raise DeviceError(f"{self.name} has compute capability {have}: irc's kernels need {need} or newer")
        self._context = self._device.retain_primary_context()
        self._pool = Pool(driver)
        self._here = threading.local()
        self._lock = threading.Lock()
        self._streams: dict[int, Any] = {}
        self._scalars: OrderedDict[Hashable, Tensor] = OrderedDict()

    @property
    def architecture(self) -> str:
        """As nvcc names it."""
        return f"sm_{self.capability[0]}{self.capability[1]}{'a' if self.capability == HOPPER else ''}"

    @property
    def total_memory(self) -> int:
        """Bytes."""
        return int(self._device.total_memory())

    @property
    def shared_bytes(self) -> int:
        """Of shared memory that a block may ask for."""
        return self._attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")

    def threads(self) -> int:
        """Its multiprocessors."""
        return self._processors

    @cached_property
    def _processors(self) -> int:
        return self._attribute("MULTIPROCESSOR_COUNT")

    def _attribute(self, name: str) -> int:
        return int(self._device.get_attribute(getattr(self.driver.device_attribute, name)))

    # calls

    @contextmanager
    def running(self, values: Iterable[object]) -> Iterator[None]:
        """Everything within is done on the stream where the library of these arguments is at work. On one other than
        the default this is a stream of our own, which waits for what is there and is waited for: pycuda launches on no
        stream of others. Raises DeviceError for what the driver refuses."""
        if getattr(self._here, "running", False):
            yield
            return
        self._context.push()
        self._here.running = True
        try:
            current = foreign.Current(values, self.number)
            self._here.handle = 0
            self._here.stream = None if current.is_default else self._stream(current.handle)
            if self.stream is None:
                yield
                return
            captured = capture.of(current.handle) if current.is_captured else None
            self._here.handle = captured or current.handle
            with capture.permitted() if captured else nullcontext():
                current.before(self.stream.handle)
                try:
                    yield
                finally:
                    current.after(self.stream.handle)
        except self.driver.Error as error:
            raise DeviceError(f"{self.name} failed: {error}") from error
        finally:
            self._here.running = False
            self.driver.Context.pop()

    @property
    def stream(self) -> Any:
        """That of the call that is running, None for the default one."""
        return self._here.stream

    @property
    def stream_handle(self) -> int:
        return self.stream.handle if self.stream is not None else 0

    def _stream(self, handle: int) -> Any:
        with self._lock:
            if handle not in self._streams:
                self._streams[handle] = self.driver.Stream(NON_BLOCKING)
            return self._streams[handle]

    # arguments and results

    def look(self, name: str, value: object, storage: Storage) -> tuple[Hashable, Any, int]:
        looked = foreign.look(value)
        if looked is not None:
            layout, place, behind = looked
            if behind:
                self.driver.Context.synchronize()
            return layout, value, place
        taken = self.take(name, value, storage)
        return (taken.shape, taken.strides), taken, address(taken)

    def take(self, name: str, value: object, storage: Storage) -> Array:
        """As `arrays.take`, on the device: in place where it lies there in a layout and an element type of kernels."""
        if not foreign.on_device(value):
            array = arrays.take(name, value, storage)
            if not array.ndim:
                return self._scalar(array)
            self._must_copy_now(name, "lies on the host")
            return self._upload(array)
        looked = foreign.look(value)
        if looked is not None and looked[2]:
            self.driver.Context.synchronize()
        found: Array = foreign.view(name, value, self.number)
        if storage == "bool" and found.dtype == np.bool_:
            found = found.view(np.uint8)
        elif storage == "i32" and found.ndim and found.dtype in arrays.NARROW:
            storage = storage_of(found)
        elif storage == "i32" and found.dtype.kind in "iu" and found.dtype != DTYPE["i32"]:
            self._must_copy_now(name, f"has {arrays.name_of(found.dtype)} entries, which the host makes i32")
            return self._upload(arrays.take(name, self._download(found), storage))
        if found.dtype != DTYPE[storage]:
            expected = "integers" if storage == "i32" else storage
            raise InputError(f"{name}: expected {expected}, got {arrays.name_of(found.dtype)}")
        if arrays.is_addressable(found):
            return found
        return self.copy(found)

    def give(self, array: Array, like: object) -> Any:
        if foreign.on_device(like):
            return foreign.give(array, like)
        return arrays.give(self._download(array), like)

    def entries(self, array: Array) -> Array:
        host = array.host if isinstance(array, Tensor) else None
        return self._download(array) if host is None else host

    def _scalar(self, array: Array) -> Tensor:
        """A number on the device, where many calls are given the same."""
        key = (self._here.handle, array.dtype.str, array.tobytes())
        with self._lock:
            found = self._scalars.get(key)
        if found is None:
            found = self.allocate((), storage_of(array))
            found.host = array
            fill = self.driver.memset_d32_async if array.nbytes % 4 == 0 else self.driver.memset_d8_async
            words = array.reshape(1).view(np.uint32 if array.nbytes % 4 == 0 else np.uint8)
            for n, word in enumerate(words):  # no memory of the host, which a graph would read when it is launched
                fill(address(found) + n * word.itemsize, int(word), 1, self.stream)
            with self._lock:
                self._scalars[key] = found
                if len(self._scalars) > SCALARS_KEPT:
                    self._scalars.popitem(last=False)
        return found

    def _must_copy_now(self, name: str, why: str) -> None:
        """Raises InputError where a graph is made of the call: it would copy again whenever it is launched, from memory
        of the host that is not there any more."""
        if isinstance(self._here.handle, capture.Capture):
            raise InputError(
                f"{name}: {why}, and a graph is being captured: expected what kernels read in place, on the device. "
                "Copy it there before the capture"
            )

    def _upload(self, array: Array) -> Tensor:
        made = self.allocate(array.shape, storage_of(array))
        made.host = array
        if array.size:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.driver.memcpy_htod_async(address(made), flat, self.stream)
        return made

    def _download(self, array: Array) -> Array:
        """A copy on the host, with the same strides; waits for what is on the stream."""
        if not array.size:
            return np.empty(array.shape, array.dtype)
        low, high = np.lib.array_utils.byte_bounds(array)
        span = np.empty(high - low, np.uint8)
        self.driver.memcpy_dtoh_async(span, low, self.stream)
        self.stream.synchronize() if self.stream is not None else self.driver.Context.synchronize()
        return np.ndarray(array.shape, array.dtype, span, address(array) - low, array.strides)

    # tensors

    def allocate(self, shape: tuple[int, ...], storage: Storage, zero: bool = False) -> Tensor:
        dtype = DTYPE[storage]
        bytes = prod(shape) * dtype.itemsize
        block = self._pool.allocate(bytes, self._here.handle)
        if zero and bytes:
            self.driver.memset_d8_async(block.address, 0, bytes, self.stream)
        return np.ndarray.__new__(Tensor, shape, dtype, np.asarray(block))

    def allocator(self, tensors: Mapping[str, New]) -> Callable[[dict[str, Array], dict[str, int]], None]:
        return memory.all_of([self._block(block) for block in memory.blocks(tensors, ALIGNMENT)])

    def _block(self, block: memory.Block) -> Callable[[dict[str, Array], dict[str, int]], None]:
        def make(arrays: dict[str, Array], places: dict[str, int]) -> None:
            taken = self._pool.allocate(block.bytes, self._here.handle)
            start, whole = taken.address, np.asarray(taken)
            for begin, bytes in block.zero:
                self.driver.memset_d8_async(start + begin, 0, bytes, self.stream)
            for name, shape, dtype, begin, strides in block.pieces:
                arrays[name] = np.ndarray.__new__(Tensor, shape, dtype, whole, begin, strides)
                places[name] = start + begin

        return make

    def zeros(self, shape: tuple[int, ...], storage: Storage) -> Array:
        made = self.allocate(shape, storage, zero=True)
        self.driver.Context.synchronize()  # calls that follow may be on other streams
        return made

    def copy(self, array: Array) -> Array:
        return self.strided.contract(array, None, array.ndim, storage_of(array))

    def converted(self, array: Array, storage: Storage) -> Array:
        """The array itself where it has that element type, else a row-major copy."""
        if storage_of(array) == storage:
            return array
        return self.strided.contract(array, None, array.ndim, storage)

    def reshaped(self, array: Array, shape: Iterable[int]) -> Array:
        """A view where there is one."""
        try:
            return array.reshape(tuple(shape), copy=False)
        except ValueError:
            return self.copy(array).reshape(tuple(shape))

    def addressable(self, array: Array) -> Array:
        return array if arrays.is_addressable(array) else self.copy(array)

    def multiplier(self, step: Product, sizes: Mapping[str, int], storage: Storage) -> Callable[[Array, Array], Array]:
        left, right = operands.reader(step.left, sizes), operands.reader(step.right, sizes)
        multiply = partial(products.product, self, step, storage=storage)
        return lambda a, b: multiply(left(a), right(b))

    def sum_chunks(self, source: Array, storage: Storage) -> Array:
        return self.strided.contract(np.moveaxis(source, 0, -1), None, source.ndim - 1, storage)

    @cached_property
    def strided(self) -> products.Strided:
        return products.Strided(self)

    @cached_property
    def cublaslt(self) -> CublasLt:
        return CublasLt()
