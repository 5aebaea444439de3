// What the lanes of a warp do together: each waits until the last has come, which does the work of all.
#include <math.h>

#include "clocks.h"

namespace emu {

// `slot` is this lane's part; `all` is called once with the warp, whose slots are then filled.
template <class All>
static void together(const char *operation, uint32_t mask, void *slot, const void *place, All all) {
  Thread &me = *current;
  Warp &warp = block->warps[me.warp];
  me.place = place;
  const int lanes = std::min(WARP, block->count - me.warp * WARP);
  if (lanes < WARP) mask &= (1u << lanes) - 1;
  const Thread *first = warp.arrived ? &block->threads[me.warp * WARP + __builtin_ctz(warp.arrived)] : &me;
  if (!(mask >> me.lane & 1)) {
    fail(DIVERGENCE, place, nullptr, "lane %d takes part in %s, whose mask %08x lacks it", me.lane, operation, mask);
  }
  if (mask & ~warp.live) {
    fail(DIVERGENCE, place, nullptr, "%s waits for lane %d, which has exited", operation,
         __builtin_ctz(mask & ~warp.live));
  }
  if (warp.arrived && (warp.operation != operation || warp.mask != mask)) {
    fail(DIVERGENCE, place, first->place,
         "warp %d diverges: lane %d is in %s with mask %08x, lane %d in %s with mask %08x", me.warp, me.lane, operation,
         mask, first->lane, warp.operation, warp.mask);
  }
  warp.operation = operation, warp.mask = mask;
  warp.slot[me.lane] = slot;
  warp.arrived |= 1u << me.lane;
  if (warp.arrived != mask) return wait(operation);
  all(warp);
  warp.arrived = 0;
  warp.ready |= mask & ~(1u << me.lane);
  if (warp.ready) block->ready_warps |= 1u << block->rank[me.warp];
}

template <class F> static void each(uint32_t lanes, F f) {
  for (; lanes; lanes &= lanes - 1) f(__builtin_ctz(lanes));
}

static constexpr uint32_t ALL = 0xffffffffu;

struct Shuffle {
  uint64_t value, result;
  int argument;
};

// The lane that `lane` reads from; one outside its segment is itself (PTX manual, shfl.sync).
static int source(int kind, int lane, int argument, int width) {
  const int segment = lane & -width;
  int from = lane;
  if (kind == EMU_SHUFFLE_XOR) from = lane ^ argument;
  if (kind == EMU_SHUFFLE_INDEX) from = segment + (argument & (width - 1));
  if (kind == EMU_SHUFFLE_DOWN) from = lane + argument;
  if (kind == EMU_SHUFFLE_UP) from = lane - argument;
  if (kind == EMU_SHUFFLE_XOR) return from >= segment + width ? lane : from;
  return from < segment || from >= segment + width ? lane : from;
}

template <int ELEMENT> static float widened(uint32_t bits) {
  if constexpr (ELEMENT == EMU_BF16) return __builtin_bit_cast(float, bits << 16);
  const uint32_t magnitude = bits & 0x7fffu, sign = (bits & 0x8000u) << 16;
  const float subnormal = float(magnitude) * 0x1p-24f;
  const uint32_t normal = (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
  return __builtin_bit_cast(float, sign | (magnitude < 0x400u ? __builtin_bit_cast(uint32_t, subnormal) : normal));
}

// What a checked build fills local variables with that are declared without a value.
static bool unset(uint32_t word) { return word == 0xfefefefeu; }

struct Mma {
  emu_floats d;
  emu_words a;
  uint32_t b0, b1;
};

// Sums in float, one product after another; a device rounds its sums of several products in an order of its own.
template <int K> static void multiply(const Warp &warp, const float (&a)[16][K], const float (&b)[K][8]) {
  float d[16][8];
  for (int lane = 0; lane < WARP; lane++) {
    const Mma &part = *(const Mma *)warp.slot[lane];
    const int g = lane / 4, t = lane % 4 * 2;
    d[g][t] = part.d.x[0], d[g][t + 1] = part.d.x[1], d[g + 8][t] = part.d.x[2], d[g + 8][t + 1] = part.d.x[3];
  }
  for (int row = 0; row < 16; row++) {
    float sum[8];
    memcpy(sum, d[row], sizeof sum);
    for (int k = 0; k < K; k++)
      for (int column = 0; column < 8; column++) sum[column] += a[row][k] * b[k][column];
    memcpy(d[row], sum, sizeof sum);
  }
  for (int lane = 0; lane < WARP; lane++) {
    Mma &part = *(Mma *)warp.slot[lane];
    const int g = lane / 4, t = lane % 4 * 2;
    part.d = {{d[g][t], d[g][t + 1], d[g + 8][t], d[g + 8][t + 1]}};
  }
}

static void multiply_tf32(const Warp &warp) {
  float a[16][8], b[8][8];
  auto number = [](uint32_t bits) { return __builtin_bit_cast(float, bits & ~0x1fffu); };  // the lower bits are ignored
  for (int lane = 0; lane < WARP; lane++) {
    const Mma &part = *(const Mma *)warp.slot[lane];
    const int g = lane / 4, t = lane % 4;
    for (int n = 0; n < 4; n++) a[g + n % 2 * 8][t + n / 2 * 4] = number(part.a.x[n]);
    b[t][g] = number(part.b0), b[t + 4][g] = number(part.b1);
  }
  multiply(warp, a, b);
}

template <int ELEMENT> static void multiply_halves(const Warp &warp) {
  uint32_t a_words[16][8], b_words[8][8];  // pairs along the direction that is summed; b by columns
  for (int lane = 0; lane < WARP; lane++) {
    const Mma &part = *(const Mma *)warp.slot[lane];
    const int g = lane / 4, t = lane % 4;
    for (int n = 0; n < 4; n++) a_words[g + n % 2 * 8][t + n / 2 * 4] = part.a.x[n];
    b_words[t][g] = part.b0, b_words[t + 4][g] = part.b1;
  }
  float a[16][16], b[16][8];
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 16; k++) a[row][k] = widened<ELEMENT>(a_words[row][k / 2] >> 16 * (k % 2) & 0xffffu);
  for (int k = 0; k < 16; k++)
    for (int column = 0; column < 8; column++)
      b[k][column] = widened<ELEMENT>(b_words[k / 2][column] >> 16 * (k % 2) & 0xffffu);
  multiply(warp, a, b);
}

struct Ldmatrix {
  const void *row;
  emu_words result;
};

static void load_matrices(const Warp &warp, bool transposed) {
  for (int m = 0; m < 4; m++) {
    uint16_t matrix[8][8];
    for (int row = 0; row < 8; row++) memcpy(matrix[row], ((const Ldmatrix *)warp.slot[8 * m + row])->row, 16);
    for (int lane = 0; lane < WARP; lane++) {
      const int g = lane / 4, t = lane % 4 * 2;
      const uint16_t low = transposed ? matrix[t][g] : matrix[g][t],
                     high = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
      ((Ldmatrix *)warp.slot[lane])->result.x[m] = low | uint32_t(high) << 16;
    }
  }
}

}  // namespace emu

