// A libcuda.so.1 for machines without a device: the driver's functions that pycuda and irc call, kernels run by the
// emulator as they are launched. A "cubin" is a library that `emulator.build` made (see `nvcc` beside this file).
//
// Memory of the device can be touched by the driver and its kernels alone: the host's own reads and writes of it end the
// process, as they would with a device. Of several devices each has memory, streams and modules of its own, which a
// launch on another must not be given. EMULATED_DEVICES, EMULATED_CAPABILITY and EMULATED_MEMORY (bytes, of each) say
// what there is. What is not here answers CUDA_ERROR_NOT_SUPPORTED.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "abi.h"

extern "C" {
void emu_configure(int check, int order, int copies, uint64_t seed, int workers);
void emu_range(void *begin, uint64_t bytes, int writable, int argument);
const char *emu_findings();
}

#pragma GCC visibility push(default)
namespace {

typedef uint64_t Address;
typedef void *Handle;

enum Result {
  SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400, NOT_FOUND = 500, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900
};

const size_t PAGE = 4096;
const int SHARED = 48 << 10, PROCESSORS = 4, THREADS = 1024, MOST_DEVICES = 8;

struct Module {
  int device;
  Handle library;
};

struct Function {
  std::string name;
  Module module;
  int dynamic_shared = SHARED;
};

struct Event {
  timespec at;
};

struct Allocation {
  size_t bytes;
  int device;
};

std::recursive_mutex one_at_a_time;
std::map<Address, Allocation> memory;
size_t allocated[MOST_DEVICES];
int unlocked;                // how many are at work on the memory
char primary[MOST_DEVICES];  // a context is its place in here, a stream a byte that holds its device
thread_local std::vector<Handle> contexts;
Handle captured;  // the stream that is, if any
uint64_t capture_number;
const int RELAXED = 2;
thread_local int capture_mode;

int current() { return int((char *)contexts.back() - primary); }

long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}

int most_shared() {  // bytes of a block
  const long both = setting("EMULATED_CAPABILITY", 90);
  return (both == 80 || both == 87 ? 163 : both == 90 || both == 100 || both == 103 ? 227 : 99) << 10;
}
size_t capacity() { return size_t(setting("EMULATED_MEMORY", 1l << 30)); }
size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

void protect(int how) {
  for (const auto &[begin, piece] : memory) mprotect((void *)begin, pages(piece.bytes), how);
}

// While one of these lives, memory can be touched.
struct AtWork {
  std::lock_guard<std::recursive_mutex> lock{one_at_a_time};
  AtWork() {
    if (unlocked++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  ~AtWork() {
    if (--unlocked == 0) protect(PROT_NONE);
  }
};

bool holds(Address begin, size_t bytes) {
  auto after = memory.upper_bound(begin);
  if (after == memory.begin()) return false;
  const auto &[first, piece] = *--after;
  return begin + bytes <= first + piece.bytes;
}

int copy(Address device, void *host, size_t bytes, bool to_device) {
  if (contexts.empty()) return INVALID_CONTEXT;
  AtWork at_work;
  if (bytes && !holds(device, bytes)) return INVALID_VALUE;
  to_device ? memcpy((void *)device, host, bytes) : memcpy(host, (void *)device, bytes);
  return SUCCESS;
}

int fill(Address device, const void *pattern, size_t size, size_t count) {
  if (contexts.empty()) return INVALID_CONTEXT;
  AtWork at_work;
  if (count && !holds(device, size * count)) return INVALID_VALUE;
  for (size_t n = 0; n < count; n++) memcpy((char *)device + n * size, pattern, size);
  return SUCCESS;
}

int launch(Function &f, const unsigned *grid_and_block, unsigned shared, std::vector<char> given) {
  typedef int (*Run)(void **, const unsigned *, uint32_t);
  typedef int (*Parameters)(uint32_t (*)[2], int);
  const Run run = (Run)dlsym(f.module.library, ("emu_run_" + f.name).c_str());
  const Parameters parameters_of = (Parameters)dlsym(f.module.library, ("emu_parameters_" + f.name).c_str());
  uint32_t parameters[64][2];
  const int count = parameters_of(parameters, 64);
  size_t end = 0;
  std::vector<size_t> at;
  for (int n = 0; n < count; n++) {
    const size_t alignment = parameters[n][1];
    at.push_back(end = (end + alignment - 1) / alignment * alignment), end += parameters[n][0];
  }
  if (given.size() != end) {
    fprintf(stderr, "emulated driver: %s takes %zu bytes of parameters, got %zu\n", f.name.c_str(), end, given.size());
    return INVALID_VALUE;
  }
  char *values = (char *)aligned_alloc(64, pages(end + 1));
  memcpy(values, given.data(), end);
  std::vector<void *> pointers;
  for (size_t n : at) pointers.push_back(values + n);
  AtWork at_work;
  emu_configure(0, 0, 0, 0, 1);
  for (const auto &[begin, piece] : memory)
    if (piece.device == current()) emu_range((void *)begin, piece.bytes, 1, 0);
  const int found = run(pointers.data(), grid_and_block, shared);
  free(values);
  if (found) fprintf(stderr, "emulated driver: %s: %s\n", f.name.c_str(), emu_findings());
  return found ? LAUNCH_FAILED : SUCCESS;
}

}  // namespace

#define API extern "C" int

API cuGetErrorString(int error, const char **text) {
  switch (error) {
    case OUT_OF_MEMORY: *text = "out of memory"; break;
    case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    case INVALID_IMAGE: *text = "device kernel image is invalid"; break;
    case LAUNCH_FAILED: *text = "unspecified launch failure"; break;
    case NOT_SUPPORTED: *text = "operation not supported"; break;
    case INVALID_HANDLE: *text = "invalid resource handle"; break;
    default: *text = "invalid argument";
  }
  return SUCCESS;
}
API cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }

// ---- devices

API cuInit(unsigned) { return setting("EMULATED_DEVICES", 1) ? SUCCESS : NO_DEVICE; }
API cuDeviceGetCount(int *count) { return *count = int(setting("EMULATED_DEVICES", 1)), SUCCESS; }
API cuDeviceGet(int *device, int number) {
  return *device = number, number < 0 || number >= setting("EMULATED_DEVICES", 1) ? INVALID_VALUE : SUCCESS;
}
API cuDeviceGetName(char *name, int room, int) { return snprintf(name, size_t(room), "emulated device"), SUCCESS; }
API cuDeviceComputeCapability(int *major, int *minor, int) {
  const long both = setting("EMULATED_CAPABILITY", 90);
  return *major = int(both / 10), *minor = int(both % 10), SUCCESS;
}
API cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = capacity(), SUCCESS; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
    case 1: *value = THREADS; break;        // MAX_THREADS_PER_BLOCK
    case 8: *value = SHARED; break;         // MAX_SHARED_MEMORY_PER_BLOCK
    case 16: *value = PROCESSORS; break;    // MULTIPROCESSOR_COUNT
    case 97: *value = most_shared(); break;  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: return NOT_SUPPORTED;
  }
  return SUCCESS;
}

// ---- the primary context

API cuDevicePrimaryCtxRetain(Handle *made, int device) { return *made = &primary[device], SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxDetach(Handle) { return SUCCESS; }
API cuCtxPushCurrent_v2(Handle pushed) { return contexts.push_back(pushed), SUCCESS; }
API cuCtxPopCurrent_v2(Handle *popped) {
  if (contexts.empty()) return INVALID_CONTEXT;
  *popped = contexts.back(), contexts.pop_back();
  return SUCCESS;
}
API cuCtxGetDevice(int *device) {
  return contexts.empty() ? INVALID_CONTEXT : (*device = current(), SUCCESS);
}
API cuCtxSynchronize() { return contexts.empty() ? INVALID_CONTEXT : captured ? CAPTURE_UNSUPPORTED : SUCCESS; }

// ---- memory

API cuMemAlloc_v2(Address *made, size_t bytes) {
  std::lock_guard<std::recursive_mutex> lock(one_at_a_time);
  if (contexts.empty()) return INVALID_CONTEXT;
  if (!bytes) return INVALID_VALUE;
  if (captured && capture_mode != RELAXED) return CAPTURE_UNSUPPORTED;
  if (allocated[current()] + bytes > capacity()) return OUT_OF_MEMORY;
  // a page that nobody can touch follows, and the bytes begin as NaN
  char *begin = (char *)mmap(nullptr, pages(bytes) + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return OUT_OF_MEMORY;
  memset(begin, 0xff, bytes);
  mprotect(begin, pages(bytes) + PAGE, PROT_NONE);
  allocated[current()] += bytes, memory[Address(begin)] = {bytes, current()}, *made = Address(begin);
  return SUCCESS;
}
API cuMemFree_v2(Address begin) {
  std::lock_guard<std::recursive_mutex> lock(one_at_a_time);
  auto found = memory.find(begin);
  if (found == memory.end()) return INVALID_VALUE;
  const auto [bytes, device] = found->second;
  munmap((void *)begin, pages(bytes) + PAGE);
  allocated[device] -= bytes, memory.erase(found);
  return SUCCESS;
}
API cuMemGetInfo_v2(size_t *free, size_t *total) {
  return contexts.empty() ? INVALID_CONTEXT : (*total = capacity(), *free = *total - allocated[current()], SUCCESS);
}
API cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) { return copy(to, (void *)from, bytes, true); }
API cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) { return copy(from, to, bytes, false); }
API cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle) { return cuMemcpyHtoD_v2(to, from, bytes); }
API cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle) { return cuMemcpyDtoH_v2(to, from, bytes); }
API cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
  AtWork at_work;
  return holds(from, bytes) ? copy(to, (void *)from, bytes, true) : INVALID_VALUE;
}
API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle) { return cuMemcpyDtoD_v2(to, from, bytes); }
API cuMemsetD8_v2(Address to, unsigned char value, size_t count) { return fill(to, &value, 1, count); }
API cuMemsetD8Async(Address to, unsigned char value, size_t count, Handle) { return fill(to, &value, 1, count); }
API cuMemsetD32_v2(Address to, unsigned value, size_t count) { return fill(to, &value, 4, count); }
API cuMemsetD32Async(Address to, unsigned value, size_t count, Handle) { return fill(to, &value, 4, count); }

