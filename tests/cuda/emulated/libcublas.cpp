// A libcublas.so.13 beside the emulated driver: the one product that irc calls, in float or double, term after term.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

extern "C" void emulated_begin();
extern "C" void emulated_end();

enum Status { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_64F = 70 };

static double load(const void *data, int type, int64_t at) {
  if (type == F32) return ((const float *)data)[at];
  if (type == F64) return ((const double *)data)[at];
  if (type == F16) return double(((const _Float16 *)data)[at]);
  const uint32_t bits = uint32_t(((const uint16_t *)data)[at]) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void store(void *data, int type, int64_t at, double value) {
  const float rounded = float(value);
  uint32_t bits;
  memcpy(&bits, &rounded, sizeof bits);
  if (type == F32) ((float *)data)[at] = rounded;
  if (type == F64) ((double *)data)[at] = value;
  if (type == F16) ((_Float16 *)data)[at] = _Float16(rounded);
  if (type == BF16)
    ((uint16_t *)data)[at] = uint16_t(value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#define API extern "C" int
API cublasCreate_v2(void **handle) { return *handle = malloc(1), SUCCESS; }
API cublasSetStream_v2(void *, void *) { return SUCCESS; }
API cublasSetMathMode(void *, int) { return SUCCESS; }
API cublasGetProperty(int part, int *value) { return *value = part == 0 ? 13 : 0, SUCCESS; }

template <class T>
static void multiply(bool ta, bool tb, int m, int n, int k, T alpha, const void *a, int at, int64_t lda, int64_t sa,
                     const void *b, int bt, int64_t ldb, int64_t sb, T beta, void *c, int ct, int64_t ldc, int64_t sc,
                     int batch) {
  std::vector<T> left(size_t(m) * k), right(size_t(n) * k);
  for (int64_t e = 0; e < batch; e++) {
    for (int64_t i = 0; i < m; i++)
      for (int64_t l = 0; l < k; l++) left[i * k + l] = T(load(a, at, e * sa + (ta ? i * lda + l : l * lda + i)));
    for (int64_t j = 0; j < n; j++)
      for (int64_t l = 0; l < k; l++) right[j * k + l] = T(load(b, bt, e * sb + (tb ? l * ldb + j : j * ldb + l)));
    for (int64_t j = 0; j < n; j++)
      for (int64_t i = 0; i < m; i++) {
        T sum = 0;
        for (int64_t l = 0; l < k; l++) sum += left[i * k + l] * right[j * k + l];
        const int64_t place = e * sc + j * ldc + i;
        store(c, ct, place, alpha * sum + (beta != 0 ? beta * T(load(c, ct, place)) : T(0)));
      }
  }
}

API cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at,
                               int lda, long long sa, const void *b, int bt, int ldb, long long sb, const void *beta,
                               void *c, int ct, int ldc, long long sc, int batch, int compute, int) {
  if (m < 0 || n < 0 || k < 0 || batch < 0 || at != bt) return INVALID_VALUE;
  if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return INVALID_VALUE;
  const bool wide = compute == COMPUTE_64F;
  if (wide ? at != F64 || ct != F64 : compute != COMPUTE_32F || at == F64 || (ct != F32 && ct != at)) return NOT_SUPPORTED;
  emulated_begin();
  if (wide)
    multiply<double>(ta, tb, m, n, k, *(const double *)alpha, a, at, lda, sa, b, bt, ldb, sb, *(const double *)beta, c,
                     ct, ldc, sc, batch);
  else
    multiply<float>(ta, tb, m, n, k, *(const float *)alpha, a, at, lda, sa, b, bt, ldb, sb, *(const float *)beta, c, ct,
                    ldc, sc, batch);
  emulated_end();
  return SUCCESS;
}
