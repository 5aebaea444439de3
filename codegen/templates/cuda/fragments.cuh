// Products on tensor cores. A warp holds tiles of 16 rows as fragments of m16n8 (see ptx.cuh): element e of block n, in
// lane 4 g + t, is row g + 8 (e / 2), column 8 n + 2 t + e % 2. Operands lie in shared memory token by token, in rows that
// are PAD longer than their WIDTH, a multiple of 16: eight rows of 16 bytes so meet no bank twice.
namespace irc {

// Forms: how operands are kept and multiplied. UNIT numbers are 16 bytes.
struct Bf16 {
  typedef uint16_t number;
  static constexpr int UNIT = 8, PAD = 8;
};
struct F16 {
  typedef uint16_t number;
  static constexpr int UNIT = 8, PAD = 8;
};

struct alignas(16) Chunk {
  uint32_t words[4];
};

// Two numbers that follow each other, on as many bytes as both have.
DEVICE void load_two(float *to, const bf16 *from) {
  const uint32_t both = ptx::load<uint32_t>(from);
  to[0] = ptx::unpack_bf16(uint16_t(both)), to[1] = ptx::unpack_bf16(uint16_t(both >> 16));
}
DEVICE void load_two(float *to, const f16 *from) {
  const uint32_t both = ptx::load<uint32_t>(from);
  to[0] = ptx::unpack_f16(uint16_t(both)), to[1] = ptx::unpack_f16(uint16_t(both >> 16));
}
DEVICE void load_two(float *to, const float *from) {
  const uint64_t both = ptx::load<uint64_t>(from);
  to[0] = __uint_as_float(uint32_t(both)), to[1] = __uint_as_float(uint32_t(both >> 32));
}
DEVICE void load_two(bool *to, const uint8_t *from) {
  const uint16_t both = ptx::load<uint16_t>(from);
  to[0] = both & 0xff, to[1] = both >> 8;
}

DEVICE uint32_t pack(Bf16, float low, float high) { return ptx::pack_bf16(low, high); }
DEVICE uint32_t pack(F16, float low, float high) { return ptx::pack_f16(low, high); }
DEVICE uint32_t pack(bf16, float low, float high) { return ptx::pack_bf16(low, high); }
DEVICE uint32_t pack(f16, float low, float high) { return ptx::pack_f16(low, high); }
DEVICE float unpack(Bf16, uint16_t bits) { return ptx::unpack_bf16(bits); }
DEVICE float unpack(F16, uint16_t bits) { return ptx::unpack_f16(bits); }
DEVICE void mma(Bf16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  ptx::mma_m16n8k16_bf16(d, a, b0, b1);
}
DEVICE void mma(F16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  ptx::mma_m16n8k16_f16(d, a, b0, b1);
}
template <class Half> DEVICE uint16_t rounded(Half, float x) { return uint16_t(pack(Half{}, x, 0.0f)); }

template <class F> DEVICE F rounded_product(F x, F y) { return ptx::product(x, y); }
template <class F> DEVICE F rounded_difference(F x, F y) { return ptx::difference(x, y); }
template <class Form> DEVICE float exp2(float x) { return ptx::exp2_approx(x); }
template <class Form> DEVICE float natural_exp(float x) { return ptx::exp2_approx(x * 1.4426950408889634f); }

// Of a row's maximum, in powers of two: beyond it what rounds the maximum by up to half of its last place may be a power that
// no sum holds. A logit less that, multiplied and subtracted in one instruction, is not what the largest is.
constexpr float FAR_MAXIMUM = 0x1p26f;

// Whether a number of the chunk is infinite or NaN.
DEVICE bool is_odd(Bf16, const Chunk &chunk) {
  bool odd = false;
#pragma unroll
  for (int w = 0; w < 4; ++w) odd |= (chunk.words[w] & 0x7f80u) == 0x7f80u || (chunk.words[w] & 0x7f800000u) == 0x7f800000u;
  return odd;
}
DEVICE bool is_odd(F16, const Chunk &chunk) {
  bool odd = false;
#pragma unroll
  for (int w = 0; w < 4; ++w) odd |= (chunk.words[w] & 0x7c00u) == 0x7c00u || (chunk.words[w] & 0x7c000000u) == 0x7c000000u;
  return odd;
}

// Whether the chunks that this thread has copied to a panel hold such a number: every THREADS-th. This and the next run for
// few tiles; unrolled they would take registers from all.
template <class Form, int WIDTH, int TOKENS, int THREADS> DEVICE bool copied_odd(const typename Form::number *panel) {
  constexpr int CHUNKS = WIDTH / Form::UNIT;
  bool odd = false;
#pragma unroll 1
  for (int at = threadIdx.x; at < TOKENS * CHUNKS; at += THREADS)
    odd |= is_odd(Form{}, ptx::load<Chunk>(panel + at / CHUNKS * (WIDTH + Form::PAD) + at % CHUNKS * Form::UNIT));
  return odd;
}

// Which of the tokens of a panel hold such a number, a bit each.
template <class Form, int WIDTH, int TOKENS> DEVICE uint64_t odd_tokens(const typename Form::number *panel) {
  static_assert(TOKENS <= 64, "a bit for each token");
  uint64_t odd = 0;
#pragma unroll 1
  for (int first = 0; first < TOKENS; first += 32) {
    const int token = first + threadIdx.x % 32;
    bool found = false;
#pragma unroll 1
    for (int f = 0; f < WIDTH && token < TOKENS; f += Form::UNIT)
      found |= is_odd(Form{}, ptx::load<Chunk>(panel + token * (WIDTH + Form::PAD) + f));
    odd |= uint64_t(__ballot_sync(~0u, found)) << first;
  }
  return odd;
}

// tile[row, column] = sum over features of rows[row, feature] columns[column, feature]: 16 rows, COLUMNS columns.
template <int WIDTH, int COLUMNS, class Half>
DEVICE void dot(Half, float (&tile)[COLUMNS / 8][4], const uint16_t *rows, const uint16_t *columns) {
  constexpr int STEP = WIDTH + Half::PAD;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) tile[n][e] = 0.0f;
#pragma unroll
  for (int f = 0; f < WIDTH; f += 16) {
    uint32_t a[4];
    ptx::ldmatrix_x4(a, rows + lane % 16 * STEP + f + lane / 16 * 8);
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n += 2) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, columns + (8 * n + lane / 16 * 8 + lane % 8) * STEP + f + lane / 8 % 2 * 8);
      mma(Half{}, tile[n], a, b[0], b[1]);
      mma(Half{}, tile[n + 1], a, b[2], b[3]);
    }
  }
}

