// __syncthreads and the named barriers.
#include "async.h"

namespace emu {

static const char *name(int id) { return id ? "a named barrier" : "__syncthreads"; }

// Lets all go on. Warps come whole: the lanes of a warp that have not exited are all there, or none is.
static void complete(int id, const void *place) {
  Barrier &barrier = block->barriers[id];
  for (const Warp &warp : block->warps) {
    const int w = int(&warp - block->warps.data());
    if (barrier.lanes[w] && (warp.live & ~barrier.lanes[w]))
      found(DIVERGENCE, place, block->threads[w * WARP + __builtin_ctz(warp.live & ~barrier.lanes[w])].place,
            "%s (%d) is complete with a part of warp %d: lanes %08x, not %08x", name(id), id, w, barrier.lanes[w],
            warp.live);
  }
  for (int t : barrier.waiting) {
    if (block->clocks) {
      block->clocks->join(block->clocks->row(t), barrier.clock.data());
      block->clocks->advance(t);
    }
    if (t != current->id) block->make_ready(t);
  }
  barrier = Barrier();
}

// CUDA asks that all threads of a block reach each __syncthreads, or none does.
void thread_exited() {
  Barrier &barrier = block->barriers[0];
  if (!barrier.arrived || barrier.expected) return;
  fail(DIVERGENCE, block->threads[size_t(barrier.waiting[0])].place, nullptr,
       "thread %d exits while %d threads wait in __syncthreads, the first of them thread %d", current->id,
       barrier.arrived, barrier.waiting[0]);
}

}  // namespace emu

using namespace emu;

extern "C" void emu_barrier(int id, int threads, int waits) {
  const void *place = EMU_PLACE;
  Thread &me = *current;
  me.place = place;
  if (id < 0 || id >= BARRIERS) fail(MISUSE, place, nullptr, "barrier %d: there are 0 to 15", id);
  if (threads % WARP || threads < 0 || threads > block->count)
    fail(MISUSE, place, nullptr, "barrier %d for %d threads: expected whole warps of a block of %d", id, threads,
         block->count);
  if (threads == 0 && block->live < block->count)
    fail(DIVERGENCE, place, nullptr, "__syncthreads after %d threads have exited", block->count - block->live);
  Barrier &barrier = block->barriers[id];
  if (barrier.arrived && barrier.expected != threads)
    fail(MISUSE, place, nullptr, "barrier %d for %d threads, while others wait in it for %d", id, threads,
         barrier.expected);
  if (barrier.lanes[me.warp] >> me.lane & 1)
    fail(MISUSE, place, nullptr, "thread %d arrives twice at barrier %d", me.id, id);
  barrier.expected = threads;
  barrier.arrived++;
  barrier.lanes[me.warp] |= 1u << me.lane;
  if (waits) barrier.waiting.push_back(me.id);
  if (block->clocks) {
    block->clocks->join(barrier.clock, block->clocks->row(me.id));
    if (!waits) block->clocks->advance(me.id);
  }
  if (barrier.arrived == (threads ? threads : block->count))
    complete(id, place);
  else if (waits)
    wait(name(id));
}
