// The same of floats, as sums of two numbers of 11 bits: three products of these make one of 22 bits ("3xTF32", Ootomo
// and Yokota 2022). Tensor cores cut off what a sum cannot hold, so long sums are made of short ones, which are rounded.
// Neither part of infinity or NaN is what it should be: such tokens, and such values of a tile, go the plain way.
namespace irc {

struct Float {
  typedef float number;
  static constexpr int UNIT = 4, PAD = 4;
};

DEVICE float rounded(Float, float x) { return x; }
DEVICE float unpack(Float, float x) { return x; }
DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }
DEVICE bool is_odd(Float, const Chunk &chunk) {
  bool odd = false;
#pragma unroll
  for (int w = 0; w < 4; ++w) odd |= !is_finite(__uint_as_float(chunk.words[w]));
  return odd;
}

struct Split {
  uint32_t high, low;
};
DEVICE Split split(float x) {
  const uint32_t high = __float_as_uint(x) & ~0x1fffu;
  return {high, ptx::to_tf32(x - __uint_as_float(high))};
}

// d += a b, the small products first.
DEVICE void mma(float (&d)[4], const uint32_t (&a_high)[4], const uint32_t (&a_low)[4], Split b0, Split b1) {
  ptx::mma_m16n8k8_tf32(d, a_low, b0.high, b1.high);
  ptx::mma_m16n8k8_tf32(d, a_high, b0.low, b1.low);
  ptx::mma_m16n8k8_tf32(d, a_high, b0.high, b1.high);
}

template <int WIDTH, int COLUMNS>
DEVICE void dot(Float, float (&tile)[COLUMNS / 8][4], const float *rows, const float *columns) {
  constexpr int STEP = WIDTH + Float::PAD, SHORT = 2;  // steps of 8 features in a short sum
  const int group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) tile[n][e] = 0.0f;
#pragma unroll 4  // of more, ptxas has so many operands under way that registers are short
  for (int first = 0; first < WIDTH; first += 8 * SHORT) {
    uint32_t high[SHORT][4], low[SHORT][4];
#pragma unroll
    for (int k = 0; k < SHORT; ++k)
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const Split a = split(rows[(group + m % 2 * 8) * STEP + first + 8 * k + place + m / 2 * 4]);
        high[k][m] = a.high, low[k][m] = a.low;
      }
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; ++n) {
      float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      const float *const b = columns + (8 * n + group) * STEP + first + place;
#pragma unroll
      for (int k = 0; k < SHORT; ++k) mma(sum, high[k], low[k], split(b[8 * k]), split(b[8 * k + 4]));
#pragma unroll
      for (int e = 0; e < 4; ++e) tile[n][e] += sum[e];
    }
  }
}

// Once more, plainly, what a row or a column named as odd takes part in.
template <int WIDTH, int COLUMNS>
DEVICE void odd_dot(Float, float (&tile)[COLUMNS / 8][4], const float *rows, const float *columns, uint64_t odd_rows,
                    uint64_t odd_columns) {
  constexpr int STEP = WIDTH + Float::PAD;
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = threadIdx.x % 32 / 4 + e / 2 * 8, column = 8 * n + threadIdx.x % 4 * 2 + e % 2;
      if (!((odd_rows >> row | odd_columns >> column) & 1)) continue;
      tile[n][e] = 0.0f;
#pragma unroll 1
      for (int f = 0; f < WIDTH; ++f) tile[n][e] += rows[row * STEP + f] * columns[column * STEP + f];
    }
}

// Columns of a tile in which some row has a value that is not finite.
template <int COLUMNS> DEVICE uint64_t odd_columns(const float (&tile)[COLUMNS / 8][4]) {
  bool odd = false;
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) odd |= !is_finite(tile[n][e]);
  if (!__any_sync(~0u, odd)) return 0;
  uint64_t found = 0;
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const uint32_t lanes = __ballot_sync(~0u, !is_finite(tile[n][e]) || !is_finite(tile[n][e + 2]));
#pragma unroll
      for (int place = 0; place < 4; ++place)
        if (lanes & 0x11111111u << place) found |= uint64_t(1) << (8 * n + 2 * place + e);
    }
  return found;
}

// As of f16, column 2 t of each eight goes where mma wants t, and column 2 t + 1 where it wants t + 4.
template <int WIDTH, int COLUMNS>
DEVICE void product(Float, float (&sums)[WIDTH / 8][4], const float (&tile)[COLUMNS / 8][4], const float *panel,
                    uint64_t odd) {
  constexpr int STEP = WIDTH + Float::PAD;
  const int group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
  uint32_t high[COLUMNS / 8][4], low[COLUMNS / 8][4];
#pragma unroll
  for (int k = 0; k < COLUMNS / 8; ++k)
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const float value = tile[k][m % 2 * 2 + m / 2];
      const Split a = split(is_finite(value) ? value : 0.0f);
      high[k][m] = a.high, low[k][m] = a.low;
    }
#pragma unroll
  for (int n = 0; n < WIDTH / 8; ++n) {
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    auto add = [&](auto any) {
#pragma unroll
      for (int k = 0; k < COLUMNS / 8; ++k) {
        const int column = 8 * k + 2 * place;
        const float *const b = panel + column * STEP + 8 * n + group;
        float b0 = b[0], b1 = b[STEP];
        if (any) b0 = odd >> column & 1 ? 0.0f : b0, b1 = odd >> column & 2 ? 0.0f : b1;
        mma(sum, high[k], low[k], split(b0), split(b1));
      }
    };
    if (odd) add(std::true_type{});
    else add(std::false_type{});
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[n][e] += sum[e];
  }
}

}  // namespace irc
