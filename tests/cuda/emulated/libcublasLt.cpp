// A libcublasLt.so.13 beside the emulated driver: what irc calls of it, held to what cublasLt.h says. Products are summed
// in float or double, term after term. A long sum is split in two where the preference leaves workspace and a scheme for
// it, in the result's type where that scheme is allowed. With EMULATED_HEURISTIC=N the heuristic finds nothing, and
// answers N.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

extern "C" void emulated_begin();
extern "C" void emulated_end();
extern "C" int emulated_holds(uint64_t begin, uint64_t bytes);
extern "C" int cuCtxGetDevice(int *device);

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, INTERNAL_ERROR = 14, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_64F = 70 };
enum Scheme { NONE = 0, IN_COMPUTE_TYPE = 2, IN_OUTPUT_TYPE = 4, ALL_SCHEMES = 7 };
const int64_t MOST = INT32_MAX, SPLIT_FROM = 64, WIDE_ALIGNMENT = 16, WORKSPACE_ALIGNMENT = 256;

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t step;
  int32_t batch = 1;
  int64_t apart = 0;
  int64_t end() const { return (batch - 1) * apart + (int64_t(columns) - 1) * step + int64_t(rows); }  // in elements
};
struct Operation {
  int compute, scale;
  int32_t transposed[2] = {0, 0};
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t schemes = ALL_SCHEMES, alignment[4] = {256, 256, 256, 256};
};
struct Handle {
  int device;
};

