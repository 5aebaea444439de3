// Blocks, one after another: threads enter the kernel, exit, or stand still for ever.
#include "block.h"
#include "clocks.h"
#include "async.h"

namespace emu {

static int lowest(uint32_t bits) { return __builtin_ctz(bits); }

// One of the bits, not quite uniformly: the first at or after a random place.
static int any(uint32_t bits, Random &random) {
  const uint32_t by = random.next() % 32, turned = by ? bits >> by | bits << (32 - by) : bits;
  return (lowest(turned) + int(by)) % 32;
}

// Who runs next, null when nobody can. In order, a warp runs on as long as it can, then the one after it.
Thread *Block::next() {
  const Schedule &schedule = launch.schedule;
  if (schedule.copies == Schedule::EITHER && random.below(8) == 0) async->land_one();
  while (!ready_warps)
    if (!async->land_one()) return nullptr;
  int chosen;
  if (schedule.order == Schedule::RANDOM) {
    chosen = any(ready_warps, random);
  } else if (schedule.order == Schedule::PRIORITIES) {
    chosen = lowest(ready_warps);
  } else {
    const uint32_t from_here = ready_warps >> running_rank << running_rank;
    chosen = lowest(from_here ? from_here : ready_warps);
  }
  running_rank = chosen;
  Warp &warp = warps[by_rank[chosen]];
  const int lane = schedule.order == Schedule::IN_ORDER ? lowest(warp.ready) : any(warp.ready, random);
  warp.ready &= ~(1u << lane);
  if (!warp.ready) ready_warps &= ~(1u << chosen);
  return &threads[by_rank[chosen] * WARP + lane];
}

// Where every fiber begins.
static void entry() {
  block->launch.run(block->launch.context);
  Thread &me = *current;
  me.exited = true;
  block->live--;
  block->warps[me.warp].live &= ~(1u << me.lane);
  for (const auto &group : me.groups) me.copies.insert(me.copies.end(), group.begin(), group.end());
  if (!me.copies.empty()) found(ASYNC, me.place, nullptr, "a thread exits while copies of cp.async are under way");
  if (!me.stores.empty() || !me.store_groups.empty())
    found(ASYNC, me.place, nullptr, "a thread exits while its bulk stores are under way");
  thread_exited();
  if (block->live == 0) to_host();
  Thread *next = block->next();
  if (!next) deadlock(), give_up();
  next->waits_in = nullptr;
  current = next;
  emu_switch(&me.saved, next->saved);
  abort();
}

void deadlock() {
  struct Group {
    const char *operation;
    const void *place;
    int count, first;
  };
  std::vector<Group> groups;
  int exited = 0;
  for (const Thread &t : block->threads) {
    if (t.exited) {
      exited++;
      continue;
    }
    auto same = [&](const Group &g) { return g.operation == t.waits_in && g.place == t.place; };
    auto at = std::find_if(groups.begin(), groups.end(), same);
    if (at == groups.end())
      groups.push_back({t.waits_in, t.place, 1, t.id});
    else
      at->count++;
  }
  std::string text = "no thread can go on: ";
  for (size_t n = 0; n < groups.size() && n < 6; n++) {
    const Group &g = groups[n];
    char line[160];
    snprintf(line, sizeof line, "%s%d %s in %s (the first is thread %d)", n ? ", " : "", g.count,
             g.count == 1 ? "waits" : "wait", g.operation ? g.operation : "?", g.first);
    text += line;
  }
  if (exited) text += ", " + std::to_string(exited) + " have exited";
  found(DEADLOCK, groups.empty() ? nullptr : groups[0].place, groups.size() > 1 ? groups[1].place : nullptr, "%s",
        text.c_str());
}

void Block::start(emu_index at, uint32_t number) {
  const emu_index size = launch.block_size;
  index = at;
  serial = number;
  random = Random(launch.schedule.seed * 1000003u + number);
  count = live = int(size.x * size.y * size.z);
  dead = false;
  const int warp_count = (count + WARP - 1) / WARP;
  std::fill_n((uint16_t *)shared, (launch.shared_bytes + 1) / 2, POISON);
  for (Barrier &barrier : barriers) barrier = Barrier();
  warps.assign(size_t(warp_count), Warp());
  rank.resize(size_t(warp_count));
  for (int w = 0; w < warp_count; w++) rank[w] = w;
  if (launch.schedule.order == Schedule::PRIORITIES)
    for (int w = warp_count - 1; w > 0; w--) std::swap(rank[w], rank[random.below(uint32_t(w) + 1)]);
  by_rank = rank;
  for (int w = 0; w < warp_count; w++) by_rank[rank[w]] = w;
  ready_warps = 0, running_rank = 0;
  threads.resize(size_t(count));
  for (int id = 0; id < count; id++) {
    Thread &t = threads[id];
    t.id = id, t.warp = id / WARP, t.lane = id % WARP;
    t.index = {unsigned(id) % size.x, unsigned(id) / size.x % size.y, unsigned(id) / (size.x * size.y)};
    t.exited = false, t.waits_in = "the kernel's start", t.place = nullptr, t.fenced = 0;
    t.copies.clear(), t.groups.clear(), t.in_flight.clear(), t.stores.clear(), t.store_groups.clear();
    t.stack = stacks.bottom(size_t(id));
    t.saved = stacks.begin(size_t(id), entry);
    warps[t.warp].live |= 1u << t.lane;
    make_ready(id);
  }
  async->start();
  if (clocks) clocks->start();
}

void Block::run(emu_index at, uint32_t number) {
  block = this;
  start(at, number);
  current = next();
  current->waits_in = nullptr;
  emu_switch(&host_stack, current->saved);
  current = nullptr;
  if (!dead) async->finish();
}

}  // namespace emu
