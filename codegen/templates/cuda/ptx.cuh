// The instructions that kernels use beyond plain CUDA C++: the one place with inline PTX, named as in its manual.
//
// Under nvcc they are the instructions (sm_80; the last part sm_90a). With IRC_EMULATOR defined, `emulator.h` offers
// the same names, with the same meaning, to a C++ compiler. Kernels use, beside these, only this of CUDA C++:
//   threadIdx blockIdx blockDim gridDim __syncthreads __syncwarp __threadfence
//   __shfl_sync __shfl_xor_sync __shfl_down_sync __shfl_up_sync __ballot_sync __any_sync __all_sync __popc
//   atomicAdd atomicMax atomicMin atomicExch __float_as_uint __uint_as_float and the functions of <math.h>.
//
// A fragment is a thread's share of a matrix that a warp holds. In lane 4 g + t, two 16-bit elements a word, the lower
// first:
//   A of m16n8k16, a[0..3]: rows g, g+8, g, g+8; columns 2t..2t+1 (a[0], a[1]) and 2t+8..2t+9 (a[2], a[3])
//   B of m16n8k16, b0, b1:  column g; rows 2t..2t+1 and 2t+8..2t+9
//   C of m16n8,    d[0..3]: row g columns 2t, 2t+1; row g+8 columns 2t, 2t+1
//   A of m16n8k8 (tf32), a[0..3]: (g, t), (g+8, t), (g, t+4), (g+8, t+4);  B: (t, g), (t+4, g)
#include <math.h>
#include <stdint.h>

#ifdef IRC_EMULATOR
#include "emulator.h"
#else

#define DEVICE __device__ __forceinline__
// KERNEL(name, threads)(parameters) { body }: a kernel of at most so many threads a block.
#define KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads) name
#define GRID_CONSTANT __grid_constant__
// Declares `unsigned char *name`: the block's dynamic shared memory, on 1024 bytes.
#define SHARED_MEMORY(name) extern __shared__ __align__(1024) unsigned char name[]

namespace ptx {

// ---- memory

// One access of sizeof(V) = 4, 8 or 16 bytes at a multiple of it; V is a plain struct with alignas(sizeof(V)).
template <class V> DEVICE V load(const void *address) { return *reinterpret_cast<const V *>(address); }
template <class V> DEVICE void store(void *address, V value) { *reinterpret_cast<V *>(address) = value; }
// Four words to global memory, on 16 bytes, at once: no compiler takes them apart.
DEVICE void store_global(void *address, const uint32_t (&words)[4]) {
  asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(__cvta_generic_to_global(address)), "r"(words[0]), "r"(words[1]),
               "r"(words[2]), "r"(words[3])
               : "memory");
}

// The address of shared memory as instructions take it: bytes from the start of the shared window.
DEVICE uint32_t shared_address(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }

// Copies SIZE = 4, 8 or 16 bytes from global to shared memory, both aligned to SIZE, without waiting. Only the first
// `bytes` are read, the rest is filled with zeros: with bytes = 0 nothing is read.
template <int SIZE> DEVICE void cp_async(void *shared, const void *global, int bytes = SIZE) {
  if constexpr (SIZE == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(SIZE),
                 "r"(bytes)
                 : "memory");
}

// Makes this thread's copies since the last commit one group.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most N of this thread's latest groups are under way. Other threads see the data after a barrier.
template <int N> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// ---- matrices held by a warp

