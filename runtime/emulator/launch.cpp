// Launches, and what Python sees: emu_configure, emu_range, then a kernel's emu_run_…, then emu_findings. One launch at
// a time.
#include <dlfcn.h>

#include <atomic>
#include <thread>

#include "async.h"

namespace emu {

static std::vector<Range> given_ranges;
static Schedule given_schedule;
static bool given_check;
static int given_workers = 1;
static std::string report;

static emu_index nth_block(const emu_index &grid, uint64_t n) {
  return {unsigned(n % grid.x), unsigned(n / grid.x % grid.y), unsigned(n / (uint64_t(grid.x) * grid.y))};
}

// The blocks in the order of the schedule, each taken by the next worker that is free.
struct Queue {
  std::vector<uint32_t> order;
  std::atomic<size_t> next{0};

  Queue(uint64_t count, const Schedule &schedule) : order(count) {
    for (size_t n = 0; n < count; n++) order[n] = uint32_t(n);
    Random random(schedule.seed);
    if (schedule.order != Schedule::IN_ORDER)
      for (size_t n = count; n > 1; n--) std::swap(order[n - 1], order[random.below(uint32_t(n))]);
  }
};

static bool has_shadows(const Launch &launch, const Clocks &clocks) {
  auto lacks = [](const Range &range) { return range.shadow && !range.shadow->bytes; };
  return clocks.shared.bytes && std::none_of(launch.ranges.begin(), launch.ranges.end(), lacks);
}

static void work(Launch &launch, Queue &queue) {
  Block here(launch);
  Async async;
  here.async = &async;
  std::unique_ptr<Clocks> clocks(launch.checked ? new Clocks : nullptr);
  here.clocks = clocks.get();
  const emu_index size = launch.block_size;
  block = &here;
  here.dead = true;
  if (!here.stacks.reserve(size.x * size.y * size.z))
    found(MISUSE, nullptr, nullptr, "no memory for the stacks of %u threads", size.x * size.y * size.z);
  else if (launch.checked && !has_shadows(launch, *clocks))
    found(MISUSE, nullptr, nullptr, "no memory to check accesses in: about 50 times that of what a kernel may write");
  else
    here.dead = false;
  for (size_t n; !here.dead && (n = queue.next++) < queue.order.size();)
    here.run(nth_block(launch.grid, queue.order[n]), uint32_t(n) + 1);
  if (here.dead) queue.next = queue.order.size();
  block = nullptr;
}

// kind \t x \t y \t z \t thread \t text, then \t library \t offset for each place.
static void write_report(const Findings &findings) {
  report.clear();
  for (const Finding &f : findings.all) {
    report += std::string(f.kind) + "\t" + std::to_string(f.block[0]) + "\t" + std::to_string(f.block[1]) + "\t" +
              std::to_string(f.block[2]) + "\t" + std::to_string(f.thread) + "\t" + f.text;
    for (const void *place : f.places) {
      Dl_info library;
      if (place && dladdr(place, &library) && library.dli_fname)
        report += std::string("\t") + library.dli_fname + "\t" +
                  std::to_string((const char *)place - (const char *)library.dli_fbase);
    }
    report += "\n";
  }
}

}  // namespace emu

using namespace emu;

#pragma GCC visibility push(default)
extern "C" {

// order: Schedule::Order, copies: Schedule::Copies.
void emu_configure(int check, int order, int copies, uint64_t seed, int workers) {
  given_check = check, given_workers = check ? 1 : workers;
  given_schedule.order = Schedule::Order(order), given_schedule.copies = Schedule::Copies(copies),
  given_schedule.seed = seed;
  given_ranges.clear();
}

void emu_range(void *begin, uint64_t bytes, int writable, int argument) {
  given_ranges.push_back({(uintptr_t)begin, (uintptr_t)begin + bytes, writable != 0, argument, nullptr});
}

int emu_launch(void (*run)(void *), void *context, const unsigned *grid_and_block, uint32_t shared_bytes) {
  Launch launch;
  launch.run = run, launch.context = context, launch.checked = given_check, launch.schedule = given_schedule;
  launch.grid = {grid_and_block[0], grid_and_block[1], grid_and_block[2]};
  launch.block_size = {grid_and_block[3], grid_and_block[4], grid_and_block[5]};
  launch.shared_bytes = shared_bytes;
  launch.ranges = given_ranges;
  std::stable_sort(launch.ranges.begin(), launch.ranges.end(),
                   [](const Range &a, const Range &b) { return a.writable > b.writable; });
  std::vector<std::unique_ptr<Space>> shadows;
  if (launch.checked)
    for (Range &range : launch.ranges)
      if (range.writable) {
        shadows.push_back(std::make_unique<Space>(range.end - range.begin, false));
        shadows.back()->argument = range.argument;
        range.shadow = shadows.back().get();
      }
  Queue queue(uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z, launch.schedule);
  std::vector<std::thread> workers;
  const size_t helpers = std::min<size_t>(size_t(given_workers), queue.order.size());
  for (size_t n = 1; n < helpers; n++) workers.emplace_back([&] { work(launch, queue); });
  work(launch, queue);
  for (std::thread &worker : workers) worker.join();
  write_report(launch.findings);
  return int(launch.findings.all.size());
}

const char *emu_findings() { return report.c_str(); }
}
#pragma GCC visibility pop
