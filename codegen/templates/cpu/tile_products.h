// Matrix products on tiles: register blocks of broadcast x vectors. Lanes are rows (queries), or features.
namespace irc {

// A block in registers: BLOCK broadcasts x 3 vectors of rows, or 4 x FEATURE_VECTORS vectors of features.
#if defined(__AVX512F__) || defined(__aarch64__)  // 32 registers
constexpr int BLOCK = 8, FEATURE_VECTORS = 4;
#else
constexpr int BLOCK = 4, FEATURE_VECTORS = 2;
#endif

// Left to itself GCC folds the vector into each multiplication as a memory operand: a full load for every FMA.
#if defined(__AVX512F__)
#define IRC_IN_REGISTER(x) asm("" : "+v"(x))
#else
#define IRC_IN_REGISTER(x)
#endif

// block[m][n] += sum over k of a[m*a_row + k*a_step] * b[k*b_step + n*lanes ...]
template <int M, int N, class V, class T>
IRC_INLINE void multiply(V (&block)[M][N], const T *a, int64_t a_row, int64_t a_step, const T *b, int64_t b_step,
                         int depth) {
  constexpr int LANES = sizeof(V) / sizeof(T);
#pragma GCC unroll 1
  for (int k = 0; k < depth; k++) {
    V right[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) {
      V value = load_vector<V>(b + k * b_step + n * LANES);
      IRC_IN_REGISTER(value);
      right[n] = value;
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; m++) {
      V left = splat<V>(a[m * a_row + k * a_step]);
#pragma GCC unroll 16
      for (int n = 0; n < N; n++) block[m][n] += left * right[n];
    }
  }
}

template <int M, int N, class V> IRC_INLINE void clear(V (&block)[M][N]) {
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = V{};
}

// block[m][w] = sum over features of column panel[m][f] * row panel[f][rows of w]. Summed in registers, then handed over.
template <int F, int M, int N, class V, class T>
IRC_INLINE void dot_block(V (&block)[M][N], const T *columns, int64_t step, const T *rows) {
  V sums[M][N];
  clear(sums);
  multiply<M, N>(sums, columns, step, 1, rows, N * (sizeof(V) / sizeof(T)), F);
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = sums[m][n];
}

// M features of one row panel: sums[f][i] = sums[f][i]*rescale[i] + sum over j of panel[j][f] * tile[j][i].
template <int M, int N, class V, class T>
IRC_INLINE void row_product_block(T *sums, const V (&rescale)[N], const T *panel, int64_t panel_step, const T *tile,
                                  int depth) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = N * LANES;
  V block[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = load_vector<V>(sums + m * WIDTH + n * LANES) * rescale[n];
  multiply<M, N>(block, panel, 1, panel_step, tile, WIDTH, depth);
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) store_vector(sums + m * WIDTH + n * LANES, block[m][n]);
}

// All F features of one row panel, M at a time.
template <int F, int M, int N, class V, class T>
IRC_INLINE void row_product(T *sums, const V (&rescale)[N], const T *panel, int64_t panel_step, const T *tile,
                            int depth) {
  constexpr int WIDTH = N * (sizeof(V) / sizeof(T));
  int f = 0;
#pragma GCC unroll 1
  for (; f + M <= F; f += M) row_product_block<M, N>(sums + f * WIDTH, rescale, panel + f, panel_step, tile, depth);
  if constexpr (F % M != 0) row_product_block<F % M, N>(sums + f * WIDTH, rescale, panel + f, panel_step, tile, depth);
}

// M columns, N vectors of features: sums[j][f] += sum over i of tile[j][i] * panel[i][f].
template <int M, int N, class V, class T>
IRC_INLINE void column_product_block(T *sums, int64_t width, const T *tile, int64_t tile_row, const T *panel,
                                     int depth) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  V block[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = load_vector<V>(sums + m * width + n * LANES);
  multiply<M, N>(block, tile, tile_row, 1, panel, width, depth);
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) store_vector(sums + m * width + n * LANES, block[m][n]);
}

// N vectors of features, from the one numbered `first`, of `columns` columns.
template <int VECTORS, int N, class V, class T>
IRC_INLINE void column_product_strip(T *sums, int columns, const T *tile, int64_t tile_row, const T *panel, int depth,
                                     int first) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = VECTORS * LANES;