struct Algorithm {  // a cublasLtMatmulAlgo_t
  uint64_t mark, made_for, alignment, scheme, workspace, unused[3];
};
struct Result {  // a cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algorithm) == 64 && sizeof(Result) == 96, "as in cublasLt.h");
const uint64_t MARK = 0x69726331;

std::mutex lock;
std::atomic<int> asked, multiplied, alive;
std::atomic<void *> stream_used;

// What is alive, by kind: nothing else is taken.
template <class T> struct Alive {
  static std::map<const void *, T *> all;
  template <class... Given> static int make(void **made, Given... given) {
    std::lock_guard<std::mutex> guard(lock);
    T *one = new T{given...};
    return alive++, all[one] = one, *made = one, SUCCESS;
  }
  static T *find(const void *pointer) {
    std::lock_guard<std::mutex> guard(lock);
    const auto found = all.find(pointer);
    return found == all.end() ? nullptr : found->second;
  }
  static int destroy(void *pointer) {
    T *found = find(pointer);
    std::lock_guard<std::mutex> guard(lock);
    return found ? (alive--, all.erase(pointer), delete found, SUCCESS) : INVALID_VALUE;
  }
};
template <class T> std::map<const void *, T *> Alive<T>::all;

template <class T> int set(T &to, const void *from, size_t bytes) {
  return from && bytes == sizeof(T) ? (memcpy(&to, from, bytes), SUCCESS) : INVALID_VALUE;
}

int device() {
  int found = -1;
  return cuCtxGetDevice(&found) ? -1 : found;
}

int64_t bytes_of(int type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }

double load(const void *data, int type, int64_t at) {
  if (type == F32) return ((const float *)data)[at];
  if (type == F64) return ((const double *)data)[at];
  if (type == F16) return double(((const _Float16 *)data)[at]);
  const uint32_t bits = uint32_t(((const uint16_t *)data)[at]) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void store(void *data, int type, int64_t at, double value) {
  const float rounded = float(value);
  uint32_t bits;
  memcpy(&bits, &rounded, sizeof bits);
  if (type == F32) ((float *)data)[at] = rounded;
  if (type == F64) ((double *)data)[at] = value;
  if (type == F16) ((_Float16 *)data)[at] = _Float16(rounded);
  if (type == BF16)
    ((uint16_t *)data)[at] = uint16_t(value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Operands and result of a call.
struct Product {
  Operation *operation;
  Layout *a, *b, *c, *d;

  Product(void *operation, void *a, void *b, void *c, void *d)
      : operation(Alive<Operation>::find(operation)), a(Alive<Layout>::find(a)), b(Alive<Layout>::find(b)),
        c(Alive<Layout>::find(c)), d(Alive<Layout>::find(d)) {}

  int64_t terms() const { return int64_t(operation->transposed[0] ? a->rows : a->columns); }

  int check() const {
    if (!operation || !a || !b || !c || !d) return INVALID_VALUE;
    for (const Layout *each : {a, b, c, d}) {
      if (each->rows < 1 || each->columns < 1 || each->batch < 1) return INVALID_VALUE;
      if (int64_t(each->rows) > MOST || int64_t(each->columns) > MOST) return NOT_SUPPORTED;
      if (each->step < int64_t(each->rows) || each->apart < 0 || each->batch != d->batch) return INVALID_VALUE;
    }
    const bool ta = operation->transposed[0], tb = operation->transposed[1];
    if ((ta ? a->columns : a->rows) != d->rows || (tb ? b->rows : b->columns) != d->columns) return INVALID_VALUE;
    if (terms() != int64_t(tb ? b->columns : b->rows)) return INVALID_VALUE;
    if (c->type != d->type || c->rows != d->rows || c->columns != d->columns || c->step != d->step) return INVALID_VALUE;
    if (d->batch > 1 && (d->apart < d->step * int64_t(d->columns) || c->apart != d->apart)) return INVALID_VALUE;
    if (operation->compute == COMPUTE_64F) {
      const bool fits = operation->scale == F64 && a->type == F64 && b->type == F64 && d->type == F64;
      return fits ? SUCCESS : NOT_SUPPORTED;
    }
    const bool operands = a->type == b->type && (a->type == F32 || a->type == F16 || a->type == BF16);
    const bool fits = operands && operation->scale == F32 && (d->type == F32 || d->type == a->type);
    return operation->compute == COMPUTE_32F && fits ? SUCCESS : NOT_SUPPORTED;
  }

  // Says which products an algorithm is for.
  uint64_t told() const {
    uint64_t found = 14695981039346656037u;
    auto add = [&](uint64_t word) { found = (found ^ word) * 1099511628211u; };
    add(uint64_t(operation->compute)), add(uint64_t(operation->transposed[0] * 2 + operation->transposed[1]));
    for (const Layout *each : {a, b, c, d})
      for (uint64_t word : {uint64_t(each->type), each->rows, each->columns, uint64_t(each->step), uint64_t(each->batch),
                            uint64_t(each->apart)})
        add(word);
    return found;
  }

  // In T; parts: memory for the first halves of sums that are split, of a type of their own.
  template <class T>
  void multiply(const T *factors, const void *x, const void *y, void *z, void *parts, int parts_type) const {
    const bool ta = operation->transposed[0], tb = operation->transposed[1];
    const int64_t m = int64_t(d->rows), n = int64_t(d->columns), k = terms(), middle = parts ? k / 2 : 0;
    std::vector<T> left(size_t(m * k)), right(size_t(n * k));
    for (int64_t e = 0; e < d->batch; e++) {
      const int64_t at = e * a->apart, bt = e * b->apart;
      for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
          left[size_t(i * k + l)] = T(load(x, a->type, at + (ta ? i * a->step + l : l * a->step + i)));
      for (int64_t j = 0; j < n; j++)
        for (int64_t l = 0; l < k; l++)
          right[size_t(j * k + l)] = T(load(y, b->type, bt + (tb ? l * b->step + j : j * b->step + l)));
      for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
          auto sum = [&](int64_t from, int64_t to) {
            T found = 0;
            for (int64_t l = from; l < to; l++) found += left[size_t(i * k + l)] * right[size_t(j * k + l)];
            return found;
          };
          T whole = sum(middle, k);
          if (parts) {
            const int64_t place = (e * n + j) * m + i;
            store(parts, parts_type, place, sum(0, middle));
            whole += T(load(parts, parts_type, place));
          }
          const int64_t place = e * d->apart + j * d->step + i;
          store(z, d->type, place, factors[0] * whole + (factors[1] != 0 ? factors[1] * T(load(z, d->type, place)) : T(0)));
        }
    }
  }
};

}  // namespace

#define API extern "C" int
extern "C" int emulated_asked() { return asked; }            // how often the heuristic was
extern "C" int emulated_multiplied() { return multiplied; }  // how many products there were
extern "C" int emulated_alive() { return alive; }            // how many descriptions and handles there are
extern "C" void *emulated_stream() { return stream_used; }   // by the last product

extern "C" const char *cublasLtGetStatusName(int status) {
  switch (status) {
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_SUCCESS";
  }
}
API cublasLtGetProperty(int part, int *value) { return *value = part == 0 ? 13 : 0, SUCCESS; }
API cublasLtCreate(void **handle) {
  return device() < 0 ? NOT_INITIALIZED : Alive<Handle>::make(handle, device());
}

API cublasLtMatrixLayoutCreate(void **made, int type, uint64_t rows, uint64_t columns, int64_t step) {
  return Alive<Layout>::make(made, type, rows, columns, step);
}
API cublasLtMatrixLayoutDestroy(void *layout) { return Alive<Layout>::destroy(layout); }
API cublasLtMatrixLayoutSetAttribute(void *layout, int attribute, const void *value, size_t bytes) {
  Layout *found = Alive<Layout>::find(layout);
  if (!found) return INVALID_VALUE;
  switch (attribute) {
    case 5: return set(found->batch, value, bytes);
    case 6: return set(found->apart, value, bytes);
    default: return INVALID_VALUE;
  }
}

API cublasLtMatmulDescCreate(void **made, int compute, int scale) { return Alive<Operation>::make(made, compute, scale); }
API cublasLtMatmulDescDestroy(void *operation) { return Alive<Operation>::destroy(operation); }
API cublasLtMatmulDescSetAttribute(void *operation, int attribute, const void *value, size_t bytes) {
  Operation *found = Alive<Operation>::find(operation);
  return found && (attribute == 3 || attribute == 4) ? set(found->transposed[attribute - 3], value, bytes) : INVALID_VALUE;
}

API cublasLtMatmulPreferenceCreate(void **made) { return Alive<Preference>::make(made); }
API cublasLtMatmulPreferenceDestroy(void *preference) { return Alive<Preference>::destroy(preference); }
API cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t bytes) {
  Preference *found = Alive<Preference>::find(preference);
  if (!found) return INVALID_VALUE;
  switch (attribute) {
    case 1: return set(found->workspace, value, bytes);
    case 3: return set(found->schemes, value, bytes);
    case 5: case 6: case 7: case 8: return set(found->alignment[attribute - 5], value, bytes);
    default: return INVALID_VALUE;
  }
}

API cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, Result *results, int *count) {
  const Handle *use = Alive<Handle>::find(handle);
  const Preference *wishes = Alive<Preference>::find(preference);
  const Product product(operation, a, b, c, d);
  if (!use || use->device != device()) return NOT_INITIALIZED;
  if (!wishes || wanted < 1) return INVALID_VALUE;
  asked++, *count = 0;
  if (const int status = product.check()) return status;
  const Layout *layouts[] = {product.a, product.b, product.c, product.d};
  int64_t alignment = WIDE_ALIGNMENT;  // of all operands, for a product that reads as much at once
  for (int n = 0; n < 4; n++) {
    const int64_t size = bytes_of(layouts[n]->type), given = wishes->alignment[n];
    if (given < size || given & (given - 1)) return NOT_SUPPORTED;
    if (given < alignment || layouts[n]->step * size % alignment || layouts[n]->apart * size % alignment)
      alignment = std::min(alignment, size);
  }
  if (const char *answer = getenv("EMULATED_HEURISTIC")) return atoi(answer);
  const uint64_t parts = 8 * product.d->rows * product.d->columns * uint64_t(product.d->batch);
  uint64_t scheme = NONE;
  if (product.terms() >= SPLIT_FROM && parts <= wishes->workspace)
    scheme = wishes->schemes & IN_OUTPUT_TYPE ? IN_OUTPUT_TYPE : wishes->schemes & IN_COMPUTE_TYPE;
  const uint64_t workspace = scheme == NONE ? 0 : parts;
  *results = {{MARK, product.told(), uint64_t(alignment), scheme, workspace, {}}, workspace, SUCCESS, 1, {}};
  return *count = 1, SUCCESS;
}

