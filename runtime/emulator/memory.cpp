// What a thread does to memory beside plain loads and stores: atomics, and cp.async with its groups.
#include "clocks.h"

namespace emu {

template <class T> static uint64_t combine(int operation, void *address, uint64_t bits) {
  T old, value;
  memcpy(&old, address, sizeof old), memcpy(&value, &bits, sizeof value);
  T fresh = value;
  if (operation == EMU_ADD) fresh = T(old + value);
  if (operation == EMU_MAX) fresh = old > value ? old : value;
  if (operation == EMU_MIN) fresh = old < value ? old : value;
  memcpy(address, &fresh, sizeof fresh);
  uint64_t before = 0;
  memcpy(&before, &old, sizeof old);
  return before;
}

static void land(const Copy &copy) {
  memcpy(copy.shared, copy.global, size_t(copy.bytes));
  memset((char *)copy.shared + copy.bytes, 0, size_t(copy.size - copy.bytes));
}

}  // namespace emu

using namespace emu;

extern "C" {

emu_index emu_thread_index() { return current->index; }
emu_index emu_block_index() { return block->index; }
emu_index emu_block_size() { return block->launch.block_size; }
emu_index emu_grid_size() { return block->launch.grid; }
unsigned char *emu_shared_memory() { return block->shared; }

uint32_t emu_shared_address(const void *p) {
  if (!in_shared(p)) fail(MISUSE, EMU_PLACE, nullptr, "the shared address of what is not in shared memory");
  return shared_offset(p);
}

void emu_aligned(const void *address, unsigned size) {
  if ((uintptr_t)address % size == 0) return;
  fail(ALIGNMENT, EMU_PLACE, nullptr, "an access of %u bytes at an address that is no multiple of it", size);
}

uint64_t emu_atomic(int operation, int type, void *address, uint64_t value) {
  static const int sizes[] = {4, 4, 8, 4, 8};
  emu_aligned(address, unsigned(sizes[type]));
  touch(address, unsigned(sizes[type]), Access::ATOMIC, "an atomic operation", EMU_PLACE);
  static std::mutex mutex;  // blocks of an unchecked launch may run on several host threads
  std::lock_guard<std::mutex> lock(mutex);
  switch (type) {
    case EMU_I32:
      return combine<int32_t>(operation, address, value);
    case EMU_U32:
      return combine<uint32_t>(operation, address, value);
    case EMU_U64:
      return combine<uint64_t>(operation, address, value);
    case EMU_F32:
      return combine<float>(operation, address, value);
    default:
      return combine<double>(operation, address, value);
  }
}

void emu_cp_async(void *shared, const void *global, int size, int bytes) {
  const void *place = EMU_PLACE;
  current->place = place;
  if (!in_shared(shared)) fail(MISUSE, place, nullptr, "cp.async to what is not shared memory");
  if (in_shared(global)) fail(MISUSE, place, nullptr, "cp.async from shared memory");
  if (((uintptr_t)shared | (uintptr_t)global) % unsigned(size))
    fail(ALIGNMENT, place, nullptr, "cp.async of %d bytes between addresses that are no multiples of it", size);
  if (bytes < 0 || bytes > size) fail(MISUSE, place, nullptr, "cp.async of %d bytes reads %d", size, bytes);
  if (bytes) touch(global, unsigned(bytes), Access::READ, "cp.async's read", place);
  touch(shared, unsigned(size), Access::WRITE, "cp.async", place, true);
  Copy copy = {shared, global, size, bytes};
  const Schedule::Copies when = block->launch.schedule.copies;
  if (when == Schedule::EARLY || (when == Schedule::EITHER && block->random.below(2)))
    land(copy), copy.global = nullptr;
  current->copies.push_back(copy);
}

void emu_cp_async_commit() {
  current->groups.emplace_back();
  current->groups.back().swap(current->copies);
}

void emu_cp_async_wait(int groups) {
  Thread &me = *current;
  while (int(me.groups.size()) > groups) {
    for (const Copy &copy : me.groups.front()) {
      if (copy.global) land(copy);
      if (block->clocks) block->clocks->landed(me.id, shared_offset(copy.shared), unsigned(copy.size));
    }
    me.groups.pop_front();
  }
}
}