using namespace emu;

extern "C" {

void emu_syncwarp(uint32_t mask) {
  together("__syncwarp", mask, nullptr, EMU_PLACE, [](const Warp &warp) {
    Clocks *clocks = block->clocks;
    if (!clocks) return;
    const int first = current->warp * WARP;
    std::vector<uint32_t> joined(size_t(clocks->actors), 0);
    each(warp.mask, [&](int lane) { clocks->join(joined, clocks->row(first + lane)); });
    each(warp.mask, [&](int lane) {
      std::copy(joined.begin(), joined.end(), clocks->row(first + lane));
      clocks->advance(first + lane);
    });
  });
}

uint64_t emu_shuffle(int kind, uint32_t mask, uint64_t value, int argument, int width) {
  static const char *const names[] = {"__shfl_xor_sync", "__shfl_sync", "__shfl_down_sync", "__shfl_up_sync"};
  if (width < 1 || width > WARP || (width & (width - 1))) {
    fail(MISUSE, EMU_PLACE, nullptr, "%s with width %d: expected a power of two up to 32", names[kind], width);
  }
  Shuffle part = {value, 0, argument};
  const void *place = EMU_PLACE;
  together(names[kind], mask, &part, place, [&](const Warp &warp) {
    each(warp.mask, [&](int lane) {
      Shuffle &mine = *(Shuffle *)warp.slot[lane];
      const int from = source(kind, lane, mine.argument, width);
      if (from >= 0 && from < WARP && (warp.mask >> from & 1)) {
        mine.result = ((const Shuffle *)warp.slot[from])->value;
      } else {
        fail(DIVERGENCE, place, nullptr, "%s: lane %d reads from lane %d, which takes no part", names[kind], lane,
             from);
      }
    });
  });
  return part.result;
}

uint32_t emu_ballot(uint32_t mask, int predicate) {
  Shuffle part = {predicate != 0, 0, 0};
  together("a vote", mask, &part, EMU_PLACE, [](const Warp &warp) {
    uint32_t votes = 0;
    each(warp.mask, [&](int lane) { votes |= uint32_t(((const Shuffle *)warp.slot[lane])->value) << lane; });
    each(warp.mask, [&](int lane) { ((Shuffle *)warp.slot[lane])->result = votes; });
  });
  return uint32_t(part.result);
}

emu_words emu_ldmatrix_x4(const void *row, int transposed) {
  const char *name = transposed ? "ldmatrix.trans" : "ldmatrix";
  if ((uintptr_t)row % 16)
    fail(ALIGNMENT, EMU_PLACE, nullptr, "%s: lane %d's row is not on 16 bytes", name, current->lane);
  if (!in_shared(row))
    fail(MISUSE, EMU_PLACE, nullptr, "%s: lane %d's row is not in shared memory", name, current->lane);
  touch(row, 16, Access::READ, name, EMU_PLACE);
  Ldmatrix part = {row, {}};
  together(name, ALL, &part, EMU_PLACE, [&](const Warp &warp) { load_matrices(warp, transposed); });
  return part.result;
}

emu_floats emu_mma(int element, emu_floats d, emu_words a, uint32_t b0, uint32_t b1) {
  static const char *const names[] = {"mma of bf16", "mma of f16", "mma of tf32"};
  if (block->clocks) {
    bool any = unset(b0) || unset(b1);
    for (int n = 0; n < 4; n++) any = any || unset(a.x[n]) || unset(__builtin_bit_cast(uint32_t, d.x[n]));
    if (any)
      found(UNWRITTEN, EMU_PLACE, nullptr, "%s with a fragment that lane %d never set", names[element], current->lane);
  }
  Mma part = {d, a, b0, b1};
  together(names[element], ALL, &part, EMU_PLACE, [&](const Warp &warp) {
    if (element == EMU_TF32)
      multiply_tf32(warp);
    else if (element == EMU_BF16)
      multiply_halves<EMU_BF16>(warp);
    else
      multiply_halves<EMU_F16>(warp);
  });
  return part.d;
}
}
