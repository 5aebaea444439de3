// The stream form: a few rows, here called queries, against many columns, which are read where they lie. Lanes are
// features in products and columns in tile values, which lie query by query, COLUMNS apart.

// A function in this form: a library of parts has it for calls to choose, else the kernel alone calls it.
#ifdef IRC_PARTS
#define IRC_FORM extern "C"
#else
#define IRC_FORM extern "C" __attribute__((visibility("hidden")))
#endif

namespace irc {

// Lane n is x[n] + x[n ^ DISTANCE], of the lanes of `a` where n has not this bit, and of those of `b` where it has.
template <int DISTANCE, class V, int... N> IRC_INLINE V fold_lanes(V a, V b, std::integer_sequence<int, N...>) {
  constexpr int LANES = sizeof...(N);
#if defined(__clang__)
  const V kept = __builtin_shufflevector(a, b, (N & DISTANCE ? LANES + N : N)...);
  const V given = __builtin_shufflevector(b, a, (N & DISTANCE ? LANES + N : N)...);
  return kept + __builtin_shufflevector(given, given, (N ^ DISTANCE)...);
#else
  typedef typename VectorTraits<V>::mask I;
  const V kept = __builtin_shuffle(a, b, I{(N & DISTANCE ? LANES + N : N)...});
  const V given = __builtin_shuffle(b, a, I{(N & DISTANCE ? LANES + N : N)...});
  return kept + __builtin_shuffle(given, I{(N ^ DISTANCE)...});
#endif
}

// Lane n of x[0] becomes the sum of all lanes that began as those of x[n]: of COUNT vectors, whose lanes are sums of
// DISTANCE of these already.
template <int DISTANCE, int COUNT, class V> IRC_INLINE void sums_of_lanes(V *x) {
  if constexpr (COUNT > 1) {
    constexpr int LANES = sizeof(V) / sizeof(x[0][0]);
#pragma GCC unroll 16
    for (int n = 0; n < COUNT / 2; n++) x[n] = fold_lanes<DISTANCE>(x[2 * n], x[2 * n + 1], std::make_integer_sequence<int, LANES>());
    sums_of_lanes<2 * DISTANCE, COUNT / 2>(x);
  }
}

template <class T> constexpr int lanes_of = sizeof(typename Vectors<T>::vec) / sizeof(T);

// The features from f on of a row of WIDTH, which may end there.
template <class V, int WIDTH, bool WHOLE, class E> IRC_INLINE V load_features(const E *row, int f) {
  typedef typename VectorTraits<V>::element T;
  if constexpr (WHOLE) return load_as<V>(row + f);
  else return load_units<Single<T>>(row, f, WIDTH);
}

// Features of a row that share a line of the cache, and are fetched at once: whole vectors.
template <class T, class E> constexpr int OF_LINE = std::max<int>(sizeof(typename Vectors<T>::vec) / sizeof(T), 64 / sizeof(E));

// Fetches what comes next into the first cache (CACHE = 1) or the second, a line at a time, in the order of memory, which
// processors foresee: of each token the rows of all heads, which lie `step` apart. A fetch waits for the one before, since
// its place is kept in memory: it then asks about as often as memory answers, where faster ones would hold up all else.
template <class T, class E, int WIDTH, int COLUMNS, int CACHE> class Fetch {
 public:
  void begin(const E *const *rows, int64_t heads, int64_t step) {
    rows_ = rows, heads_ = heads, step_ = step, column_ = 0, head_ = 0, at_ = rows[0], end_ = at_ + WIDTH;
  }
  __attribute__((always_inline)) void line() {
    __builtin_prefetch(at_, 0, 4 - CACHE);
    at_ += OF_LINE<T, E>;
    if (at_ < end_) return;
    if (++head_ == heads_) head_ = 0, column_ += column_ + 1 < COLUMNS;
    at_ = rows_[column_] + head_ * step_, end_ = at_ + WIDTH;
  }

 private:
  const E *const *rows_, *at_, *end_;
  int64_t heads_, step_, column_, head_;
};

// A matrix operand of the columns: pointers to rows of WIDTH features of type E, wherever they lie, of one stretch of
// columns and of the next, which is fetched into the caches meanwhile.
template <class T, class E, int WIDTH, int COLUMNS, int CACHE> class Stream {
  typedef typename Vectors<T>::vec V;
  static constexpr int LANES = sizeof(V) / sizeof(T);

 public:
  // To be filled with the rows of the stretch after the present one, of the first of the heads that are walked together,
  // of which `known` then says how many there are, and how far the heads lie apart. Rows beyond them are zeros; where there
  // is no further stretch, those at hand are fetched.
  const E **ahead() { return rows_[!now_]; }
  void known(int count, int64_t heads, int64_t step) {
    const E **to = rows_[!now_];
    for (int n = count; n < COLUMNS; n++) to[n] = count > 0 ? zeros_ : rows_[now_][n];
    count_[!now_] = count;
    fetch_.begin(to, heads, step);
  }
  // The same for rows that are evenly spaced.
  void even(const E *first, int64_t step) {
    for (int n = 0; n < COLUMNS; n++) rows_[!now_][n] = first + n * step;
  }
  void advance() { now_ = !now_, known_ = -1; }
  // To the next head, whose rows lie `step` from those at hand.
  void aside(int64_t step) {
    for (int n = 0; n < count_[now_]; n++) rows_[now_][n] += step;
    known_ = -1;
  }

  // The same of numbers that are computed: value(n, to) writes those of row n.
  template <class Value> void evaluate(int count, Value value) {
    values_.hold(COLUMNS * WIDTH);
    for (int n = 0; n < count; n++) {
      T *const to = values_ + n * WIDTH;
      value(n, to);
      ahead()[n] = to;
    }
    known(count, 1, 0);
    advance();
    known(0, 1, 0);
  }

  const E *const *rows() const { return rows_[now_]; }
  Fetch<T, E, WIDTH, COLUMNS, CACHE> &fetch() { return fetch_; }

  bool is_finite() {
    if (known_ >= 0) return known_ != 0;
    known_ = 1;
    if constexpr (is_whole<E>) std::fill_n(finite_, count_[now_], true);
    else for (int n = 0; n < count_[now_]; n++) {
      auto bad = V{} != V{};
      for (int f = 0; f < WIDTH; f += LANES) bad |= load_units<Single<T>>(rows()[n], f, WIDTH) * T(0) != V{};
      finite_[n] = !any(bad);
      known_ &= finite_[n];
    }
    return known_ != 0;
  }
  bool finite(int column) const { return finite_[column]; }

  // Rows of zeros instead of those that are not finite.
  const E *const *finite_rows() {
    for (int n = 0; n < COLUMNS; n++) finite_rows_[n] = n < count_[now_] && finite_[n] ? rows()[n] : zeros_;
    return finite_rows_;
  }

 private:
  const E *rows_[2][COLUMNS], *finite_rows_[COLUMNS];
  E zeros_[WIDTH] = {};
  bool finite_[COLUMNS];
  int count_[2] = {}, now_ = 0, known_ = -1;
  Fetch<T, E, WIDTH, COLUMNS, CACHE> fetch_;
  Buffer<T> values_;
};

// In what form rows of this width and type are multiplied where they lie: in pairs where they are of bf16 that is wanted so.
template <class Form, class E, int WIDTH>
using InPlace = std::conditional_t<std::is_same<E, typename Form::element>::value && WIDTH % 32 == 0, Form, Single<typename Form::unit>>;

// How many units a query of WIDTH features has, filled up to whole vectors.
template <class Form, int WIDTH>
constexpr int UNITS = ((WIDTH - 1) / (lanes_of<typename Form::unit> * Form::DEPTH) + 1) * lanes_of<typename Form::unit>;

// A query's units, from numbers where it lies or has been computed.
template <class Form, int WIDTH, class T, class E> IRC_ONCE void read_query(T *to, const E *row) {
  for (int n = 0; n < UNITS<Form, WIDTH>; n += lanes_of<T>) store_vector(to + n, load_units<Form>(row, n, WIDTH));
}

// tile[query][column] of QUERIES queries, whose features are filled up to whole vectors of units.
template <class Form, int WIDTH, int QUERIES, int COLUMNS, class T, class E, class Fetch>
void stream_dots_block(T *tile, const T *queries, const E *const *rows, int count, Fetch &fetch) {
  typedef typename Vectors<T>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(T), KEYS = LANES / QUERIES, STEP = LANES * Form::DEPTH;  // numbers in a vector
  for (int column = 0; column < count; column += KEYS) {
    V sums[LANES] = {};
    const E *row[KEYS];
    for (int k = 0; k < KEYS; k++) row[k] = rows[column + k];
    auto add = [&](int f, bool begins_line, auto is_whole) __attribute__((always_inline)) {
      V query[QUERIES];
#pragma GCC unroll 16
      for (int m = 0; m < QUERIES; m++) query[m] = load_vector<V>(queries + m * UNITS<Form, WIDTH> + f / Form::DEPTH);
#pragma GCC unroll 16
      for (int k = 0; k < KEYS; k++) {
        if (begins_line) fetch.line();
        V key;
        if constexpr (Form::DEPTH == 1) key = load_features<V, WIDTH, decltype(is_whole)::value>(row[k], f);
        else key = load_units<Form>(row[k], f / Form::DEPTH, WIDTH);
        IRC_IN_REGISTER(key);
#pragma GCC unroll 16
        for (int m = 0; m < QUERIES; m++) sums[m * KEYS + k] = Form::multiply_add(sums[m * KEYS + k], query[m], key);
      }
    };
    int f = 0;
    for (; f + OF_LINE<T, E> <= WIDTH; f += OF_LINE<T, E>)
#pragma GCC unroll 8
      for (int of_line = 0; of_line < OF_LINE<T, E>; of_line += STEP) add(f + of_line, of_line == 0, std::true_type{});
    for (; f + STEP <= WIDTH; f += STEP) add(f, true, std::true_type{});
    if constexpr (WIDTH % STEP != 0) add(f, true, std::false_type{});
    sums_of_lanes<1, LANES>(sums);
    T each[LANES];
    store_vector(each, sums[0]);
    for (int m = 0; m < QUERIES; m++) std::memcpy(tile + m * COLUMNS + column, each + m * KEYS, KEYS * sizeof(T));
  }
}

// The same of any number of queries.
template <class Form, int WIDTH, int COLUMNS, class T, class E, int CACHE>
void stream_dots(T *tile, const T *queries, int query_count, Stream<T, E, WIDTH, COLUMNS, CACHE> &keys, int count) {
  constexpr int MANY = lanes_of<T> < 4 ? lanes_of<T> : 4;
  auto of = [&](int query, auto many) {
    stream_dots_block<Form, WIDTH, decltype(many)::value, COLUMNS>(tile + query * COLUMNS, queries + query * UNITS<Form, WIDTH>, keys.rows(), count, keys.fetch());
  };
  int query = 0;
  for (; query + MANY <= query_count; query += MANY) of(query, std::integral_constant<int, MANY>{});
  for (; query < query_count; query++) of(query, std::integral_constant<int, 1>{});
}

// Numbers of a tile, rounded to units.
template <class Form, int NUMBERS> struct Units {
  typedef typename Form::unit T;
  static constexpr int LANES = lanes_of<T>, COUNT = NUMBERS / Form::DEPTH;

  alignas(64) T first[(COUNT + LANES - 1) / LANES * LANES];

  explicit Units(const T *numbers) {
    for (int n = 0; n < COUNT; n += LANES) store_vector(first + n, load_units<Form>(numbers, n, NUMBERS));
  }
  typename Form::element &number(int n) { return ((typename Form::element *)first)[n]; }
};

// VECTORS vectors of a unit of rows, from feature f on.
template <class Form, int WIDTH, int VECTORS, bool WHOLE, class V, class E>
IRC_INLINE void load_rows(V (&vectors)[VECTORS], const E *const *rows, int f) {
  constexpr int LANES = sizeof(V) / sizeof(vectors[0][0]);
  if constexpr (Form::DEPTH == 1) {
#pragma GCC unroll 16
    for (int n = 0; n < VECTORS; n++) {
      vectors[n] = load_features<V, WIDTH, WHOLE>(rows[0], f + n * LANES);
      IRC_IN_REGISTER(vectors[n]);
    }
  } else {
#if defined(__AVX512BF16__)
#pragma GCC unroll 16
    for (int n = 0; n < VECTORS; n += 2)
      interleave(*(V(*)[2])(vectors + n), rows[0] + f + n * LANES, rows[1] + f + n * LANES);
#endif
  }
}

// sums[query][f ...] += sum over columns of tile[query][column] * row[column][f ...], the tile in units of columns.
template <class Form, int WIDTH, int QUERIES, int VECTORS, bool WHOLE, int COLUMNS, class T, class E, class Fetch>
IRC_INLINE void stream_product_block(T *sums, const T *tile, const E *const *rows, int count, Fetch &fetch, int f) {
  typedef typename Vectors<T>::vec V;
  typedef T number __attribute__((may_alias));
  constexpr int LANES = sizeof(V) / sizeof(T), FEATURES = (WIDTH + LANES - 1) / LANES * LANES, DEPTH = Form::DEPTH;
  V block[QUERIES][VECTORS];
#pragma GCC unroll 16
  for (int m = 0; m < QUERIES; m++)
#pragma GCC unroll 16
    for (int n = 0; n < VECTORS; n++) block[m][n] = load_vector<V>(sums + m * FEATURES + f + n * LANES);
#pragma GCC unroll 1
  for (int unit = 0; unit < (count + DEPTH - 1) / DEPTH; unit++) {
    V row[VECTORS];
#pragma GCC unroll 16
    for (int n = 0; n < VECTORS; n++)
#pragma GCC unroll 2
      for (int k = 0; k < DEPTH; k++)
        if (n * LANES % OF_LINE<T, E> == 0) fetch.line();
    load_rows<Form, WIDTH, VECTORS, WHOLE>(row, rows + unit * DEPTH, f);
#pragma GCC unroll 16
    for (int m = 0; m < QUERIES; m++) {
      const V weight = splat<V>(((const number *)tile)[m * (COLUMNS / DEPTH) + unit]);
#pragma GCC unroll 16
      for (int n = 0; n < VECTORS; n++) block[m][n] = Form::multiply_add(block[m][n], weight, row[n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < QUERIES; m++)
#pragma GCC unroll 16
    for (int n = 0; n < VECTORS; n++) store_vector(sums + m * FEATURES + f + n * LANES, block[m][n]);
}

template <class Form, int WIDTH, int QUERIES, int COLUMNS, class T, class E, class Fetch>
void stream_product_queries(T *sums, const T *tile, const E *const *rows, int count, Fetch &fetch) {
  constexpr int LANES = lanes_of<T>, VECTORS = FEATURE_VECTORS;
  constexpr int WHOLE = WIDTH / LANES, REST = WHOLE % VECTORS;
  int f = 0;
  for (; f + VECTORS * LANES <= WIDTH; f += VECTORS * LANES)
    stream_product_block<Form, WIDTH, QUERIES, VECTORS, true, COLUMNS>(sums, tile, rows, count, fetch, f);
  if constexpr (REST > 0) {
    stream_product_block<Form, WIDTH, QUERIES, REST, true, COLUMNS>(sums, tile, rows, count, fetch, f);
    f += REST * LANES;
  }
  if constexpr (WIDTH % LANES != 0)
    stream_product_block<Form, WIDTH, QUERIES, 1, false, COLUMNS>(sums, tile, rows, count, fetch, f);
}

template <class Form, int WIDTH, int COLUMNS, class T, class E, int CACHE>
void stream_product(T *sums, const T *tile, int query_count, Stream<T, E, WIDTH, COLUMNS, CACHE> &operand, const E *const *rows, int count) {
  typedef InPlace<Form, E, WIDTH> Used;
  constexpr int LANES = lanes_of<T>, FEATURES = (WIDTH + LANES - 1) / LANES * LANES;
  constexpr int MANY = 4;
  auto of = [&](int query, auto many) {
    constexpr int QUERIES = decltype(many)::value;
    const T *from = tile + query * COLUMNS;
    auto product = [&](const T *units) {
      stream_product_queries<Used, WIDTH, QUERIES, COLUMNS>(sums + query * FEATURES, units, rows, count, operand.fetch());
    };
    if constexpr (Used::DEPTH > 1) {
      Units<Used, QUERIES * COLUMNS> units(from);
      for (int m = 0; m < QUERIES && count % Used::DEPTH; m++) units.number(m * COLUMNS + count) = {};
      product(units.first);
    } else {
      product(from);
    }
  };
  int query = 0;
  for (; query + MANY <= query_count; query += MANY) of(query, std::integral_constant<int, MANY>{});
  for (; query < query_count; query++) of(query, std::integral_constant<int, 1>{});
}

}  // namespace irc
