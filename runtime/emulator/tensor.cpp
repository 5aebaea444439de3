// Bulk copies of boxes between a tensor and shared memory, as tensor maps describe them (TMA).
#include "async.h"

namespace emu {

// Where the byte of a box lies that would be `offset` without the swizzle: 16-byte units change places by address bits.
static uint32_t swizzled(uint32_t offset, uint32_t swizzle) {
  if (swizzle == 0) return offset;
  return offset ^ ((offset >> 7 & (swizzle / 16 - 1)) << 4);
}

// Calls f(offset in shared memory, address in the tensor or null outside, bytes) for each unit of 16 bytes of the box,
// or for each element of those that lie across the tensor's end.
template <class F> static void each_unit(const TensorCopy &copy, F f) {
  const emu_tensor_map &map = copy.map;
  const uint32_t row = map.box[0] * map.element;
  uint32_t offset = shared_offset(copy.shared);
  uint32_t index[5] = {};
  for (;;) {
    bool inside = true;
    int64_t from = 0;
    for (int d = 1; d < map.rank; d++) {
      const int64_t at = int64_t(copy.at[d]) + index[d];
      inside = inside && at >= 0 && uint64_t(at) < map.size[d];
      from += at * int64_t(map.stride[d - 1]);
    }
    for (uint32_t byte = 0; byte < row; byte += 16) {
      const int64_t x = int64_t(copy.at[0]) + byte / map.element;
      const uint32_t count = 16 / map.element;
      auto has = [&](int64_t k) { return inside && k >= 0 && uint64_t(k) < map.size[0]; };
      if (has(x) && has(x + count - 1)) {
        f(swizzled(offset + byte, map.swizzle), map.base + from + x * map.element, 16u);
        continue;
      }
      for (uint32_t n = 0; n < count; n++) {
        unsigned char *address = has(x + n) ? map.base + from + (x + n) * map.element : nullptr;
        f(swizzled(offset + byte + n * map.element, map.swizzle), address, uint32_t(map.element));
      }
    }
    offset += row;
    int d = 1;
    while (d < map.rank && ++index[d] == map.box[d]) index[d++] = 0;
    if (d >= map.rank) return;
  }
}

static uint32_t box_bytes(const emu_tensor_map &map) {
  uint32_t bytes = map.element;
  for (int d = 0; d < map.rank; d++) bytes *= map.box[d];
  return bytes;
}

static void check_copy(const TensorCopy &copy, int rank, const char *name, const void *place) {
  const emu_tensor_map &map = copy.map;
  current->place = place;
  bool whole =
      map.rank >= 1 && map.rank <= 5 && (map.element == 1 || map.element == 2 || map.element == 4 || map.element == 8);
  for (int d = 0; whole && d < map.rank; d++) whole = map.box[d] >= 1 && map.box[d] <= 256;
  if (!whole) fail(MISUSE, place, nullptr, "%s by what is no tensor map", name);
  if (map.rank != rank) fail(MISUSE, place, nullptr, "%s in %d directions of a tensor of %d", name, rank, map.rank);
  const uint32_t alignment = map.swizzle ? map.swizzle * 8 : 128;
  if (!in_shared(copy.shared)) fail(MISUSE, place, nullptr, "%s's box is not in shared memory", name);
  if (shared_offset(copy.shared) % alignment)
    fail(ALIGNMENT, place, nullptr, "%s's box is not on %u bytes, as a swizzle of %u needs", name, alignment,
         map.swizzle);
  if (shared_offset(copy.shared) + box_bytes(map) > block->launch.shared_bytes)
    fail(BOUNDS, place, nullptr, "%s of %u bytes at shared memory + %u, of which there are %u bytes", name,
         box_bytes(map), shared_offset(copy.shared), block->launch.shared_bytes);
}

static void land_load(const TensorCopy &copy) {
  each_unit(copy, [](uint32_t offset, const unsigned char *from, uint32_t bytes) {
    if (from)
      memcpy(block->shared + offset, from, bytes);
    else
      memset(block->shared + offset, 0, bytes);
  });
  Mbarrier &barrier = block->async->mbarriers.at(copy.barrier);
  if (block->clocks) {
    std::vector<uint32_t> clock(size_t(block->clocks->actors), 0);
    clock[size_t(copies_of(barrier.number))] = copy.moment;
    block->clocks->join(barrier.arriving, clock.data());
  }
  barrier.bytes -= box_bytes(copy.map);
  arrive(barrier);
}

void land_store(const TensorCopy &copy) {
  each_unit(copy, [](uint32_t offset, unsigned char *to, uint32_t bytes) {
    if (to) memcpy(to, block->shared + offset, bytes);
  });
}

bool Async::land_one() {
  if (loads.empty()) return false;
  const size_t n = block->launch.schedule.order == Schedule::IN_ORDER ? 0 : block->random.below(uint32_t(loads.size()));
  const TensorCopy copy = loads[n];
  loads.erase(loads.begin() + long(n));
  land_load(copy);
  return true;
}

// Checks both sides of a copy: the box as one access of `actor`, the tensor as accesses of the thread.
static void touch_both(const TensorCopy &copy, bool load, int actor, const char *name, const void *place) {
  Clocks *clocks = block->clocks;
  if (!clocks) return;
  const Access box = {
      load ? Access::WRITE : Access::READ, name, place, actor, clocks->row(current->id), copy.moment, true, false, 1};
  clocks->touch(clocks->shared, shared_offset(copy.shared), box_bytes(copy.map), box);
  each_unit(copy, [&](uint32_t, const unsigned char *address, uint32_t bytes) {
    if (address) touch(address, bytes, load ? Access::READ : Access::WRITE, name, place);
  });
}

}  // namespace emu

