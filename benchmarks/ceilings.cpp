// What this machine can do at most: fused multiply-adds in f32, dot products of bf16 pairs, bytes read from memory.
// Each function does some work on `threads` threads and returns how much: operations or bytes, which the caller times.

#include <omp.h>

#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__) || defined(__AMX_BF16__)
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kChains = 24;  // independent sums: more than latency times units, fewer than registers
#elif defined(__AVX__)
constexpr int kBytes = 32, kChains = 12;
#else
constexpr int kBytes = 16, kChains = 12;
#endif
typedef float Lanes __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / sizeof(float);

volatile float one = 1.0f, tiny = 1e-9f, sink;  // nothing that the compiler could compute ahead, or leave out

template <class Vector, int kCount>
void use(const Vector (&sums)[kCount]) {
  float values[kCount * kLanes], total = 0;
  std::memcpy(values, sums, sizeof values);
  for (float value : values) total += value;
  sink = total;
}

// Runs body(thread) on every thread, and returns the work of all, each having done `work`.
template <class Body>
double all(int threads, double work, Body body) {
  int count = 1;
#pragma omp parallel num_threads(threads)
  {
#pragma omp master
    count = omp_get_num_threads();
    body(omp_get_thread_num());
  }
  return count * work;
}

#if defined(__AMX_BF16__)
struct TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
#endif

}  // namespace

extern "C" {

// Fused multiply-adds in f32, each two operations.
double multiply_adds(int threads, int64_t steps) {
  return all(threads, 2.0 * steps * kChains * kLanes, [=](int) {
    const Lanes factor = Lanes{} + one, term = Lanes{} + tiny;
    Lanes sums[kChains];
    for (Lanes& sum : sums) sum = Lanes{} + one;
    for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 32
      for (int c = 0; c < kChains; ++c) sums[c] = sums[c] * factor + term;
    }
    use(sums);
  });
}

// Dot products of bf16 pairs, summed in f32, each four operations; no work where the processor has no such instruction.
double dot_products([[maybe_unused]] int threads, [[maybe_unused]] int64_t steps) {
#if defined(__AVX512BF16__)
  return all(threads, 4.0 * steps * kChains * kLanes, [=](int) {
    const Lanes ones = Lanes{} + one;
    __m512bh pairs;
    std::memcpy(&pairs, &ones, sizeof pairs);
    __m512 sums[kChains];
    for (__m512& sum : sums) sum = _mm512_set1_ps(one);
    for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 32
      for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], pairs, pairs);
    }
    use(sums);
  });
#else
  return 0;
#endif
}

// Products of bf16 tiles: an instruction makes 16 x 16 sums of 32 products each. No work without the instructions.
double tile_products([[maybe_unused]] int threads, [[maybe_unused]] int64_t steps) {
#if defined(__AMX_BF16__)
  constexpr int kPermission = 0x1023, kTileData = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  if (syscall(SYS_arch_prctl, kPermission, kTileData) != 0) return 0;
  return all(threads, 2.0 * steps * 4 * 16 * 16 * 32, [=](int) {
    TileConfig config;
    for (int t = 0; t < 8; ++t) config.bytes[t] = 64, config.rows[t] = 16;
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t s = 0; s < steps; ++s) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
  });
#else
  return 0;
#endif
}

// Bytes read from memory, each thread a part of its own of `count` floats.
double read_memory(int threads, int64_t count, const float* memory) {
  constexpr int kStep = 16 * kLanes;
  const int64_t part = count / threads / kStep * kStep;
  return all(threads, 4.0 * part, [=](int thread) {
    const float* at = memory + thread * part;
    Lanes sums[16] = {};
    for (int64_t n = 0; n < part; n += kStep) {
#pragma GCC unroll 16
      for (int c = 0; c < 16; ++c) sums[c] += *reinterpret_cast<const Lanes*>(at + n + c * kLanes);
    }
    use(sums);
  });
}
}