// For a fake library of the device's, as `libcublasLt.cpp`: whether bytes are memory of the current device; and between
// the two others, memory can be touched.
extern "C" int emulated_holds(Address begin, uint64_t bytes) {
  std::lock_guard<std::recursive_mutex> lock(one_at_a_time);
  return !contexts.empty() && holds(begin, bytes) && (--memory.upper_bound(begin))->second.device == current();
}
extern "C" void emulated_begin() {
  one_at_a_time.lock();
  if (unlocked++ == 0) protect(PROT_READ | PROT_WRITE);
}
extern "C" void emulated_end() {
  if (--unlocked == 0) protect(PROT_NONE);
  one_at_a_time.unlock();
}

// ---- captures: of the stream that a test names, what is done is done all the same

extern "C" void emulated_capture(Handle stream, uint64_t number) { captured = stream, capture_number = number; }
API cuStreamGetCaptureInfo(Handle stream, int *status, uint64_t *number) {
  return *status = captured && stream == captured, *number = capture_number, SUCCESS;
}
API cuThreadExchangeStreamCaptureMode(int *mode) { return std::swap(*mode, capture_mode), SUCCESS; }

// ---- streams and events: everything is done when its call returns

API cuStreamCreate(Handle *made, unsigned) {
  return contexts.empty() ? INVALID_CONTEXT : (*made = new char(char(current())), SUCCESS);
}
API cuStreamDestroy_v2(Handle stream) { return delete (char *)stream, SUCCESS; }
API cuStreamSynchronize(Handle) { return SUCCESS; }
API cuStreamQuery(Handle) { return SUCCESS; }
API cuStreamWaitEvent(Handle, Handle, unsigned) { return SUCCESS; }
API cuEventCreate(Handle *made, unsigned) { return *made = new Event(), SUCCESS; }
API cuEventRecord(Handle event, Handle) { return clock_gettime(CLOCK_MONOTONIC, &((Event *)event)->at), SUCCESS; }
API cuEventSynchronize(Handle) { return SUCCESS; }
API cuEventQuery(Handle) { return SUCCESS; }
API cuEventDestroy_v2(Handle event) { return delete (Event *)event, SUCCESS; }
API cuEventElapsedTime_v2(float *milliseconds, Handle first, Handle last) {
  const timespec &a = ((Event *)first)->at, &b = ((Event *)last)->at;
  *milliseconds = float(b.tv_sec - a.tv_sec) * 1e3f + float(b.tv_nsec - a.tv_nsec) * 1e-6f;
  return SUCCESS;
}

// ---- modules and kernels

