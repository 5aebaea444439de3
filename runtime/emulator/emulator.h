// The names of CUDA C++ and of `ptx.cuh` for a C++ compiler: what kernels see of the emulator. The meanings are in
// `abi.h`'s functions; the comments on each `ptx::` name stand in `ptx.cuh`.
#pragma once
#include <math.h>
#include <stdint.h>
#include <utility>

#include "abi.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))  // also where nothing is optimised: places are chains of inlined calls
#define __restrict__ __restrict
#define DEVICE static __forceinline__
#define KERNEL(name, threads) static void name
#define GRID_CONSTANT
#define SHARED_MEMORY(name) unsigned char *name = emu_shared_memory()

#define threadIdx emu_thread_index()
#define blockIdx emu_block_index()
#define blockDim emu_block_size()
#define gridDim emu_grid_size()

DEVICE void __syncthreads() { emu_barrier(0, 0, 1); }
DEVICE void __syncwarp(uint32_t mask = 0xffffffffu) { emu_syncwarp(mask); }
DEVICE void __threadfence() {}
DEVICE void __threadfence_block() {}

template <class T> DEVICE uint64_t emu_bits(T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "4 or 8 bytes");
  if constexpr (sizeof(T) == 4)
    return __builtin_bit_cast(uint32_t, value);
  else
    return __builtin_bit_cast(uint64_t, value);
}
template <class T> DEVICE T emu_value(uint64_t bits) {
  if constexpr (sizeof(T) == 4)
    return __builtin_bit_cast(T, uint32_t(bits));
  else
    return __builtin_bit_cast(T, bits);
}

template <class T> DEVICE T __shfl_xor_sync(uint32_t mask, T value, int lanes, int width = 32) {
  return emu_value<T>(emu_shuffle(EMU_SHUFFLE_XOR, mask, emu_bits(value), lanes, width));
}
template <class T> DEVICE T __shfl_sync(uint32_t mask, T value, int lane, int width = 32) {
  return emu_value<T>(emu_shuffle(EMU_SHUFFLE_INDEX, mask, emu_bits(value), lane, width));
}
template <class T> DEVICE T __shfl_down_sync(uint32_t mask, T value, unsigned lanes, int width = 32) {
  return emu_value<T>(emu_shuffle(EMU_SHUFFLE_DOWN, mask, emu_bits(value), int(lanes), width));
}
template <class T> DEVICE T __shfl_up_sync(uint32_t mask, T value, unsigned lanes, int width = 32) {
  return emu_value<T>(emu_shuffle(EMU_SHUFFLE_UP, mask, emu_bits(value), int(lanes), width));
}
DEVICE uint32_t __ballot_sync(uint32_t mask, int predicate) { return emu_ballot(mask, predicate); }
DEVICE int __any_sync(uint32_t mask, int predicate) { return emu_ballot(mask, predicate) != 0; }
DEVICE int __all_sync(uint32_t mask, int predicate) { return emu_ballot(mask, !predicate) == 0; }
template <class T> DEVICE uint32_t __match_any_sync(uint32_t mask, T value) {
  uint32_t same = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && __shfl_sync(mask, value, lane) == value) same |= 1u << lane;
  return same;
}
DEVICE int __popc(uint32_t bits) { return __builtin_popcount(bits); }

template <class T> struct emu_type;
template <> struct emu_type<int> {
  static constexpr int value = EMU_I32;
};
template <> struct emu_type<unsigned> {
  static constexpr int value = EMU_U32;
};
template <> struct emu_type<unsigned long long> {
  static constexpr int value = EMU_U64;
};
template <> struct emu_type<float> {
  static constexpr int value = EMU_F32;
};
template <> struct emu_type<double> {
  static constexpr int value = EMU_F64;
};
template <class T> DEVICE T atomicAdd(T *address, T value) {
  return emu_value<T>(emu_atomic(EMU_ADD, emu_type<T>::value, address, emu_bits(value)));
}
template <class T> DEVICE T atomicMax(T *address, T value) {
  return emu_value<T>(emu_atomic(EMU_MAX, emu_type<T>::value, address, emu_bits(value)));
}
template <class T> DEVICE T atomicMin(T *address, T value) {
  return emu_value<T>(emu_atomic(EMU_MIN, emu_type<T>::value, address, emu_bits(value)));
}
template <class T> DEVICE T atomicExch(T *address, T value) {
  return emu_value<T>(emu_atomic(EMU_EXCHANGE, emu_type<T>::value, address, emu_bits(value)));
}

DEVICE uint32_t __float_as_uint(float x) { return __builtin_bit_cast(uint32_t, x); }
DEVICE float __uint_as_float(uint32_t x) { return __builtin_bit_cast(float, x); }

