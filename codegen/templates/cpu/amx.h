// Intel AMX: eight matrix registers of 16 rows of 16 units, all its instructions and the products of panels in them. Linux
// lends these registers to processes that ask; IRC_AMX says that this one has (runtime/machine.py).
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(IRC_AMX)
#define IRC_MATRICES
namespace irc {
namespace amx {

constexpr int SIDE = 16, WIDE = 2 * SIDE;  // rows of a register, and lanes of two side by side

// As long as it lives a thread's registers are of their full size.
class Registers {
 public:
  Registers() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
    } config;
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~Registers() { asm volatile("tilerelease"); }
  Registers(const Registers &) = delete;
  Registers &operator=(const Registers &) = delete;
};

template <int REGISTER> IRC_INLINE void clear() { asm volatile("tilezero %%tmm%c0" : : "i"(REGISTER)); }

// `step`: units from row to row.
template <int REGISTER> IRC_INLINE void load(const float *from, int64_t step) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(REGISTER), "r"(from), "r"(4 * step) : "memory");
}
template <int REGISTER> IRC_INLINE void store(float *to, int64_t step) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(REGISTER), "r"(to), "r"(4 * step) : "memory");
}

// sums[m][n] += sum over 16 units u of left[m][u] . right[u][n]
template <int SUMS, int LEFT, int RIGHT> IRC_INLINE void multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUMS), "i"(LEFT), "i"(RIGHT));
}

// Sums of 16 rows by two vectors, once or twice below each other, lie in registers 0 to 3: += the sum over `units`, a
// multiple of 16, of left[m][u] . right[u][two vectors]. Four are as many products as are under way.
template <int BLOCKS> IRC_INLINE void add_products(const float *left, int64_t step, const float *right, int units) {
#pragma GCC unroll 1
  for (int u = 0; u < units; u += SIDE) {
    load<4>(left + u, step);
    load<6>(right + u * WIDE, WIDE);
    load<7>(right + u * WIDE + SIDE, WIDE);
    multiply<0, 4, 6>();
    multiply<1, 4, 7>();
    if constexpr (BLOCKS == 2) {
      load<5>(left + SIDE * step + u, step);
      multiply<2, 5, 6>();
      multiply<3, 5, 7>();
    }
  }
}

template <int BLOCKS> IRC_INLINE void clear_sums() {
  clear<0>();
  clear<1>();
  if constexpr (BLOCKS == 2) {
    clear<2>();
    clear<3>();
  }
}

template <int BLOCKS> IRC_INLINE void load_sums(const float *from) {
  load<0>(from, WIDE);
  load<1>(from + SIDE, WIDE);
  if constexpr (BLOCKS == 2) {
    load<2>(from + SIDE * WIDE, WIDE);
    load<3>(from + SIDE * WIDE + SIDE, WIDE);
  }
}

template <int BLOCKS> IRC_INLINE void store_sums(float *to) {
  store<0>(to, WIDE);
  store<1>(to + SIDE, WIDE);
  if constexpr (BLOCKS == 2) {
    store<2>(to + SIDE * WIDE, WIDE);
    store<3>(to + SIDE * WIDE + SIDE, WIDE);
  }
}

// sums[j][f] += sum over 16 units of tile[j][u] . panel[u][f], WIDTH features, a multiple of 16; columns in whole blocks of 16.
template <int WIDTH> IRC_ONCE void add_column_products(float *sums, int columns, const float *tile, int64_t step, const float *panel) {
  for (int j = 0; j < columns; j += SIDE) {
    load<2>(tile + j * step, step);
#pragma GCC unroll 1
    for (int f = 0; f < WIDTH; f += 2 * SIDE) {
      float *const at = sums + j * WIDTH + f;
      load<0>(at, WIDTH);
      load<4>(panel + f, WIDTH);
      multiply<0, 2, 4>();
      store<0>(at, WIDTH);
      if (f + SIDE == WIDTH) break;
      load<1>(at + SIDE, WIDTH);
      load<5>(panel + f + SIDE, WIDTH);
      multiply<1, 2, 5>();
      store<1>(at + SIDE, WIDTH);
    }
  }
}

}  // namespace amx
}  // namespace irc
#endif