// The image's length is told by its own header, as for a cubin.
API cuModuleLoadDataEx(Handle *made, const void *image, unsigned, void *, void *) {
  const unsigned char *bytes = (const unsigned char *)image;
#ifdef __aarch64__
  const unsigned char machine = 183;
#else
  const unsigned char machine = 62;  // x86-64
#endif
  const bool for_host = !memcmp(bytes, "\177ELF", 4) && bytes[18] == machine && bytes[19] == 0;
  if (contexts.empty()) return INVALID_CONTEXT;
  if (!for_host) return fprintf(stderr, "emulated driver: a cubin for a device, not of tests/cuda/emulated/nvcc\n"), INVALID_IMAGE;
  uint64_t sections;
  uint16_t size, count;
  memcpy(&sections, bytes + 40, 8), memcpy(&size, bytes + 58, 2), memcpy(&count, bytes + 60, 2);
  const size_t length = sections + size_t(size) * count;
  char path[64];
  const int file = memfd_create("cubin", 0);
  const bool written = write(file, image, length) == ssize_t(length);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  Handle library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  *made = new Module{current(), library};
  if (!library) return fprintf(stderr, "emulated driver: %s\n", dlerror()), INVALID_IMAGE;
  return SUCCESS;  // the file stays open: another would get its path, and the loader would take them for one
}
API cuModuleLoadData(Handle *made, const void *image) { return cuModuleLoadDataEx(made, image, 0, nullptr, nullptr); }
API cuModuleUnload(Handle) { return SUCCESS; }
API cuModuleGetFunction(Handle *made, Handle module, const char *name) {
  if (!dlsym(((Module *)module)->library, (std::string("emu_run_") + name).c_str())) return NOT_FOUND;
  *made = new Function{name, *(Module *)module};
  return SUCCESS;
}
API cuFuncSetAttribute(Handle function, int attribute, int value) {
  if (attribute != 8) return NOT_SUPPORTED;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
  if (value > most_shared()) return INVALID_VALUE;
  ((Function *)function)->dynamic_shared = value;
  return SUCCESS;
}
API cuFuncSetBlockShape(Handle, int x, int y, int z) { return x * y * z > THREADS ? INVALID_VALUE : SUCCESS; }
API cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, Handle stream, void **parameters, void **extra) {
  Function &f = *(Function *)function;
  if (contexts.empty()) return INVALID_CONTEXT;
  if (f.module.device != current() || (stream && *(char *)stream != current())) return INVALID_HANDLE;
  const bool fits = gx && gy && gz && gy < 65536 && gz < 65536 && bx && by && bz && bx * by * bz <= unsigned(THREADS);
  if (!fits || int(shared) > f.dynamic_shared || parameters || !extra) return INVALID_VALUE;
  const char *buffer = nullptr;
  size_t bytes = 0;
  for (; *extra; extra += 2) {
    if (*extra == (void *)1) buffer = (const char *)extra[1];
    if (*extra == (void *)2) bytes = *(const size_t *)extra[1];
  }
  const unsigned grid_and_block[] = {gx, gy, gz, bx, by, bz};
  return launch(f, grid_and_block, shared, std::vector<char>(buffer, buffer + bytes));
}
API cuTensorMapEncodeTiled(void *made, int type, unsigned rank, void *base, const uint64_t *sizes, const uint64_t *strides,
                           const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int, int) {
  static const int bytes_of[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  static_assert(sizeof(emu_tensor_map) == 128, "as a CUtensorMap");
  if (type < 0 || type > 12 || rank < 1 || rank > 5 || interleave || swizzle < 0 || swizzle > 3) return INVALID_VALUE;
  const unsigned element = unsigned(bytes_of[type]), widths[] = {0, 32, 64, 128}, row = box[0] * element;
  if ((uintptr_t)base % 16 || (uintptr_t)made % 64 || row % 16 || (swizzle && row > widths[swizzle])) return INVALID_VALUE;
  emu_tensor_map map = {};
  map.base = (unsigned char *)base, map.rank = uint16_t(rank), map.element = uint16_t(element);
  map.swizzle = widths[swizzle];
  for (unsigned n = 0; n < rank; n++) {
    if (!sizes[n] || !box[n] || box[n] > 256 || steps[n] != 1) return INVALID_VALUE;
    if (n + 1 < rank && (strides[n] % 16 || strides[n] >> 40)) return INVALID_VALUE;
    map.size[n] = sizes[n], map.box[n] = box[n];
    if (n + 1 < rank) map.stride[n] = strides[n];
  }
  memcpy(made, &map, sizeof map);
  return SUCCESS;
}
#pragma GCC visibility pop