namespace ptx {

template <class V> DEVICE V load(const void *address) {
  static_assert(alignof(V) == sizeof(V), "a vector is aligned to its size");
  emu_aligned(address, sizeof(V));
  return *static_cast<const V *>(address);
}
template <class V> DEVICE void store(void *address, V value) {
  static_assert(alignof(V) == sizeof(V), "a vector is aligned to its size");
  emu_aligned(address, sizeof(V));
  *static_cast<V *>(address) = value;
}
DEVICE void store_global(void *address, const uint32_t (&words)[4]) {
  emu_aligned(address, sizeof words);
  for (int n = 0; n < 4; ++n) static_cast<uint32_t *>(address)[n] = words[n];
}
DEVICE uint32_t shared_address(const void *p) { return emu_shared_address(p); }

template <int SIZE> DEVICE void cp_async(void *shared, const void *global, int bytes = SIZE) {
  static_assert(SIZE == 4 || SIZE == 8 || SIZE == 16, "4, 8 or 16 bytes");
  emu_cp_async(shared, global, SIZE, bytes);
}
DEVICE void cp_async_commit() { emu_cp_async_commit(); }
template <int N> DEVICE void cp_async_wait() { emu_cp_async_wait(N); }

// Fragments travel by value, so that those of a kernel can stay in registers.
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
  const emu_words words = emu_ldmatrix_x4(row, 0);
  r[0] = words.x[0], r[1] = words.x[1], r[2] = words.x[2], r[3] = words.x[3];
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
  const emu_words words = emu_ldmatrix_x4(row, 1);
  r[0] = words.x[0], r[1] = words.x[1], r[2] = words.x[2], r[3] = words.x[3];
}
template <int ELEMENT> DEVICE void emu_mma_into(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const emu_floats sum = emu_mma(ELEMENT, {{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}}, b0, b1);
  d[0] = sum.x[0], d[1] = sum.x[1], d[2] = sum.x[2], d[3] = sum.x[3];
}
DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emu_mma_into<EMU_BF16>(d, a, b0, b1);
}
DEVICE void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emu_mma_into<EMU_F16>(d, a, b0, b1);
}
DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emu_mma_into<EMU_TF32>(d, a, b0, b1);
}

