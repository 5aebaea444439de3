// What a table of truths says of a panel's pairs with a tile of columns: a bit for each pair.
namespace irc {

// So many bits, 64 at most, lowest first.
IRC_INLINE uint64_t ones(int count) { return count < 64 ? (uint64_t(1) << count) - 1 : ~uint64_t(0); }

// A bit for each of `count` truths, 64 at most, the first one lowest.
IRC_INLINE uint64_t truths(const uint8_t *from, int count) {
#if defined(__AVX512BW__)
  const __m512i bytes = _mm512_maskz_loadu_epi8(ones(count), from);
  return _mm512_test_epi8_mask(bytes, bytes);
#else
  uint8_t copy[64] = {};
  std::memcpy(copy, from, std::min(count, 64));
  uint64_t bits = 0;
#if defined(__AVX2__)
  for (int half = 0; half < 2; half++) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(copy + 32 * half));
    bits |= uint64_t(~uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256())))) << 32 * half;
  }
#else
  for (int at = 0; at < 64; at++) bits |= uint64_t(copy[at] != 0) << at;
#endif
  return bits & ones(count);
#endif
}

// Bit n of word m and bit m of word n change places (Warren, Hacker's Delight, 7-3).
IRC_INLINE void transpose(uint64_t (&words)[64]) {
  uint64_t low = 0xffffffff;
#pragma GCC unroll 6
  for (int step = 32; step; step >>= 1, low ^= low << step)
    for (int n = 0; n < 64; n = ((n | step) + 1) & ~step) {
      const uint64_t changed = ((words[n] >> step) ^ words[n | step]) & low;
      words[n] ^= changed << step, words[n | step] ^= changed;
    }
}

// `TURNED`: pairs that the table calls false are those that exist.
template <int PANEL, int TILE, bool TURNED> class Truths {
  static_assert(PANEL <= 64, "a column's rows are bits of one word");

 public:
  // Of `rows` rows and the columns from `begin` to `end`. `first` points to what memory holds of the first row and the
  // tile's first column. Columns are neighbours, and rows `step` apart.
  __attribute__((noinline)) void read_rows(int begin, int end, int rows, const uint8_t *first, int64_t step) {
    existing_ = ones(rows);
    for (int n = begin; n < end; n += 64) {
      uint64_t words[64] = {}, some = 0, every = ~uint64_t(0);
      const int columns = std::min(64, end - n);
      for (int row = 0; row < rows; row++) {
        words[row] = truths(first + row * step + n, columns);
        some |= words[row], every &= words[row];
      }
      if (some != every) transpose(words);
      for (int at = 0; at < columns; at++) keep(n + at, some != every ? words[at] : some >> at & 1 ? existing_ : 0);
    }
  }

  // Rows are neighbours, and columns `step` apart.
  __attribute__((noinline)) void read_columns(int begin, int end, int rows, const uint8_t *first, int64_t step) {
    existing_ = ones(rows);
    for (int n = begin; n < end; n++) keep(n, truths(first + n * step, rows));
  }

  // Where a row and a column each tell a part of the place, those that share an element are read together.
  template <class Row, class Column>
  __attribute__((noinline)) void read_places(int begin, int end, int rows, const uint8_t *first, Row row_at, Column column_at) {
    existing_ = ones(rows);
    const Groups groups(rows, row_at);
    uint64_t word = 0;
    for (int n = begin; n < end; n++) {
      if (n == begin || column_at(n) != column_at(n - 1)) word = groups.word(first + column_at(n));
      keep(n, word);
    }
  }

  // Whether some pair of so many rows and columns exists.
  template <class Row, class Column>
  static __attribute__((noinline)) bool exist(int columns, int rows, const uint8_t *first, Row row_at, Column column_at) {
    const Groups groups(rows, row_at);
    for (int n = 0; n < columns; n++)
      if ((n == 0 || column_at(n) != column_at(n - 1)) && groups.word(first + column_at(n)) != (TURNED ? ones(rows) : 0)) return true;
    return false;
  }

  bool any(int begin, int end) const {
    uint64_t found = 0;
    for (int n = begin; n < end; n++) found |= words_[n];
    return found != 0;
  }

  bool all(int begin, int end) const {
    uint64_t found = existing_;
    for (int n = begin; n < end; n++) found &= words_[n];
    return found == existing_;
  }

  // Rows of vector w, as a mask; columns that were not read say anything.
  template <class I> IRC_INLINE_MEMBER I wanted(int n, int w) const {
    constexpr int LANES = sizeof(I) / sizeof(I{}[0]);
    typedef typename std::decay<decltype(I{}[0])>::type lane_int;
    const I bits = I{} + lane_int(words_[n] >> w * LANES);
    I own;
    for (int lane = 0; lane < LANES; lane++) own[lane] = lane_int(1) << lane;
    return (bits & own) != 0;
  }

 private:
  // Rows that follow each other and share their places.
  struct Groups {
    int count = 0;
    int64_t places[PANEL];
    uint64_t rows[PANEL];

    template <class Row> Groups(int number, Row row_at) {
      for (int row = 0; row < number; row++) {
        const int64_t place = row_at(row);
        if (!count || places[count - 1] != place) places[count] = place, rows[count++] = 0;
        rows[count - 1] |= uint64_t(1) << row;
      }
    }

    uint64_t word(const uint8_t *column) const {
      uint64_t found = 0;
      for (int group = 0; group < count; group++)
        if (column[places[group]]) found |= rows[group];
      return found;
    }
  };

  uint64_t existing_ = 0, words_[TILE + 64] = {};

  void keep(int n, uint64_t word) { words_[n] = TURNED ? existing_ & ~word : word; }
};

}  // namespace irc
