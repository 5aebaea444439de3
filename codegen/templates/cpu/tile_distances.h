// Products with a panel of distances: an operand with a row for each distance of a row from a column, `COLUMNS + ROWS` of
// them for a tile, where a row for each pair would be COLUMNS * ROWS. A vector of rows at one column has neighbours among
// the distances, which go down as columns go up: no element is moved, and none is multiplied that no pair asks for.
namespace irc {

// A row of zeros of any type.
template <int WIDTH> struct NoRow { alignas(64) static inline const char zeros[WIDTH * 8] = {}; };

// Rows of single numbers, [token][feature], the features filled up to whole vectors.
template <class T, int WIDTH, int TOKENS> class Numbers {
  static constexpr int LANES = sizeof(typename Vectors<T>::vec) / sizeof(T);

 public:
  static constexpr int FEATURES = (WIDTH + LANES - 1) / LANES * LANES;

  Numbers() : numbers_(TOKENS * FEATURES) {}

  // `row(n)` points to row n; `step`: elements from row to row, where these are evenly spaced.
  template <class Row, class... Step> void read(int count, Row row, Step... step) {
    decltype(row(0)) places[TOKENS];
    pack_along<Single<T>, FEATURES>((T *)numbers_, count, count, rows_from(places, 0, count, row, step...), Fixed<WIDTH>());
    count_ = count;
    known_ = -1;
  }

  // The same of numbers that are computed: value(n, to) writes those of row n.
  template <class Value> void evaluate(int count, Value value) {
    T *const values = values_.hold(TOKENS * WIDTH);
    for (int n = 0; n < count; n++) value(n, values + n * WIDTH);
    read(count, [&](int n) -> const T * { return values + n * WIDTH; }, WIDTH);
  }

  const T *rows() const { return numbers_; }
  bool is_finite() {
    if (known_ < 0) known_ = finite_tokens<Single<T>>(finite_, (const T *)numbers_, FEATURES, FEATURES, count_);
    return known_ != 0;
  }
  const char *finite() const { return finite_; }
  // All rows, those that are not finite as 0.
  const T *cleaned() { return cleaned_tokens<Single<T>>(cleaned_, (const T *)numbers_, FEATURES, FEATURES, count_, finite_); }

 private:
  Buffer<T> numbers_, values_, cleaned_;
  int count_, known_;
  char finite_[TOKENS];
};

// The operand, for one tile of rows and one of columns. Entry 0 is the distance of the first row from the last of COLUMNS
// columns and a vector of them. Dots read it [unit][entry], sums over columns [feature][entry], sums over rows [entry][feature].
template <class Form, int WIDTH, int ROWS, int COLUMNS, bool DOTTED, bool OVER_COLUMNS, bool SUMMED> class DistancePanel {
  typedef typename Form::unit T;
  typedef typename Vectors<T>::vec V;
  static constexpr bool ONE = Form::DEPTH == 1, ACROSS = DOTTED || (ONE && OVER_COLUMNS);

 public:
  static constexpr int LANES = sizeof(V) / sizeof(T), ENTRIES = ROWS + COLUMNS + LANES;
  static constexpr int STEP = ENTRIES + (ENTRIES / LANES % 2 ? 0 : LANES);  // an odd number of vectors: others share few lines of the first cache
  typedef irc::Numbers<T, WIDTH, ENTRIES> Rows;

  DistancePanel() : across_(ACROSS ? STEP * units<Form>(WIDTH) : 0), numbers_(!ONE && OVER_COLUMNS ? STEP * WIDTH : 0) {}

  template <class Row> void read(Row row) {
    decltype(row(0)) places[ENTRIES];
    const auto rows = rows_from(places, 0, ENTRIES, row);
    if constexpr (ACROSS) pack_across<Form>((T *)across_, STEP, ENTRIES, rows, Fixed<WIDTH>());
    if constexpr (!ONE && OVER_COLUMNS) pack_across<Single<T>>((T *)numbers_, STEP, ENTRIES, rows, Fixed<WIDTH>());
    if constexpr (SUMMED) rows_.read(ENTRIES, row);
    cleaned_ = nullptr;
  }

  template <class Value> void evaluate(Value value) {
    T *const values = values_.hold(ENTRIES * WIDTH);
    for (int n = 0; n < ENTRIES; n++) value(n, values + n * WIDTH);
    read([&](int n) -> const T * { return values + n * WIDTH; });
  }

  // The entry of row 0 of the tile and its column `column`.
  static constexpr int entry(int column) { return COLUMNS + LANES - 1 - column; }
  const T *dotted() const { return across_; }
  const T *over_columns() const { return ONE ? across_ : numbers_; }
  Rows &rows() { return rows_; }
  // As sums over columns read it, the distances that are not finite as 0.
  const T *cleaned() {
    if (cleaned_ == nullptr) {
      T *const to = cleaned_numbers_.hold(STEP * WIDTH);
      std::memcpy(to, over_columns(), STEP * WIDTH * sizeof(T));
      for (int n = 0; n < ENTRIES; n++)
        for (int f = 0; f < WIDTH && !rows_.finite()[n]; f++) to[f * STEP + n] = 0;
      cleaned_ = to;
    }
    return cleaned_;
  }

 private:
  Buffer<T> across_, numbers_, values_, cleaned_numbers_;
  std::conditional_t<SUMMED, Rows, Nothing> rows_;
  const T *cleaned_ = nullptr;
};

// The dots of columns 0, LANES, 2 LANES, … up to K of them, of `count` that there are: two vectors of rows at one column
// want the same of the table as the second of them at the next of these.
template <class Form, int F, int K, int N, bool OF_ROWS, class V, class T>
IRC_INLINE void dots_of_columns(T *tile, int count, const T *near, int64_t near_step, const T *table, int64_t step) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  typedef T unit __attribute__((may_alias));
  const unit *own[K];
  for (int k = 0; k < K; k++) own[k] = (const unit *)near + (OF_ROWS ? 0 : std::min(k * LANES, count - 1) * near_step);
  V sums[K][N];
  clear(sums);
#pragma GCC unroll 1
  for (int u = 0; u < units<Form>(F); u++, table += step) {
    V rows[N];
#pragma GCC unroll 16
    for (int n = 0; n < N && OF_ROWS; n++) rows[n] = load_vector<V>(near + (u * N + n) * LANES);
#pragma GCC unroll 16
    for (int far = N - 1; far > -K; far--) {
      V value = load_vector<V>(table + far * LANES);
      IRC_IN_REGISTER(value);
#pragma GCC unroll 16
      for (int n = std::max(0, far); n < std::min(N, K + far); n++)
        sums[n - far][n] = Form::multiply_add(sums[n - far][n], OF_ROWS ? rows[n] : splat<V>(own[n - far][u]), value);
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < K; k++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) store_vector(tile + (k * N * LANES + n) * LANES, sums[k][n]);
}

// tile[column][row] = sum over F features of near[row or column][f] * table[their distance][f], for `count` columns, filled
// up to whole vectors of them. `table`: the entry of row 0 and column 0.
template <class Form, int F, int N, bool OF_ROWS, class V, class T>
IRC_ONCE void dots_of_distances(T *tile, int count, const T *near, int64_t near_step, const T *table, int64_t step) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  auto columns = [&](int first, auto at_once) __attribute__((always_inline)) {
    constexpr int K = decltype(at_once)::value;
#pragma GCC unroll 1
    for (int m = first; m < std::min(first + LANES, count); m++)
      dots_of_columns<Form, F, K, N, OF_ROWS, V>(tile + m * N * LANES, count - m, near + (OF_ROWS ? 0 : m * near_step), near_step, table - m, step);
    return K * LANES;
  };
  for (int first = 0; first < count;) {
    const int rest = (count - first + LANES - 1) / LANES;
    first += rest >= BLOCK ? columns(first, Fixed<BLOCK>()) : rest >= 3 ? columns(first, Fixed<3>()) : columns(first, Fixed<1>());
  }
}