using namespace emu;

extern "C" {

void emu_tensor_load(void *shared, const emu_tensor_map *map, uint64_t *address, const int *at, int rank) {
  const void *place = EMU_PLACE;
  TensorCopy copy = {*map, (unsigned char *)shared, {}, shared_offset(address), 0};
  std::copy_n(at, rank, copy.at);
  check_copy(copy, rank, "a bulk load", place);
  Mbarrier &barrier = mbarrier_at(address, place);
  if (!barrier.fenced)
    found(PROXY, place, nullptr, "a bulk load with an mbarrier whose initialisation no fence.mbarrier_init followed");
  copy.moment = ++barrier.copies;
  barrier.last_copy = place;
  touch_both(copy, true, copies_of(barrier.number), "a bulk load", place);
  const Schedule::Copies when = block->launch.schedule.copies;
  if (when == Schedule::EARLY)
    land_load(copy);
  else
    block->async->loads.push_back(copy);
}

void emu_tensor_store(const emu_tensor_map *map, const void *shared, const int *at, int rank) {
  const void *place = EMU_PLACE;
  TensorCopy copy = {*map, (unsigned char *)shared, {}, 0, 0};
  std::copy_n(at, rank, copy.at);
  check_copy(copy, rank, "a bulk store", place);
  copy.moment = ++block->async->stores;
  touch_both(copy, false, store_actor(), "a bulk store", place);
  if (block->launch.schedule.copies == Schedule::EARLY) land_store(copy);
  current->stores.push_back(copy);
}

void emu_bulk_commit() {
  current->store_groups.emplace_back();
  current->store_groups.back().swap(current->stores);
}

void emu_bulk_wait(int groups) {
  Thread &me = *current;
  while (int(me.store_groups.size()) > groups) {
    for (const TensorCopy &copy : me.store_groups.front()) {
      if (block->launch.schedule.copies != Schedule::EARLY) land_store(copy);
      if (block->clocks) {
        uint32_t &seen = block->clocks->row(me.id)[store_actor()];
        seen = std::max(seen, copy.moment);
      }
    }
    me.store_groups.pop_front();
  }
}
}
