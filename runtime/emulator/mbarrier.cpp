// mbarriers: a phase ends when all its arrivals have come and all the bytes that they announced have been copied.
#include "async.h"

namespace emu {

Mbarrier &mbarrier_at(const uint64_t *address, const void *place) {
  auto &all = block->async->mbarriers;
  const auto at = in_shared(address) ? all.find(shared_offset(address)) : all.end();
  if (at == all.end()) fail(MISUSE, place, nullptr, "an mbarrier that was never initialised");
  Mbarrier &barrier = at->second;
  if (!block->clocks) return barrier;
  if (barrier.initialised_at > block->clocks->row(current->id)[barrier.initialiser] &&
      barrier.initialiser != current->id)
    found(RACE, place, nullptr, "an mbarrier is used before its initialisation by thread %d is ordered",
          barrier.initialiser);
  const Cell &cell = block->clocks->shared.words[shared_offset(address) / 4];
  if (cell.writer != barrier.initialiser || cell.write_clock != barrier.initialised_at || cell.block != block->serial)
    fail(MISUSE, place, nullptr, "the mbarrier at shared memory + %u was overwritten", shared_offset(address));
  return barrier;
}

void arrive(Mbarrier &barrier) {
  if (barrier.pending || barrier.bytes) return;
  barrier.phase++;
  barrier.pending = barrier.arrivals;
  if (block->clocks && !barrier.arriving.empty()) block->clocks->join(barrier.completed, barrier.arriving.data());
  barrier.arriving.clear();
  for (int t : barrier.waiting) block->make_ready(t);
  barrier.waiting.clear();
}

}  // namespace emu

using namespace emu;

extern "C" {

void emu_mbarrier_init(uint64_t *address, uint32_t arrivals) {
  const void *place = EMU_PLACE;
  current->place = place;
  if (!in_shared(address) || (uintptr_t)address % 8)
    fail(MISUSE, place, nullptr, "an mbarrier not on 8 bytes of shared memory");
  if (arrivals == 0 || arrivals >= 1u << 20) fail(MISUSE, place, nullptr, "an mbarrier for %u arrivals", arrivals);
  touch(address, 8, Access::WRITE, "mbarrier.init", place);
  auto &all = block->async->mbarriers;
  const uint32_t key = shared_offset(address);
  const auto old = all.find(key);
  if (old != all.end() && (!old->second.waiting.empty() || old->second.bytes))
    fail(MISUSE, place, nullptr, "an mbarrier is initialised while it is in use");
  Mbarrier fresh;
  fresh.number = old != all.end() ? old->second.number : int(all.size());
  fresh.copies = old != all.end() ? old->second.copies : 0;
  fresh.arrivals = fresh.pending = arrivals;
  fresh.initialiser = current->id;
  fresh.initialised_at = block->clocks ? block->clocks->now(current->id) : 0;
  all[key] = fresh;
}

void emu_mbarrier_fence_init() {
  for (auto &entry : block->async->mbarriers)
    if (entry.second.initialiser == current->id) entry.second.fenced = true;
}

void emu_mbarrier_arrive(uint64_t *address, uint32_t expected_bytes) {
  const void *place = EMU_PLACE;
  current->place = place;
  Mbarrier &barrier = mbarrier_at(address, place);
  if (barrier.pending == 0)
    fail(MISUSE, place, nullptr, "more arrivals at an mbarrier than its phase takes, %u", barrier.arrivals);
  if (expected_bytes >= 1u << 20)
    fail(MISUSE, place, nullptr, "an mbarrier expects %u bytes, more than it can count", expected_bytes);
  if (block->clocks) {
    block->clocks->join(barrier.arriving, block->clocks->row(current->id));
    block->clocks->advance(current->id);
  }
  barrier.pending--;
  barrier.bytes += expected_bytes;
  arrive(barrier);
}

void emu_mbarrier_wait(uint64_t *address, uint32_t parity) {
  current->place = EMU_PLACE;
  if (parity > 1) fail(MISUSE, EMU_PLACE, nullptr, "an mbarrier's parity is 0 or 1, not %u", parity);
  Mbarrier &barrier = mbarrier_at(address, EMU_PLACE);
  while (barrier.phase % 2 == parity) {
    barrier.waiting.push_back(current->id);
    wait("an mbarrier's wait");
  }
  if (block->clocks && !barrier.completed.empty())
    block->clocks->join(block->clocks->row(current->id), barrier.completed.data());
}

void emu_fence_proxy_async() {
  if (!block->clocks) return;
  current->fenced = block->clocks->now(current->id);
  block->clocks->advance(current->id);
}
}