// Two numbers of tokens that follow each other, 0 where the token is among those named.
DEVICE uint32_t without(uint64_t tokens, int token, uint32_t pair) {
  return pair & ~((tokens >> token & 1 ? 0xffffu : 0u) | (tokens >> token & 2 ? 0xffff0000u : 0u));
}

// sums[row, feature] += sum over columns of tile[row, column] panel[column, feature], the tile rounded to the operand's
// type; columns named in `odd` count as 0. Whether there are any is asked once for AT_ONCE blocks of features: no read
// passes a branch, and of more reads under way registers have no room beside the largest masks, or the widest sums.
template <int WIDTH, int COLUMNS, class Half>
DEVICE void product(Half, float (&sums)[WIDTH / 8][4], const float (&tile)[COLUMNS / 8][4], const uint16_t *panel,
                    uint64_t odd) {
  constexpr int STEP = WIDTH + Half::PAD, AT_ONCE = WIDTH > 128 ? 2 : 4;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int c = 0; c < COLUMNS; c += 16) {
    const float(&left)[4] = tile[c / 8], (&right)[4] = tile[c / 8 + 1];
    uint32_t a[4] = {pack(Half{}, left[0], left[1]), pack(Half{}, left[2], left[3]), pack(Half{}, right[0], right[1]),
                     pack(Half{}, right[2], right[3])};
    if (odd)
#pragma unroll
      for (int m = 0; m < 4; ++m) a[m] = without(odd, c + m / 2 * 8 + lane % 4 * 2, a[m]);
    auto add = [&](auto any, int first) {
#pragma unroll
      for (int n = first; n < WIDTH / 8 && n < first + AT_ONCE; n += 2) {
        uint32_t b[4];
        ptx::ldmatrix_x4_trans(b, panel + (c + lane % 16) * STEP + 8 * n + lane / 16 * 8);
        if (any)
#pragma unroll
          for (int m = 0; m < 4; ++m) b[m] = without(odd, c + m % 2 * 8 + lane % 4 * 2, b[m]);
        mma(Half{}, sums[n], a, b[0], b[1]);
        mma(Half{}, sums[n + 1], a, b[2], b[3]);
      }
    };
#pragma unroll
    for (int first = 0; first < WIDTH / 8; first += AT_ONCE)
      if (odd) add(std::true_type{}, first);
      else add(std::false_type{}, first);
  }
}

