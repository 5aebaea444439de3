// What goes on beside the threads: mbarriers, bulk copies of tensors (TMA), products of warpgroups (wgmma).
#pragma once
#include <memory>

#include "clocks.h"

namespace emu {

struct Mbarrier {
  int number;         // of this block's, in the order of initialisation
  uint32_t arrivals;  // that a phase takes
  uint32_t pending;   // still to come in this phase
  int64_t bytes = 0;  // expected and not yet copied
  uint64_t phase = 0;
  std::vector<int> waiting;
  std::vector<uint32_t> arriving, completed;  // clocks: of those who arrived in this phase, of all phases before
  uint32_t copies = 0;                        // moments of the actor of its copies
  const void *last_copy = nullptr;
  int initialiser;
  uint32_t initialised_at;
  bool fenced = false;  // fence.mbarrier_init came after
};

struct Product {  // one wgmma
  emu_wgmma_shape shape;
  uint64_t a, b;  // descriptors
  uint32_t words[WARPGROUP][4];
  float *registers[WARPGROUP];
  uint32_t moment;
  bool done = false;
};

typedef std::vector<float> Accumulator;  // what products make until they are waited for: 64 rows

struct Warpgroup {
  uint32_t arrived[4] = {};
  const char *operation = nullptr;
  void *slot[WARPGROUP];
  std::vector<Product> open;
  std::deque<std::vector<Product>> groups;
  std::unordered_map<float *, Accumulator> accumulators;  // by the registers of the first thread
  bool fenced = false;
  uint32_t moment = 0;
};

struct Async {
  std::unordered_map<uint32_t, Mbarrier> mbarriers;
  std::vector<TensorCopy> loads;
  std::vector<Warpgroup> warpgroups;
  uint32_t stores = 0;  // moments of the actor of bulk stores

  void start();
  bool land_one();  // one load ends; false where none is under way
  void finish();    // the block's end: what is still under way is a finding
};

void land_store(const TensorCopy &store);
void arrive(Mbarrier &barrier);  // one of its phase's events came: the phase may be complete
Mbarrier &mbarrier_at(const uint64_t *address, const void *place);

inline int store_actor() { return block->count + MBARRIERS + int(block->warps.size()); }

void thread_exited();

}  // namespace emu
