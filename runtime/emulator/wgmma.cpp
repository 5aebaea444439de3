// Products of a warpgroup, d += a b with d of 64 rows in registers, a in registers or shared memory, b in shared
// memory. They are done when they are waited for, or at once, as the schedule has it; until then the registers hold
// NaN.
#include "async.h"

namespace emu {

// Where matrices lie, from descriptors: the PTX manual's "matrix descriptor" and its canonical layouts. A unit is 16
// bytes, 8 elements. Row means along m or n. K-major: 8 rows of `span` bytes follow each other, groups of 8 rows lie
// `stride` apart, units along k follow each other (without a swizzle they lie `leading` apart). Transposed: `span`
// bytes of rows follow each other, the next such lie `leading` apart (without a swizzle `stride`); k steps by span,
// groups of 8 by `stride` (`leading`).
struct Operand {
  uint32_t start, leading, stride, swizzle;  // bytes
  bool transposed;

  Operand(uint64_t descriptor, bool transpose) : transposed(transpose) {
    static const uint32_t swizzles[] = {0, 128, 64, 32};
    start = uint32_t(descriptor & 0x3fff) << 4;
    leading = uint32_t(descriptor >> 16 & 0x3fff) << 4;
    stride = uint32_t(descriptor >> 32 & 0x3fff) << 4;
    swizzle = swizzles[descriptor >> 62];
  }

  // Of the unit that holds element (row, k): 8 elements along k, or along the rows where it is transposed.
  uint32_t unit(int row, int k) const {
    const uint32_t r = uint32_t(row), j = uint32_t(k), span = swizzle ? swizzle : 16;
    uint32_t at = start;
    if (!transposed) {
      at += r % 8 * span + r / 8 * stride + j / 8 * (swizzle ? 16 : leading);
    } else {
      const uint32_t bytes = r / 8 * 16;
      at += bytes % span + bytes / span * (swizzle ? leading : stride) + j % 8 * span +
            j / 8 * (swizzle ? stride : leading);
    }
    return swizzled(at, swizzle);
  }
  uint32_t element(int row, int k) const { return unit(row, k) + uint32_t(transposed ? row % 8 : k % 8) * 2; }