#pragma GCC unroll 1
  for (int j = 0; j < columns; j += 4)
    column_product_block<4, N, V>(sums + j * WIDTH + first * LANES, WIDTH, tile + j * tile_row, tile_row,
                                  panel + first * LANES, depth);
}

// A panel padded to VECTORS vectors of features, and `columns` columns, a multiple of 4.
template <int VECTORS, class V, class T>
IRC_INLINE void column_product(T *sums, int columns, const T *tile, int64_t tile_row, const T *panel, int depth) {
  constexpr int REST = VECTORS % FEATURE_VECTORS;
#pragma GCC unroll 1
  for (int first = 0; first + FEATURE_VECTORS <= VECTORS; first += FEATURE_VECTORS)
    column_product_strip<VECTORS, FEATURE_VECTORS, V>(sums, columns, tile, tile_row, panel, depth, first);
  if constexpr (REST != 0)
    column_product_strip<VECTORS, REST, V>(sums, columns, tile, tile_row, panel, depth, VECTORS - REST);
}

// The same products where the panel holds NaN or infinity and pairs are blocked: 0*NaN must not enter. What is finite goes
// the usual way, run by run and in the same order, so that no bit changes; the other tokens' products are selected.
template <class Run> void for_each_run(const char *finite, int count, Run run) {
  for (int first = 0, last; first < count; first = last) {
    for (last = first + 1; last < count && finite[last] == finite[first];) ++last;
    run(first, last);
  }
}

template <int F, int M, int N, class V, class T, class Supported>
void guarded_row_product(T *sums, const V (&rescale)[N], const T *panel, int64_t panel_step, const T *tile, int depth,
                         const char *finite, Supported supported) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = N * LANES;
  V ones[N];
  for (int n = 0; n < N; n++) ones[n] = V{} + 1;
  row_product<F, M>(sums, rescale, panel, panel_step, tile, 0);
  for_each_run(finite, depth, [&](int first, int last) {
    if (finite[first]) {
      row_product<F, M>(sums, ones, panel + first * panel_step, panel_step, tile + first * WIDTH, last - first);
      return;
    }
    for (int k = first; k < last; k++)
      for (int n = 0; n < N; n++) {
        const auto wanted = supported(k, n);
        if (!any(wanted)) continue;
        const V weight = load_vector<V>(tile + k * WIDTH + n * LANES);
        for (int f = 0; f < F; f++) {
          T *place = sums + f * WIDTH + n * LANES;
          const V sum = load_vector<V>(place);
          store_vector(place, select(wanted, sum + weight * panel[k * panel_step + f], sum));
        }
      }
  });
}

template <int VECTORS, class V, class T, class Supported>
void guarded_column_product(T *sums, int columns, const T *tile, int64_t tile_row, const T *panel, int depth,
                            const char *finite, Supported supported) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = VECTORS * LANES;
  for_each_run(finite, depth, [&](int first, int last) {
    if (finite[first]) {
      column_product<VECTORS, V>(sums, (columns + 3) / 4 * 4, tile + first, tile_row, panel + first * WIDTH, last - first);
      return;
    }
    for (int j = 0; j < columns; j++)
      for (int k = first; k < last; k++) {
        if (!supported(j, k / LANES)[k % LANES]) continue;
        const V weight = splat<V>(tile[j * tile_row + k]);
        for (int v = 0; v < VECTORS; v++) {
          T *place = sums + j * WIDTH + v * LANES;
          store_vector(place, load_vector<V>(place) + weight * load_vector<V>(panel + k * WIDTH + v * LANES));
        }
      }
  });
}

template <class T> IRC_INLINE bool all_finite(const T *values, int count) {
  typedef typename Vectors<T>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(T);
  V zeros{};  // 0*x is 0 for finite x alone
  T rest = 0;
  int n = 0;
  for (; n + LANES <= count; n += LANES) zeros += load_vector<V>(values + n) * T(0);
  for (; n < count; n++) rest += values[n] * T(0);
  return rest == T(0) && !any(zeros != T(0));
}

// Memory of one task, aligned, uninitialised.
template <class T> class Buffer {
 public:
  explicit Buffer(size_t count) : memory_((T *)std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64)) {}
  ~Buffer() { std::free(memory_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  operator T *() const { return memory_; }

 private:
  T *memory_;
};

}  // namespace irc