// The same of an f16 panel, with a tile of any size: its values have the digits of an f16 and the range of a float.
// Column 2 t of each eight goes where mma wants t, and column 2 t + 1 where it wants t + 4, on both sides.
template <int WIDTH, int COLUMNS>
DEVICE void wide_product(F16, float (&sums)[WIDTH / 8][4], const float (&tile)[COLUMNS / 8][4], const uint16_t *panel,
                         uint64_t odd) {
  constexpr int STEP = WIDTH + F16::PAD;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int c = 0; c < COLUMNS; c += 16) {
    auto add = [&](auto any) {
      uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 8; ++m) {
        const bool counts = !any || !(odd >> (c + m / 4 * 8 + lane % 4 * 2 + m % 4 / 2) & 1);
        a[m / 4][m % 4] = ptx::to_tf32(counts ? tile[c / 8 + m / 4][m % 2 * 2 + m % 4 / 2] : 0.0f);
      }
#pragma unroll
      for (int n = 0; n < WIDTH / 8; n += 2) {
        uint32_t b[4];
        ptx::ldmatrix_x4_trans(b, panel + (c + lane % 16) * STEP + 8 * n + lane / 16 * 8);
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          if (any) b[m] = without(odd, c + m % 2 * 8 + lane % 4 * 2, b[m]);
          ptx::mma_m16n8k8_tf32(sums[n + m / 2], a[m % 2], __float_as_uint(ptx::unpack_f16(uint16_t(b[m]))),
                                __float_as_uint(ptx::unpack_f16(uint16_t(b[m] >> 16))));
        }
      }
    };
    if (odd) add(std::true_type{});
    else add(std::false_type{});
  }
}

// Adds, one by one, the products of columns of the tile: is_odd(column) says which, at(column, f) where the panel has
// features f and on, those of eight, and wanted(half, column, value) whether that of row g + 8 half is to be added.
template <class Form, int WIDTH, int COLUMNS, class IsOdd, class At, class Wanted>
DEVICE void add_columns(float (&sums)[WIDTH / 8][4], const float (&tile)[COLUMNS / 8][4], IsOdd is_odd, At at, Wanted wanted) {
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int block = 0; block < COLUMNS / 8; ++block) {
    float own[4];  // registers have no index
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) own[e] = n == 0 || n == block ? tile[n][e] : own[e];
#pragma unroll 1
    for (int column = 8 * block; column < 8 * block + 8; ++column) {
      if (!is_odd(column)) continue;
      float value[2];
      bool adds[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        value[half] = __shfl_sync(~0u, column % 2 ? own[2 * half + 1] : own[2 * half], lane / 4 * 4 + column % 8 / 2);
        adds[half] = wanted(half, column, value[half]);
      }
#pragma unroll
      for (int n = 0; n < WIDTH / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float number = unpack(Form{}, at(column, 8 * n)[lane % 4 * 2 + e]);
#pragma unroll
          for (int half = 0; half < 2; ++half)
            if (adds[half]) sums[n][2 * half + e] += value[half] * number;
        }
    }
  }
}