  // Calls f(offset, row) for each unit of `rows` rows and 16 along k.
  template <class F> void each(int rows, F f) const {
    if (transposed)
      for (int k = 0; k < 16; k++)
        for (int row = 0; row < rows; row += 8) f(unit(row, k), row);
    else
      for (int row = 0; row < rows; row++)
        for (int k = 0; k < 16; k += 8) f(unit(row, k), row);
  }
};

static float number(int element, uint32_t bits) {
  return element == EMU_BF16 ? widened<EMU_BF16>(bits & 0xffffu) : widened<EMU_F16>(bits & 0xffffu);
}

static float at(const Product &product, uint32_t offset) {
  uint16_t bits;
  memcpy(&bits, block->shared + offset, sizeof bits);
  return number(product.shape.element, bits);
}

// The register of row, column: its thread in the warpgroup and its number there.
static int thread_of(int row, int column) { return row / 16 * WARP + row % 8 * 4 + column % 8 / 2; }
static int register_of(int row, int column) { return column / 8 * 4 + row % 16 / 8 * 2 + column % 2; }

static void multiply(Product &product, Accumulator &accumulator) {
  const emu_wgmma_shape &shape = product.shape;
  float a[64][16], b[16][256];
  const Operand first(product.a, shape.transpose_a), second(product.b, shape.transpose_b);
  for (int row = 0; row < 64; row++)
    for (int k = 0; k < 16; k++) {
      if (!shape.from_registers) {
        a[row][k] = at(product, first.element(row, k));
        continue;
      }
      const uint32_t word = product.words[thread_of(row, k)][row % 16 / 8 + k / 8 * 2];
      a[row][k] = number(shape.element, word >> k % 2 * 16);
    }
  for (int k = 0; k < 16; k++)
    for (int column = 0; column < shape.columns; column++) b[k][column] = at(product, second.element(column, k));
  for (int row = 0; row < 64; row++) {
    float *d = &accumulator[size_t(row * shape.columns)];
    if (!shape.accumulate) std::fill_n(d, shape.columns, 0.0f);
    for (int k = 0; k < 16; k++)
      for (int column = 0; column < shape.columns; column++) d[column] += a[row][k] * b[k][column];
  }
  product.done = true;
}

// `all` runs once, when the 128 threads have come.
template <class All> static void together_128(const char *operation, void *slot, const void *place, All all) {
  Thread &me = *current;
  me.place = place;
  const int index = me.id / WARPGROUP, first = index * WARPGROUP;
  Warpgroup &group = block->async->warpgroups[size_t(index)];
  if (first + WARPGROUP > block->count) fail(MISUSE, place, nullptr, "%s in a warpgroup that is not whole", operation);
  for (int t = first; t < first + WARPGROUP; t++)
    if (block->threads[size_t(t)].exited)
      fail(DIVERGENCE, place, nullptr, "%s waits for thread %d, which has exited", operation, t);
  const bool any = group.arrived[0] | group.arrived[1] | group.arrived[2] | group.arrived[3];
  if (any && group.operation != operation)
    fail(DIVERGENCE, place, nullptr, "warpgroup %d diverges: thread %d is in %s, others in %s", index, me.id, operation,
         group.operation);
  group.operation = operation;
  group.slot[me.id - first] = slot;
  group.arrived[(me.id - first) / WARP] |= 1u << me.lane;
  for (uint32_t lanes : group.arrived)
    if (lanes != ALL) return wait(operation);
  all(group, index);
  for (uint32_t &lanes : group.arrived) lanes = 0;
  for (int t = first; t < first + WARPGROUP; t++)
    if (t != me.id) block->make_ready(t);
}

// Each warp reads its own 16 rows of a and all of b, and knows of no other warp's reads when it has waited.
static void check_operand(uint64_t descriptor, bool transposed, int rows, bool shared_by_warps, int warpgroup,
                          const std::vector<uint32_t> &seen, const char *name, const void *place) {
  const Operand operand(descriptor, transposed);
  if (operand.swizzle && (operand.start >> 7 & (operand.swizzle / 16 - 1)))
    fail(MISUSE, place, nullptr, "%s begins within the pattern of its swizzle of %u bytes", name, operand.swizzle);
  operand.each(rows, [&](uint32_t offset, int row) {
    if (offset + 16 > block->launch.shared_bytes)
      fail(BOUNDS, place, nullptr, "%s reaches shared memory + %u, of which there are %u bytes", name, offset + 16,
           block->launch.shared_bytes);
    if (!block->clocks) return;
    const uint32_t moment = block->async->warpgroups[size_t(warpgroup)].moment;
    const int warp = 4 * warpgroup + (shared_by_warps ? 0 : row / 16);
    const uint8_t warps = shared_by_warps ? 4 : 1;
    const Access access = {Access::READ, name, place, wgmma_of(warp), seen.data(), moment, true, false, warps};
    block->clocks->touch(block->clocks->shared, offset, 16, access);
  });
}

// What all threads of the warpgroup have seen.
static std::vector<uint32_t> seen_by_all(int warpgroup) {
  Clocks *clocks = block->clocks;
  if (!clocks) return {};
  const uint32_t *row = clocks->row(warpgroup * WARPGROUP);
  std::vector<uint32_t> seen(row, row + clocks->actors);
  for (int t = 1; t < WARPGROUP; t++) {
    row = clocks->row(warpgroup * WARPGROUP + t);
    for (int k = 0; k < clocks->actors; k++) seen[size_t(k)] = std::min(seen[size_t(k)], row[k]);
  }
  return seen;
}

struct Issue {
  float *d;
  const uint32_t *words;
  uint64_t a, b;
};

static void issue(Warpgroup &group, int index, const emu_wgmma_shape &shape, const void *place) {
  if (!group.fenced) found(PROXY, place, nullptr, "wgmma with no wgmma.fence since its registers were last used");
  group.open.emplace_back();
  Product &product = group.open.back();
  const Issue &first = *(const Issue *)group.slot[0];
  product.shape = shape, product.a = first.a, product.b = first.b;
  product.moment = ++group.moment;
  const size_t values = size_t(64 * shape.columns);
  Accumulator &accumulator = group.accumulators[first.d];
  const bool fresh = accumulator.empty();
  if (fresh) accumulator.resize(values);
  if (accumulator.size() != values) fail(MISUSE, place, nullptr, "wgmma of another shape on registers under way");
  for (int t = 0; t < WARPGROUP; t++) {
    const Issue &part = *(const Issue *)group.slot[t];
    if (part.b != first.b || (!shape.from_registers && part.a != first.a))
      fail(DIVERGENCE, place, nullptr, "the threads of a warpgroup give wgmma different descriptors");
    product.registers[t] = part.d;
    if (shape.from_registers) {
      std::copy_n(part.words, 4, product.words[t]);
      if (block->clocks && std::any_of(part.words, part.words + 4, unset))
        found(UNWRITTEN, place, nullptr, "wgmma with a fragment that was never set");
    }
    Thread &thread = block->threads[size_t(index * WARPGROUP + t)];
    if (fresh) thread.in_flight.push_back({(uintptr_t)part.d, (uintptr_t)(part.d + shape.columns / 2), true, 0, place});
    if (shape.from_registers)
      thread.in_flight.push_back({(uintptr_t)part.words, (uintptr_t)(part.words + 4), false, group.moment, place});
  }
  if (fresh)
    for (int row = 0; row < 64; row++)
      for (int column = 0; column < shape.columns; column++) {
        float &held = product.registers[thread_of(row, column)][register_of(row, column)];
        if (block->clocks && shape.accumulate && unset(__builtin_bit_cast(uint32_t, held)))
          found(UNWRITTEN, place, nullptr, "wgmma adds to registers that were never set");
        accumulator[size_t(row * shape.columns + column)] = held;
        held = __builtin_nanf("");
      }
  const std::vector<uint32_t> seen = seen_by_all(index);
  if (!shape.from_registers)
    check_operand(first.a, shape.transpose_a, 64, false, index, seen, "wgmma's operand a", place);
  check_operand(first.b, shape.transpose_b, shape.columns, true, index, seen, "wgmma's operand b", place);
  const Schedule::Copies when = block->launch.schedule.copies;
  if (when == Schedule::EARLY || (when == Schedule::EITHER && block->random.below(2))) {
    for (const auto &waiting : group.groups)
      for (const Product &earlier : waiting)
        if (!earlier.done) return;  // in order
    for (const Product &earlier : group.open)
      if (!earlier.done && &earlier != &product) return;
    multiply(product, accumulator);
  }
}

// The registers hold their values again where no later product is under way on them.
static void retire(Warpgroup &group, int index, const std::vector<Product> &products) {
  for (const Product &product : products) {
    const auto found_at = group.accumulators.find(product.registers[0]);
    if (found_at == group.accumulators.end()) continue;
    auto uses = [&](const std::vector<Product> &others) {
      return std::any_of(others.begin(), others.end(),
                         [&](const Product &p) { return p.registers[0] == product.registers[0]; });
    };
    if (std::any_of(group.groups.begin(), group.groups.end(), uses) || uses(group.open)) continue;
    for (int row = 0; row < 64; row++)
      for (int column = 0; column < product.shape.columns; column++)
        product.registers[thread_of(row, column)][register_of(row, column)] =
            found_at->second[size_t(row * product.shape.columns + column)];
    group.accumulators.erase(found_at);
  }
  for (const Product &product : products)
    for (int t = 0; t < WARPGROUP; t++) {
      std::vector<Registers> &in_flight = block->threads[size_t(index * WARPGROUP + t)].in_flight;
      const uintptr_t d = (uintptr_t)product.registers[t];
      const bool free = !group.accumulators.count(product.registers[0]);
      auto is_done = [&](const Registers &r) { return r.written ? free && r.begin == d : r.product == product.moment; };
      in_flight.erase(std::remove_if(in_flight.begin(), in_flight.end(), is_done), in_flight.end());
    }
}

}  // namespace emu