// M features of one row panel: sums[f][i] = sums[f][i]*rescale[i] + sum over j of table[f][the distance of i from j] * tile[j][i]
template <int M, int N, class V, class T>
IRC_INLINE void row_distances_block(T *sums, bool first, const V *rescale, const T *table, int64_t step, const T *tile, int columns) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = N * LANES;
  V block[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) {
      block[m][n] = first ? V{} : load_vector<V>(sums + m * WIDTH + n * LANES);
      if (rescale) block[m][n] *= rescale[n];
    }
#pragma GCC unroll 1
  for (int j = 0; j < columns; j++) {
    V own[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) own[n] = load_vector<V>(tile + j * WIDTH + n * LANES);
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
      for (int n = 0; n < N; n++) block[m][n] += load_vector<V>(table + m * step + n * LANES - j) * own[n];
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) store_vector(sums + m * WIDTH + n * LANES, block[m][n]);
}

// All F features.
template <int F, int N, class V, class T>
IRC_ONCE void row_distances(T *sums, bool first, const V *rescale, const T *table, int64_t step, const T *tile, int columns) {
  constexpr int WIDTH = N * (sizeof(V) / sizeof(T)), REST = F % BLOCK;
#pragma GCC unroll 1
  for (int f = 0; f + BLOCK <= F; f += BLOCK)
    row_distances_block<BLOCK, N>(sums + f * WIDTH, first, rescale, table + f * step, step, tile, columns);
  if constexpr (REST != 0)
    row_distances_block<REST, N>(sums + (F - REST) * WIDTH, first, rescale, table + (F - REST) * step, step, tile, columns);
}

