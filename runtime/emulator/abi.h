// What a compiled kernel calls in the emulator: one function for each instruction that concerns more than one thread,
// or memory apart from plain loads and stores. All are called on the fiber of the thread that executes the instruction.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define EMU_CONST __attribute__((const))  // the same all through a thread's life

#pragma GCC visibility push(default)
extern "C" {
struct emu_index {
  unsigned x, y, z;
};
struct emu_words {
  uint32_t x[4];
};
struct emu_floats {
  float x[4];
};

emu_index emu_thread_index() EMU_CONST;
emu_index emu_block_index() EMU_CONST;
emu_index emu_block_size() EMU_CONST;
emu_index emu_grid_size() EMU_CONST;
unsigned char *emu_shared_memory() EMU_CONST;
uint32_t emu_shared_address(const void *);
void emu_aligned(const void *address, unsigned size);  // a finding where the address is no multiple of size

enum emu_shuffle_kind { EMU_SHUFFLE_XOR, EMU_SHUFFLE_INDEX, EMU_SHUFFLE_DOWN, EMU_SHUFFLE_UP };
enum emu_element { EMU_BF16, EMU_F16, EMU_TF32 };

void emu_syncwarp(uint32_t mask);
uint64_t emu_shuffle(int kind, uint32_t mask, uint64_t value, int argument, int width);
uint32_t emu_ballot(uint32_t mask, int predicate);
emu_words emu_ldmatrix_x4(const void *row, int transposed);
emu_floats emu_mma(int element, emu_floats d, emu_words a, uint32_t b0, uint32_t b1);

void emu_barrier(int id, int threads, int wait);  // threads = 0: all of the block
void emu_cp_async(void *shared, const void *global, int size, int bytes);
void emu_cp_async_commit();
void emu_cp_async_wait(int groups);

// A tensor in global memory and the box of it that one copy moves: what a tensor map says, in this emulator's own form.
struct alignas(64) emu_tensor_map {
  unsigned char *base;
  uint64_t size[5];    // elements, the contiguous direction first
  uint64_t stride[4];  // bytes, of all directions but the first
  uint32_t box[5];
  uint16_t rank, element;  // bytes of an element
  uint32_t swizzle;        // 0, 32, 64 or 128 bytes
};

void emu_mbarrier_init(uint64_t *barrier, uint32_t arrivals);
void emu_mbarrier_fence_init();
void emu_mbarrier_arrive(uint64_t *barrier, uint32_t expected_bytes);
void emu_mbarrier_wait(uint64_t *barrier, uint32_t parity);
void emu_fence_proxy_async();
void emu_tensor_load(void *shared, const emu_tensor_map *map, uint64_t *barrier, const int *at, int rank);
void emu_tensor_store(const emu_tensor_map *map, const void *shared, const int *at, int rank);
void emu_bulk_commit();
void emu_bulk_wait(int groups);

struct emu_wgmma_shape {
  int element, columns, from_registers, accumulate, transpose_a, transpose_b;
};
void emu_wgmma(const emu_wgmma_shape *shape, float *d, const uint32_t *a_words, uint64_t a, uint64_t b);
void emu_wgmma_fence();
void emu_wgmma_commit();
void emu_wgmma_wait(int groups);

enum emu_atomic_operation { EMU_ADD, EMU_MAX, EMU_MIN, EMU_EXCHANGE };
enum emu_atomic_type { EMU_I32, EMU_U32, EMU_U64, EMU_F32, EMU_F64 };
uint64_t emu_atomic(int operation, int type, void *address, uint64_t value);  // the bits that stood there before

// One launch: `run` calls the kernel with the parameters behind `context`. Answers the number of findings.
int emu_launch(void (*run)(void *), void *context, const unsigned *grid_and_block, uint32_t shared_bytes);
}
#pragma GCC visibility pop