// The products that mma was not to make: of the columns in `odd`, and of values of the tile, in the columns `also`, that
// are not finite. wanted(half, column) says whether the pair with row g + 8 half exists.
template <class Form, int WIDTH, int COLUMNS, class Wanted>
DEVICE void odd_product(float (&sums)[WIDTH / 8][4], const float (&tile)[COLUMNS / 8][4],
                        const typename Form::number *panel, uint64_t odd, uint64_t also, Wanted wanted) {
  add_columns<Form, WIDTH, COLUMNS>(
      sums, tile, [&](int column) { return (odd | also) >> column & 1; },
      [&](int column, int f) { return panel + column * (WIDTH + Form::PAD) + f; },
      [&](int half, int column, float value) {
        return wanted(half, column) && (odd >> column & 1 || !(value * 0.0f == 0.0f));
      });
}

// What is compared with positions (narrow.py), which are below 2^30.
DEVICE int32_t saturate(int64_t x) { return int32_t(irc::clamp(x, -(1 << 30), 1 << 30)); }

// Of the four lanes that share a row, the sum, or the largest.
DEVICE float row_sum_of(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
DEVICE float row_max_of(float x) {
  x = irc::max(x, __shfl_xor_sync(~0u, x, 1));
  return irc::max(x, __shfl_xor_sync(~0u, x, 2));
}

// A row of WIDTH results of 16 bits, 16 bytes at a time: of the four lanes that share it each holds two of every block of
// eight, and they exchange them for all of one block in four. What does not exist goes nowhere.
template <int WIDTH, class E, int BLOCKS>
DEVICE void store_row(E *row, const float (&sums)[BLOCKS][4], int half, float factor, bool exists) {
  const int lane = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < WIDTH / 8; n += 4) {
    uint32_t words[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (n + k < WIDTH / 8) words[k] = pack(E{}, sums[n + k][2 * half] * factor, sums[n + k][2 * half + 1] * factor);
#pragma unroll
    for (int step = 1; step < 4; step *= 2)
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (!(k & step)) {
          const bool is_upper = lane & step;
          uint32_t &low = words[k], &high = words[k + step];
          const uint32_t other = __shfl_xor_sync(~0u, is_upper ? low : high, step);
          low = is_upper ? other : low, high = is_upper ? high : other;
        }
    if (exists && n + lane < WIDTH / 8) ptx::store_global(row + 8 * (n + lane), words);
  }
}

// The same of floats: two lanes hold half of a block, and exchange two numbers for the other half of one block in two.
template <int WIDTH, int BLOCKS>
DEVICE void store_row(float *row, const float (&sums)[BLOCKS][4], int half, float factor, bool exists) {
  static_assert(WIDTH % 4 == 0 && BLOCKS % 2 == 0 && WIDTH <= 8 * BLOCKS, "whole words of 16 bytes");
  const int lane = threadIdx.x % 4;
  const bool is_upper = lane & 1;
#pragma unroll
  for (int n = 0; 8 * n < WIDTH; n += 2) {
    uint32_t words[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) words[k] = __float_as_uint(sums[n + k / 2][2 * half + k % 2] * factor);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      uint32_t &low = words[k], &high = words[k + 2];
      const uint32_t other = __shfl_xor_sync(~0u, is_upper ? low : high, 1);
      low = is_upper ? other : low, high = is_upper ? high : other;
    }
    const int feature = 8 * (n + is_upper) + 2 * (lane & 2);
    if (exists && feature < WIDTH) ptx::store_global(row + feature, words);
  }
}

}  // namespace irc