// Strips of a product whose lanes are F features: strip(first, Fixed<N>()), N vectors from feature `first` on.
template <int F, class V, class T, class Strip> IRC_INLINE void feature_strips(Strip strip) {
  constexpr int LANES = sizeof(V) / sizeof(T), VECTORS = F / LANES, REST = VECTORS % FEATURE_VECTORS;
#pragma GCC unroll 1
  for (int first = 0; first + FEATURE_VECTORS <= VECTORS; first += FEATURE_VECTORS) strip(first * LANES, Fixed<FEATURE_VECTORS>());
  if constexpr (REST != 0) strip((VECTORS - REST) * LANES, Fixed<REST>());
}

// sums[j][f] += sum over i of tile[j][i] * table[the distance of i from j][f]; F features, filled up to whole vectors, and
// columns to whole blocks of 4. `table`: the row of row 0 and column 0.
template <int F, class V, class T>
IRC_ONCE void column_distances(T *sums, int columns, const T *tile, int64_t tile_row, const T *table, int rows) {
  constexpr int LANES = sizeof(V) / sizeof(T), M = 4;
  feature_strips<F, V, T>([&](int first, auto vectors) __attribute__((always_inline)) {
    constexpr int N = decltype(vectors)::value;
#pragma GCC unroll 1
    for (int j = 0; j < columns; j += M) {
      V block[M][N];
#pragma GCC unroll 16
      for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++) block[m][n] = load_vector<V>(sums + (j + m) * F + first + n * LANES);
#pragma GCC unroll 1
      for (int i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) {
          const V own = splat<V>(tile[(j + m) * tile_row + i]);
#pragma GCC unroll 16
          for (int n = 0; n < N; n++) block[m][n] += load_vector<V>(table + (i - j - m) * F + first + n * LANES) * own;
        }
#pragma GCC unroll 16
      for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++) store_vector(sums + (j + m) * F + first + n * LANES, block[m][n]);
    }
  });
}