API cublasLtMatmul(void *handle, void *operation, const void *alpha, const void *x, void *a, const void *y, void *b,
                   const void *beta, const void *before, void *c, void *z, void *d, const Algorithm *algorithm,
                   void *workspace, size_t bytes, void *stream) {
  const Handle *use = Alive<Handle>::find(handle);
  const Product product(operation, a, b, c, d);
  if (!use || use->device != device()) return NOT_INITIALIZED;
  if (const int status = product.check()) return status;
  if (!alpha || !beta || before != z || (stream && *(char *)stream != use->device)) return INVALID_VALUE;
  if (!algorithm || algorithm->mark != MARK || algorithm->made_for != product.told()) return INVALID_VALUE;
  if (algorithm->workspace > bytes || uint64_t(workspace) % WORKSPACE_ALIGNMENT) return INVALID_VALUE;
  if (bytes && !emulated_holds(uint64_t(workspace), bytes)) return INVALID_VALUE;
  const std::pair<const void *, const Layout *> operands[] = {{x, product.a}, {y, product.b}, {z, product.d}};
  for (const auto &[at, layout] : operands) {
    const int64_t size = bytes_of(layout->type);
    if (uint64_t(at) % std::max(algorithm->alignment, uint64_t(size))) return INVALID_VALUE;
    if (!emulated_holds(uint64_t(at), uint64_t(layout->end() * size))) return INVALID_VALUE;
  }
  multiplied++, stream_used = stream;
  const bool wide = product.operation->compute == COMPUTE_64F;
  const int parts_type = algorithm->scheme == IN_OUTPUT_TYPE ? product.d->type : wide ? F64 : F32;
  void *parts = algorithm->scheme == NONE ? nullptr : workspace;
  emulated_begin();
  if (wide) {
    const double factors[] = {*(const double *)alpha, *(const double *)beta};
    product.multiply(factors, x, y, z, parts, parts_type);
  } else {
    const float factors[] = {*(const float *)alpha, *(const float *)beta};
    product.multiply(factors, x, y, z, parts, parts_type);
  }
  emulated_end();
  return SUCCESS;
}