DEVICE uint32_t emu_bf16(float x) {  // NaN is 0x7fff, as cvt makes it
  const uint32_t bits = __float_as_uint(x);
  return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
DEVICE uint32_t emu_f16(float x) {
  const uint32_t bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffu;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;                                      // beyond the largest
  if (magnitude < 0x38800000u) return sign | uint32_t(nearbyintf(fabsf(x) * 16777216.0f));  // subnormal: units of 2^-24
  return sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}
DEVICE uint32_t pack_bf16(float low, float high) { return emu_bf16(low) | emu_bf16(high) << 16; }
DEVICE uint32_t pack_f16(float low, float high) { return emu_f16(low) | emu_f16(high) << 16; }
DEVICE float unpack_bf16(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
DEVICE float unpack_f16(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu, sign = uint32_t(bits & 0x8000u) << 16;
  if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return __uint_as_float(sign | ((magnitude << 13) + 0x38000000u));
  return float(magnitude) * (sign ? -0x1p-24f : 0x1p-24f);
}
DEVICE uint32_t to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}
DEVICE float min_nan(float x, float y) {  // 0 is more than -0
  if (x != x || y != y) return __uint_as_float(0x7fffffffu);
  return x < y || (x == y && __float_as_uint(x) >> 31) ? x : y;
}
template <class T> DEVICE T emu_apart(T x) {  // no compiler knows what it comes from
  asm volatile("" : "+m"(x));
  return x;
}
DEVICE float product(float x, float y) { return emu_apart(x * y); }
DEVICE double product(double x, double y) { return emu_apart(x * y); }
DEVICE float difference(float x, float y) { return emu_apart(x) - emu_apart(y); }
DEVICE double difference(double x, double y) { return emu_apart(x) - emu_apart(y); }
DEVICE float exp2_approx(float x) {
  const float y = exp2f(fabsf(x) < 0x1p-126f ? 0.0f : x);
  return y < 0x1p-126f ? 0.0f : y;
}

DEVICE void barrier_sync(int id, int threads) { emu_barrier(id, threads, 1); }
DEVICE void barrier_arrive(int id, int threads) { emu_barrier(id, threads, 0); }

DEVICE void mbarrier_init(uint64_t *barrier, uint32_t arrivals) { emu_mbarrier_init(barrier, arrivals); }
DEVICE void mbarrier_fence_init() { emu_mbarrier_fence_init(); }
DEVICE void mbarrier_arrive(uint64_t *barrier) { emu_mbarrier_arrive(barrier, 0); }
DEVICE void mbarrier_expect(uint64_t *barrier, uint32_t bytes) { emu_mbarrier_arrive(barrier, bytes); }
DEVICE void mbarrier_wait(uint64_t *barrier, uint32_t parity) { emu_mbarrier_wait(barrier, parity); }
DEVICE void fence_proxy_async() { emu_fence_proxy_async(); }

typedef emu_tensor_map TensorMap;
DEVICE void prefetch(const TensorMap &) {}
template <class... I> DEVICE void tensor_load(void *shared, const TensorMap &map, uint64_t *barrier, I... at) {
  const int coordinates[] = {int(at)...};
  emu_tensor_load(shared, &map, barrier, coordinates, sizeof...(I));
}
template <class... I> DEVICE void tensor_store(const TensorMap &map, const void *shared, I... at) {
  const int coordinates[] = {int(at)...};
  emu_tensor_store(&map, shared, coordinates, sizeof...(I));
}
DEVICE void bulk_commit() { emu_bulk_commit(); }
template <int N> DEVICE void bulk_wait() { emu_bulk_wait(N); }

DEVICE void wgmma_fence() { emu_wgmma_fence(); }
DEVICE void wgmma_commit() { emu_wgmma_commit(); }
template <int N> DEVICE void wgmma_wait() { emu_wgmma_wait(N); }
template <int N, int M> DEVICE void settle(float (&)[N][M]) {}
#define EMU_WGMMA(name, element)                                                                  \
  template <int TRANSPOSE_A, int TRANSPOSE_B, size_t R>                                           \
  DEVICE void name(float (&d)[R], uint64_t a, uint64_t b, int accumulate) {                       \
    const emu_wgmma_shape shape = {element, 2 * int(R), 0, accumulate, TRANSPOSE_A, TRANSPOSE_B}; \
    emu_wgmma(&shape, d, nullptr, a, b);                                                          \
  }                                                                                               \
  template <int TRANSPOSE_B, size_t R>                                                            \
  DEVICE void name(float (&d)[R], const uint32_t (&a)[4], uint64_t b, int accumulate) {           \
    const emu_wgmma_shape shape = {element, 2 * int(R), 1, accumulate, 0, TRANSPOSE_B};           \
    emu_wgmma(&shape, d, a, 0, b);                                                                \
  }
EMU_WGMMA(wgmma_m64k16_bf16, EMU_BF16)
EMU_WGMMA(wgmma_m64k16_f16, EMU_F16)

template <int N> DEVICE void setmaxnreg_dec() { static_assert(N % 8 == 0 && N >= 24 && N <= 256, "8 by 8, 24 to 256"); }
template <int N> DEVICE void setmaxnreg_inc() { static_assert(N % 8 == 0 && N >= 24 && N <= 256, "8 by 8, 24 to 256"); }

}  // namespace ptx

// ---- launches

#define EMU_UNCHECKED __attribute__((no_sanitize("thread")))  // parameters lie outside the kernel's memory

template <class... P, size_t... I>
EMU_UNCHECKED void emu_apply(void (*kernel)(P...), void **parameters, std::index_sequence<I...>) {
  kernel(*static_cast<P *>(parameters[I])...);
}

template <class... P> struct emu_call {
  void (*kernel)(P...);
  void **parameters;
  EMU_UNCHECKED static void run(void *call) {
    emu_apply(static_cast<emu_call *>(call)->kernel, static_cast<emu_call *>(call)->parameters,
              std::index_sequence_for<P...>());
  }
};

template <class... P>
int emu_launch_with(void (*kernel)(P...), void **parameters, const unsigned *grid_and_block, uint32_t shared_bytes) {
  emu_call<P...> call{kernel, parameters};
  return emu_launch(&emu_call<P...>::run, &call, grid_and_block, shared_bytes);
}

// The number of parameters; the size and the alignment of each, as far as there is room for `room` of them.
template <class... P> int emu_parameters_of(void (*)(P...), uint32_t (*parameters)[2], int room) {
  const uint32_t all[][2] = {{sizeof(P), alignof(P)}..., {0, 0}};
  for (int n = 0; n < room && n < int(sizeof...(P)); n++)
    parameters[n][0] = all[n][0], parameters[n][1] = all[n][1];
  return sizeof...(P);
}

// What the driver appends for each kernel of a source. Parameter n is read from parameters[n].
#define EMU_EXPORT(name)                                                                                    \
  extern "C" int emu_run_##name(void **parameters, const unsigned *grid_and_block, uint32_t shared_bytes) { \
    return emu_launch_with(name, parameters, grid_and_block, shared_bytes);                                 \
  }                                                                                                         \
  extern "C" int emu_parameters_##name(uint32_t(*parameters)[2], int room) {                                \
    return emu_parameters_of(name, parameters, room);                                                       \
  }