// sums[d][f] += sum over the pairs with i - j = d of tile[j][i] * near[i or j][f], for rows below `rows` and columns from
// `begin` up to `end`. A step along such pairs is tile_row + 1 numbers of the tile, and one token of `near`.
template <int F, bool OF_ROWS, class V, class T>
IRC_ONCE void distance_product(T *sums, const T *tile, int64_t tile_row, int begin, int end, int rows, const T *near) {
  constexpr int M = 4;
  // The tokens of `near` that have a pair at a distance: from, and up to.
  auto from = [&](int d) { return OF_ROWS ? std::max(0, begin + d) : std::max(begin, -d); };
  auto until = [&](int d) { return OF_ROWS ? std::min(rows, end + d) : std::min(end, rows - d); };
  feature_strips<F, V, T>([&](int first, auto vectors) __attribute__((always_inline)) {
    constexpr int N = decltype(vectors)::value;
    auto add = [&](auto count, int d, int low, int high) __attribute__((always_inline)) {
      if (low >= high) return;
      const T *at = tile + (OF_ROWS ? (low - d) * tile_row + low : low * tile_row + low + d);
      column_product_block<Single<T>, decltype(count)::value, N, V>(sums + d * F + first, F, at, OF_ROWS ? -tile_row : 1, tile_row + 1,
                                                                    near + low * F + first, high - low);
    };
#pragma GCC unroll 1
    for (int d = 1 - end; d < rows - begin; d += M) {
      const int count = std::min(M, rows - begin - d);
      const int low = std::max(from(d), from(d + count - 1)), high = std::min(until(d), until(d + count - 1));
      const bool together = count == M && low < high;
      if (together) add(Fixed<M>(), d, low, high);
#pragma GCC unroll 1
      for (int m = 0; m < count; m++) {
        add(Fixed<1>(), d + m, from(d + m), together ? low : until(d + m));
        if (together) add(Fixed<1>(), d + m, high, until(d + m));
      }
    }
  });
}

// sums[d] += sum over the pairs with i - j = d of tile[j][i], for rows below `rows` and columns from `begin` up to `end`.
// Neighbours along a diagonal are as many columns as rows apart: of LANES columns, each adds its rows to the same vectors.
template <int N, bool WHOLE, class V, class T> IRC_ONCE void distance_sums(T *sums, const T *tile, int begin, int end, int rows) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  typedef typename Vectors<T>::ivec I;
#pragma GCC unroll 1
  for (int j = begin; j < end; j += LANES) {
    V block[N + 1]{};
#pragma GCC unroll 1
    for (int m = 0; m < std::min(LANES, end - j); m++) {
      const I low = first_lanes<I>(LANES - m);
#pragma GCC unroll 16
      for (int n = 0; n <= N; n++) {
        const int first = (n - 1) * LANES + m;  // the row of the vector's first lane
        const V value = load_vector<V>(tile + (j + m) * N * LANES + first);
        if (WHOLE && n > 0 && n < N) {
          block[n] += value;
        } else {
          const I real = WHOLE ? I{} - 1 : first_lanes<I>(rows - first);
          block[n] += select(real & (n == 0 ? ~low : n == N ? low : I{} - 1), value, V{});
        }
      }
    }
#pragma GCC unroll 16
    for (int n = 0; n <= N; n++) {
      T *const at = sums + (n - 1) * LANES - j;
      store_vector(at, load_vector<V>(at) + block[n]);
    }
  }
}

// Products of pairs that are supported with rows that are not finite, and are 0 in the copies that were multiplied.
// `entry(i, j)` is the row of a pair, and add(i, j, f, x) adds to its sum.
template <int WIDTH, class T, class Supported, class Entry, class Add>
__attribute__((noinline)) void add_non_finite_of_pairs(const T *tile, int64_t tile_row, int begin, int end, int rows, const T *numbers, int64_t step,
                                                       const char *finite, Supported supported, Entry entry, Add add) {
  for (int j = begin; j < end; j++)
    for (int i = 0; i < rows; i++) {
      const int at = entry(i, j);
      if (finite[at] || !supported(i, j)) continue;
      for (int f = 0; f < WIDTH; f++) add(i, j, f, tile[j * tile_row + i] * numbers[at * step + f]);
    }
}

}  // namespace irc
