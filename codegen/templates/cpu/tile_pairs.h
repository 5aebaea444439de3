// What a table holds of each pair, brought to where tile values are made: column by column, rows in the lanes.
namespace irc {

// A line's elements on their way to the second cache.
template <int COUNT, class E> IRC_INLINE void fetch_line(const E *line) {
  for (int n = 0; n < COUNT; n += 64 / sizeof(E)) __builtin_prefetch(line + n, 0, 2);
}

// COLUMNS columns of a panel's pairs at a time, from a multiple of them on. What was read before is there as well: all of
// the tile with `WHOLE`, the COLUMNS before without. `first` points to what memory holds of the panel's first row and
// column n, `ahead` to where the same will be read next. What does not exist, from row `rows` and from the column after
// `columns` on, is 0. The more columns, the fewer lines of the caches that neighbours share are brought twice.
template <class V, int PANEL, int TILE, bool WHOLE> class Pairs {
  typedef typename VectorTraits<V>::element T;
  static constexpr int LANES = sizeof(V) / sizeof(T);

 public:
  static constexpr int COLUMNS = std::max(2 * LANES, BLOCK);

  Pairs() : numbers_(KEPT * PANEL) {}
  T *column(int n) const { return numbers_ + (WHOLE ? n : n % KEPT) * PANEL; }

  // Of a table in which columns are neighbours, and rows `step` apart: squares of it are turned.
  template <class E> __attribute__((noinline)) void read_rows(int n, int rows, int columns, const E *first, const E *ahead, int64_t step) {
    E copy[PANEL][COLUMNS];
    const bool whole = rows >= PANEL && columns >= COLUMNS;
    const E *from = whole ? first : padded(copy, first, step, rows, columns);
    const int64_t apart = whole ? step : COLUMNS;
#if defined(__AVX512F__)
    if constexpr (std::is_same<E, bf16>::value && PANEL == 2 * LANES)
      for (int at = 0; at < COLUMNS; at += LANES) turn_pairs(column(n + at), from + at, apart);
    else
#endif
      for (int row = 0; row < PANEL; row += LANES)
        for (int at = 0; at < COLUMNS; at += LANES) turn_square(column(n + at) + row, from + row * apart + at, apart);
    for (int row = 0; row < PANEL; row++) fetch_line<COLUMNS>(ahead + row * step);
  }

  // Of one in which rows are neighbours, and columns `step` apart.
  template <class E> __attribute__((noinline)) void read_columns(int n, int rows, int columns, const E *first, const E *ahead, int64_t step) {
    E copy[COLUMNS][PANEL];
    const bool whole = rows >= PANEL && columns >= COLUMNS;
    const E *from = whole ? first : padded(copy, first, step, columns, rows);
    for (int at = 0; at < COLUMNS; at++, from += whole ? step : PANEL)
      for (int row = 0; row < PANEL; row += LANES) store_vector(column(n + at) + row, load_as<V>(from + row));
    for (int at = 0; at < COLUMNS; at++) {
      fetch_line<PANEL>(ahead + at * step);
      __builtin_prefetch(ahead + at * step + PANEL - 1, 0, 2);  // which may lie in one cache line more
    }
  }

 private:
  static constexpr unsigned KEPT = WHOLE ? (TILE + COLUMNS - 1) / COLUMNS * COLUMNS : 2 * COLUMNS;
  Buffer<T> numbers_;

  // A copy of lines `step` apart, of which so many exist, and as many elements of each; then zeros.
  template <class E, int LINES, int COUNT> IRC_SMALL const E *padded(E (&copy)[LINES][COUNT], const E *from, int64_t step, int lines, int count) {
    std::memset((void *)copy, 0, sizeof copy);
    for (int line = 0; line < std::min(LINES, lines); line++) std::copy_n(from + line * step, std::min(COUNT, count), copy[line]);
    return copy[0];
  }

  template <class E> IRC_INLINE void turn_square(T *to, const E *from, int64_t step) {
    V square[LANES];
#pragma GCC unroll 16
    for (int m = 0; m < LANES; m++) square[m] = load_as<V>(from + m * step);
    transpose(square);
#pragma GCC unroll 16
    for (int m = 0; m < LANES; m++) store_vector(to + m * PANEL, square[m]);
  }

#if defined(__AVX512F__)
  // The same of bf16, of all rows: two columns are one number of a square that has rows m and m + 16 in one register.
  IRC_INLINE void turn_pairs(T *to, const bf16 *from, int64_t step) {
    VecF square[LANES];
#pragma GCC unroll 16
    for (int m = 0; m < LANES; m++) {
      const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(from + m * step)));
      square[m] = (VecF)_mm512_inserti64x4(low, _mm256_loadu_si256((const __m256i *)(from + (m + LANES) * step)), 1);
    }
    transpose(square);
#pragma GCC unroll 16
    for (int m = 0; m < LANES; m++) {
      T *column = to + m % (LANES / 2) * 2 * PANEL + m / (LANES / 2) * LANES;
      store_vector(column, (VecF)_mm512_slli_epi32((__m512i)square[m], 16));
      store_vector(column + PANEL, (VecF)_mm512_and_si512((__m512i)square[m], _mm512_set1_epi32(-65536)));
    }
  }
#endif
};

}  // namespace irc