using namespace emu;

extern "C" {

void emu_wgmma(const emu_wgmma_shape *shape, float *d, const uint32_t *words, uint64_t a, uint64_t b) {
  const void *place = EMU_PLACE;
  Issue part = {d, words, a, b};
  static const char *const names[] = {"wgmma of bf16", "wgmma of f16"};
  const emu_wgmma_shape mine = *shape;
  together_128(names[mine.element], &part, place,
               [&](Warpgroup &group, int index) { issue(group, index, mine, place); });
}

void emu_wgmma_fence() {
  together_128("wgmma.fence", nullptr, EMU_PLACE, [](Warpgroup &group, int) { group.fenced = true; });
}

void emu_wgmma_commit() {
  together_128("wgmma.commit_group", nullptr, EMU_PLACE, [](Warpgroup &group, int) {
    group.groups.emplace_back();
    group.groups.back().swap(group.open);
  });
}

void emu_wgmma_wait(int groups) {
  together_128("wgmma.wait_group", nullptr, EMU_PLACE, [&](Warpgroup &group, int index) {
    group.fenced = false;
    while (int(group.groups.size()) > groups) {
      std::vector<Product> products;
      products.swap(group.groups.front());
      group.groups.pop_front();
      for (Product &product : products)
        if (!product.done) multiply(product, group.accumulators.at(product.registers[0]));
      retire(group, index, products);
    }
    if (!block->clocks) return;
    uint32_t left = 0;  // moments of products that are still under way
    for (const auto &waiting : group.groups) left += uint32_t(waiting.size());
    left += uint32_t(group.open.size());
    for (int t = index * WARPGROUP; t < (index + 1) * WARPGROUP; t++) {
      uint32_t &seen = block->clocks->row(t)[wgmma_of(t / WARP)];
      seen = std::max(seen, group.moment - left);
    }
  });
}
}

namespace emu {

void Async::start() {
  mbarriers.clear(), loads.clear(), warpgroups.clear();
  warpgroups.resize(size_t((block->count + WARPGROUP - 1) / WARPGROUP));
  stores = 0;
}

void Async::finish() {
  for (const Warpgroup &group : warpgroups)
    if (!group.open.empty() || !group.groups.empty()) {
      found(ASYNC, block->threads[size_t(&group - warpgroups.data()) * WARPGROUP].place, nullptr,
            "a block ends while its wgmma is under way");
      return;
    }
  for (const auto &entry : mbarriers) {
    const Mbarrier &barrier = entry.second;
    bool awaited = barrier.copies == 0;
    for (int t = 0; t < block->count && block->clocks && !awaited; t++)
      awaited = block->clocks->row(t)[copies_of(barrier.number)] >= barrier.copies;
    if (block->clocks ? !awaited : barrier.bytes != 0)
      found(ASYNC, barrier.last_copy, nullptr, "a block ends, and no thread has waited for a bulk load");
  }
}

}  // namespace emu
