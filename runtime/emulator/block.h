// A block on a host thread: its threads, who is ready, who runs next.
#pragma once
#include <string.h>

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <vector>

#include "abi.h"
#include "fiber.h"
#include "findings.h"

namespace emu {

constexpr int WARP = 32, BARRIERS = 16, MAX_THREADS = 1024;
constexpr uint32_t SHARED_ROOM = 256 << 10;  // bytes; a launch may ask for 227 KiB
constexpr uint16_t POISON = 0x7fa0;          // a signalling NaN of bf16 and, doubled, of float; NaN of f16

// How threads are chosen, and when asynchronous copies land. Any order here is one that a device may take.
struct Schedule {
  enum Order { IN_ORDER, RANDOM, PRIORITIES } order = IN_ORDER;  // PRIORITIES: a warp runs as long as it can
  enum Copies { LATE, EARLY, EITHER } copies = LATE;
  uint64_t seed = 0;
};

struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull) {}
  uint32_t next() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return uint32_t(state >> 16);
  }
  uint32_t below(uint32_t n) { return uint32_t(uint64_t(next()) * n >> 32); }
};

struct Copy {  // of cp.async
  void *shared;
  const void *global;  // null: done already
  int size, bytes;
};

struct Registers {  // local memory that stands for registers which a product reads or writes
  uintptr_t begin, end;
  bool written;
  uint32_t product;  // of what is read alone: the moment of the product
  const void *place;
};

struct TensorCopy {    // a bulk copy, one way or the other
  emu_tensor_map map;  // a copy: the thread whose parameter it is may exit before
  unsigned char *shared;
  int at[5];
  uint32_t barrier;  // of a load: its mbarrier's place in shared memory
  uint32_t moment;   // of the actor that copies
};

struct Thread {
  int id, warp, lane;
  emu_index index;
  char *stack;
  void *saved;  // the stack pointer while it does not run
  bool exited;
  const char *waits_in;                  // null: it can run
  const void *place;                     // the return address of its latest call into the emulator
  std::vector<Copy> copies;              // not committed
  std::deque<std::vector<Copy>> groups;  // committed, the oldest first
  uint32_t fenced;                       // its clock at its last fence.proxy.async
  std::vector<Registers> in_flight;      // of wgmma operations
  std::vector<TensorCopy> stores;        // of bulk copies, not committed
  std::deque<std::vector<TensorCopy>> store_groups;
};

struct Barrier {
  int expected = 0, arrived = 0;  // expected = 0: all of the block
  uint32_t lanes[WARP] = {};      // who has arrived, by warp
  std::vector<int> waiting;
  std::vector<uint32_t> clock;  // what those who arrived have done
};

struct Warp {
  uint32_t ready, live;            // lanes
  uint32_t arrived = 0, mask = 0;  // of the collective operation under way
  const char *operation = nullptr;
  void *slot[WARP];
};

struct Launch;
struct Clocks;
struct Async;

struct Block {
  Launch &launch;
  Random random{0};
  emu_index index;
  int count, live;  // threads
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  uint32_t ready_warps;            // bits by rank: the order in which PRIORITIES prefers them
  std::vector<int> rank, by_rank;  // of warps, and the reverse
  int running_rank;
  Barrier barriers[BARRIERS];
  unsigned char *shared;  // SHARED_ROOM bytes
  Stacks stacks;
  void *host_stack = nullptr;  // where the launch goes on
  bool dead = false;           // given up: its fibers are not entered again
  uint32_t serial = 0;         // counts blocks of this launch, from 1
  Clocks *clocks = nullptr;    // null: unchecked
  Async *async = nullptr;

  explicit Block(Launch &l) : launch(l) { shared = (unsigned char *)aligned_alloc(1024, SHARED_ROOM); }
  ~Block() { free(shared); }
  Block(const Block &) = delete;

  void start(emu_index at, uint32_t number);
  void run(emu_index at, uint32_t number);
  Thread *next();
  void make_ready(int thread) {
    Warp &warp = warps[thread / WARP];
    warp.ready |= 1u << thread % WARP;
    ready_warps |= 1u << rank[thread / WARP];
  }
};

// The emulator is one translation unit: these are its only globals besides the launch.
static __thread Block *block;
static __thread Thread *current;

struct Range {  // global memory that the kernel may use
  uintptr_t begin, end;
  bool writable;
  int argument;  // its number, or -1 - that of the buffer
  struct Space *shadow;
};

struct Launch {
  Findings findings;
  Schedule schedule;
  bool checked = false;
  emu_index grid, block_size;
  uint32_t shared_bytes;
  void (*run)(void *);
  void *context;
  std::vector<Range> ranges;
};

inline void add_finding(const char *kind, const void *place, const void *other, const char *text, va_list arguments) {
  const emu_index &at = block->index;
  const int thread = current ? current->id : -1;
  block->launch.findings.add({kind, format(text, arguments), {at.x, at.y, at.z}, thread, {place, other}});
}

__attribute__((format(printf, 4, 5))) inline void found(const char *kind, const void *place, const void *other,
                                                        const char *text, ...) {
  va_list arguments;
  va_start(arguments, text);
  add_finding(kind, place, other, text, arguments);
  va_end(arguments);
}

inline void to_host() { emu_switch(&current->saved, block->host_stack); }

[[noreturn]] inline void give_up() {
  block->dead = true;
  to_host();
  abort();
}

// A finding that leaves no way to go on.
[[noreturn]] __attribute__((format(printf, 4, 5))) inline void fail(const char *kind, const void *place,
                                                                    const void *other, const char *text, ...) {
  va_list arguments;
  va_start(arguments, text);
  add_finding(kind, place, other, text, arguments);
  va_end(arguments);
  give_up();
}

void deadlock();

// Another thread runs until somebody makes this one ready.
inline void wait(const char *operation) {
  Thread *me = current;
  me->waits_in = operation;
  Thread *next = block->next();
  if (!next) deadlock(), give_up();
  next->waits_in = nullptr;
  if (next == me) return;
  current = next;
  emu_switch(&me->saved, next->saved);
}

}  // namespace emu

#define EMU_PLACE __builtin_return_address(0)