// Four 8×8 matrices of 16-bit elements: lane 8 m + r gives the address of row r of matrix m, on 16 bytes in shared
// memory. r[m] holds row g, columns 2t..2t+1 of matrix m; with trans, column g, rows 2t..2t+1.
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a b, summed in float.
#define IRC_MMA(name, instruction)                                                                        \
  DEVICE void name(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {                     \
    asm volatile("mma.sync.aligned." instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                         \
  }
IRC_MMA(mma_m16n8k16_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
IRC_MMA(mma_m16n8k16_f16, "m16n8k16.row.col.f32.f16.f16.f32")
IRC_MMA(mma_m16n8k8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef IRC_MMA

// ---- numbers

// Two floats rounded to 16-bit elements, ties to even, in one word; and the bits of one.
DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE uint32_t pack_f16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE float unpack_bf16(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
DEVICE float unpack_f16(uint16_t bits) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
  return r;
}
// The nearest number of 11 bits, ties away from zero, as mma takes it.
DEVICE uint32_t to_tf32(float x) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}
// The smaller; NaN where either is.
DEVICE float min_nan(float x, float y) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
// A product and a difference that are rounded by themselves: no compiler makes one instruction of them and of others.
DEVICE float product(float x, float y) { return __fmul_rn(x, y); }
DEVICE double product(double x, double y) { return __dmul_rn(x, y); }
DEVICE float difference(float x, float y) { return __fsub_rn(x, y); }
DEVICE double difference(double x, double y) { return __dsub_rn(x, y); }
// 2^x to 2 units in the last place; subnormal arguments and results are zero.
DEVICE float exp2_approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// ---- barriers of some of the threads

// Barrier 1..15 (0 is __syncthreads) for `threads` threads, a multiple of 32, whole warps. Arriving does not wait.
DEVICE void barrier_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- sm_90a

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// An mbarrier is a uint64_t in shared memory. A phase is over when `arrivals` threads have arrived and all bytes that
// they expected have been copied. Initialised by one thread, which then fences, before a barrier of the block.
DEVICE void mbarrier_init(uint64_t *barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
DEVICE void mbarrier_fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void mbarrier_arrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and announces bytes.
DEVICE void mbarrier_expect(uint64_t *barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// Waits until the phase of that parity is over; the first phase has parity 0, so waiting for 1 at first does not wait.
DEVICE void mbarrier_wait(uint64_t *barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}" ::
          "r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}
// Plain stores to shared memory before it are seen by bulk stores and wgmma of all who are ordered after it.
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A CUtensorMap, made by the driver; a parameter `GRID_CONSTANT const ptx::TensorMap map`.
struct alignas(64) TensorMap {
  unsigned char opaque[128];
};
DEVICE void prefetch(const TensorMap &map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

// Copies the map's box at these coordinates (elements, the contiguous direction first; outside it is zero) to shared
// memory, and counts its bytes off the mbarrier. One thread calls it. The box lies on 128 bytes, with swizzle on 8
// times its bytes.
DEVICE void tensor_load(void *shared, const TensorMap &map, uint64_t *barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
}
DEVICE void tensor_load(void *shared, const TensorMap &map, uint64_t *barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
DEVICE void tensor_load(void *shared, const TensorMap &map, uint64_t *barrier, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}
DEVICE void tensor_load(void *shared, const TensorMap &map, uint64_t *barrier, int x, int y, int z, int w, int v) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, "
      "%7}], [%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v)
      : "memory");
}
// The other way; what lies outside the tensor is not written. A wait is for groups that this thread committed.
DEVICE void tensor_store(const TensorMap &map, const void *shared, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
               "r"(shared_address(shared)), "r"(x), "r"(y)
               : "memory");
}
DEVICE void tensor_store(const TensorMap &map, const void *shared, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
               "r"(shared_address(shared)), "r"(x), "r"(y), "r"(z)
               : "memory");
}
DEVICE void tensor_store(const TensorMap &map, const void *shared, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
               "r"(shared_address(shared)), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
}
DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int N> DEVICE void bulk_wait() { asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory"); }

// The products themselves stand in `wgmma.cuh.j2`. All 128 threads of a warpgroup call each of these. Registers of a
// product may be used again after a wait; before the next product uses them comes a fence.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

// The values are made before what follows, and read after what came before: of a wait the compiler knows neither.
template <int N, int M> DEVICE void settle(float (&values)[N][M]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int m = 0; m < M; ++m) asm volatile("" : "+f"(values[n][m])::"memory");
}

// From here on each thread of the warpgroup has N registers: fewer, or more, once others have given theirs back.
template <int N> DEVICE void setmaxnreg_dec() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> DEVICE void setmaxnreg_inc() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

#endif

}  // namespace ptx
#endif

namespace ptx {

// How a matrix in shared memory is described to wgmma. Its elements have 16 bits, 8 of them a unit; K is the direction
// that is summed. With swizzle, a row of a tile has that many bytes, tiles of 8 rows lie on 8 · swizzle bytes, and
// units change places as a bulk copy with the same swizzle puts them.
//   K contiguous: rows of m or n; `stride` bytes from 8 rows to the next 8; `leading`, without swizzle alone, from a
//     unit to the next. A step of 16 along K adds 32 bytes to the address (without swizzle 2 · leading).
//   m or n contiguous (transposed): rows of K; `leading` bytes from one tile's width along m or n to the next, `stride`
//     from 8 rows to the next 8; without swizzle the two change parts. A step of 16 along K adds 2 · stride (2 · leading).
enum Swizzle : uint64_t { SWIZZLE_NONE = 0, SWIZZLE_128B = 1, SWIZZLE_64B = 2, SWIZZLE_32B = 3 };

DEVICE uint64_t wgmma_descriptor(uint32_t shared_bytes, uint32_t leading, uint32_t stride, Swizzle swizzle) {
  return uint64_t((shared_bytes & 0x3ffff) >> 4) | uint64_t(leading >> 4) << 16 | uint64_t(stride >> 4) << 32 |
         uint64_t(swizzle) << 62;
}
// That of what lies so many bytes on, a multiple of 16; and the same one, or the same number, of which no compiler knows
// that it is.
DEVICE uint64_t advanced(uint64_t descriptor, uint32_t bytes) {
  return descriptor & ~uint64_t(~0u) | uint32_t(uint32_t(descriptor) + (bytes >> 4));
}
DEVICE uint32_t anew(uint32_t number) {
  asm volatile("" : "+r"(number));
  return number;
}
DEVICE float anew(float number) { return __uint_as_float(anew(__float_as_uint(number))); }
DEVICE uint64_t anew(uint64_t descriptor) { return descriptor & ~uint64_t(~0u) | anew(uint32_t(descriptor)); }

}  // namespace ptx
