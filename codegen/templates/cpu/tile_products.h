// Matrix products on tiles: register blocks of broadcast x vectors. Lanes are rows (queries), or features.
namespace irc {

// A block in registers: BLOCK broadcasts x PANEL_VECTORS vectors of rows, or 4 x FEATURE_VECTORS vectors of features. Two
// vectors of rows leave registers for work between the products; where there are few of them, or where vectors are
// short, two leave too little under way.
#if defined(__AVX512F__)
constexpr int BLOCK = 8, PANEL_VECTORS = 2, FEATURE_VECTORS = 4;
#elif defined(__aarch64__)  // 32 registers too
constexpr int BLOCK = 8, PANEL_VECTORS = 3, FEATURE_VECTORS = 4;
#else
constexpr int BLOCK = 4, PANEL_VECTORS = 3, FEATURE_VECTORS = 2;
#endif

// Columns of a block of dots, features of a block of sums.
template <class Form> constexpr int block_of = BLOCK;
#if defined(IRC_MATRICES)
template <> constexpr int block_of<Pair> = amx::SIDE;
#endif

// Left to itself GCC folds the vector into each multiplication as a memory operand: a full load for every FMA.
#if defined(__AVX512F__)
#define IRC_IN_REGISTER(x) asm("" : "+v"(x))
#elif defined(__AVX2__)
#define IRC_IN_REGISTER(x) asm("" : "+x"(x))
#else
#define IRC_IN_REGISTER(x)
#endif

// block[m][n] += sum over k of a[m*a_row + k*a_step] * b[k*b_step + n*lanes ...], all counted in units; `BESIDE` other work,
// whose units it leaves alone.
template <class Form, int M, int N, bool BESIDE = false, class V, class T>
IRC_INLINE void multiply(V (&block)[M][N], const T *a, int64_t a_row, int64_t a_step, const T *b, int64_t b_step,
                         int depth) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  typedef T unit __attribute__((may_alias));
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
      const T *const at = a + m * a_row + k * a_step;
      const V left = BESIDE ? broadcast<V>(at) : splat<V>(*(const unit *)at);
#pragma GCC unroll 16
      for (int n = 0; n < N; n++) block[m][n] = Form::multiply_add(block[m][n], left, right[n]);
    }
  }
}

template <int M, int N, class V> IRC_INLINE void clear(V (&block)[M][N]) {
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = V{};
}

struct Nothing {
  void operator()(int) const {}
};

// M features of one row panel: sums[f][i] = sums[f][i]*rescale[i] + sum over j of panel[j][f] * tile[j][i]; `depth` units
// of columns. Without `rescale` the sums are added to as they are, of the `first` tile there are none. `panel_step`: from
// unit to unit, or for matrices from feature to feature.
template <class Form, int M, int N, class V, class T>
IRC_INLINE void row_product_block(T *sums, bool first, const V *rescale, const T *panel, int64_t panel_step, const T *tile, int depth) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = N * LANES;
  V block[M][N];
  if (first) clear(block);
  else
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
      for (int n = 0; n < N; n++) block[m][n] = load_vector<V>(sums + m * WIDTH + n * LANES);
  if (rescale)
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
      for (int n = 0; n < N; n++) block[m][n] *= rescale[n];
  if constexpr (Form::MATRICES) multiply<Form, M, N>(block, panel, panel_step, 1, tile, WIDTH, depth);
  else multiply<Form, M, N>(block, panel, 1, panel_step, tile, WIDTH, depth);
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) store_vector(sums + m * WIDTH + n * LANES, block[m][n]);
}

#if defined(IRC_MATRICES)
// block[m] = sum over the `UNITS` units u of left[m][u] . right[u][two vectors], in matrix registers, which go on while
// between(…) is done; the units beyond a multiple of 16 in vectors.
template <class Form, int UNITS, class Between>
IRC_INLINE void dot_matrices(VecF (&block)[amx::SIDE][2], const float *left, int64_t step, const float *right, Between between) {
  constexpr int WHOLE = UNITS / amx::SIDE * amx::SIDE;
  amx::clear_sums<1>();
  amx::add_products<1>(left, step, right, WHOLE);
#pragma GCC unroll 1
  for (int m = 0; m < amx::SIDE; m += 2) between(m);
  amx::store_sums<1>((float *)block);
  if constexpr (WHOLE != UNITS)
#pragma GCC unroll 1
    for (int m = 0; m < amx::SIDE; m += BLOCK)
      row_product_block<Form, BLOCK, 2>((float *)block[m], false, (const VecF *)nullptr, left + m * step + WHOLE, step, right + WHOLE * amx::WIDE, UNITS - WHOLE);
}
#endif

// block[m][w] = sum over F features of column panel[m][f] * row panel[f][rows of w]. Summed in registers, then handed over.
// On the way between(0), between(2), … below M: work for units that the multiplications leave idle, where registers are
// many; elsewhere before them.
template <class Form, int F, int M, int N, class V, class T, class Between = Nothing>
IRC_INLINE void dot_block(V (&block)[M][N], const T *columns, int64_t step, const T *rows, Between between = {}) {
#if defined(__AVX512F__)
  constexpr int PARTS = M / 2;
#else
  constexpr int PARTS = 1;
#endif
  constexpr int WIDTH = N * (sizeof(V) / sizeof(T)), PART = units<Form>(F) / PARTS, REST = units<Form>(F) % PARTS;
#if defined(IRC_MATRICES)
  if constexpr (Form::MATRICES) return dot_matrices<Form, units<Form>(F)>(block, columns, step, rows, between);
#endif
  if constexpr (PARTS == 1)
#pragma GCC unroll 1
    for (int m = 0; m < M; m += 2) between(m);
  V sums[M][N];
  clear(sums);
#pragma GCC unroll 1
  for (int part = 0; part < PARTS; part++, columns += PART, rows += PART * WIDTH) {
    multiply<Form, M, N, !std::is_same<Between, Nothing>::value>(sums, columns, step, 1, rows, WIDTH, PART);
    if constexpr (PARTS > 1) between(2 * part);
  }
  multiply<Form, M, N>(sums, columns, step, 1, rows, WIDTH, REST);
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = sums[m][n];
}

// The same for `count` columns, filled up to whole blocks, to memory: tile[column][row].
template <class Form, int F, int N, class V, class T>
IRC_ONCE void dot_tile(T *tile, const T *columns, int64_t step, const T *rows, int count) {
  constexpr int LANES = sizeof(V) / sizeof(T);
#pragma GCC unroll 1
  for (int first = 0; first < count; first += block_of<Form>) {
    V block[block_of<Form>][N];
    dot_block<Form, F>(block, columns + first * step, step, rows);
#pragma GCC unroll 16
    for (int m = 0; m < block_of<Form>; m++)
#pragma GCC unroll 16
      for (int n = 0; n < N; n++) store_vector(tile + ((first + m) * N + n) * LANES, block[m][n]);
  }
}

#if defined(IRC_MATRICES)
// BLOCKS times 16 features of one row panel, in matrix registers; the rest as in row_product_block.
template <int BLOCKS> IRC_INLINE void row_product_matrices(float *sums, bool first, const VecF *rescale, const float *panel, int64_t panel_step, const float *tile, int depth) {
  for (int n = 0; rescale && !first && n < BLOCKS * 2 * amx::SIDE; n++) ((VecF *)sums)[n] *= rescale[n % 2];
  if (first) amx::clear_sums<BLOCKS>();
  else amx::load_sums<BLOCKS>(sums);
  amx::add_products<BLOCKS>(panel, panel_step, tile, (depth + amx::SIDE - 1) / amx::SIDE * amx::SIDE);
  amx::store_sums<BLOCKS>(sums);
}
#endif

// All F features of one row panel, a block at a time.
template <class Form, int F, int N, class V, class T>
IRC_ONCE void row_product(T *sums, bool first, const V *rescale, const T *panel, int64_t panel_step, const T *tile, int depth) {
  constexpr int WIDTH = N * (sizeof(V) / sizeof(T)), REST = F % BLOCK;
  const int64_t feature = Form::MATRICES ? panel_step : 1;
  int f = 0;
#if defined(IRC_MATRICES)
  if constexpr (Form::MATRICES) {
#pragma GCC unroll 1
    for (; f + 2 * amx::SIDE <= F; f += 2 * amx::SIDE)
      row_product_matrices<2>(sums + f * WIDTH, first, rescale, panel + f * feature, panel_step, tile, depth);
    if constexpr (F / amx::SIDE % 2) {
      row_product_matrices<1>(sums + f * WIDTH, first, rescale, panel + f * feature, panel_step, tile, depth);
      f += amx::SIDE;
    }
  }
#endif
#pragma GCC unroll 1
  for (; f + BLOCK <= F; f += BLOCK)
    row_product_block<Form, BLOCK, N>(sums + f * WIDTH, first, rescale, panel + f * feature, panel_step, tile, depth);
  if constexpr (REST != 0)
    row_product_block<Form, REST, N>(sums + f * WIDTH, first, rescale, panel + f * feature, panel_step, tile, depth);
}

// M columns, N vectors of features: sums[j][f] += sum over i of tile[j][i] * panel[i][f]; `depth` units of rows, which lie
// `tile_step` apart in the tile.
template <class Form, int M, int N, class V, class T>
IRC_INLINE void column_product_block(T *sums, int64_t width, const T *tile, int64_t tile_row, int64_t tile_step, const T *panel, int depth) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  V block[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) block[m][n] = load_vector<V>(sums + m * width + n * LANES);
  multiply<Form, M, N>(block, tile, tile_row, tile_step, panel, width, depth);
#pragma GCC unroll 16
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) store_vector(sums + m * width + n * LANES, block[m][n]);
}

// N vectors of features, from the one numbered `first`, of `columns` columns.
template <class Form, int VECTORS, int N, class V, class T>
IRC_INLINE void column_product_strip(T *sums, int columns, const T *tile, int64_t tile_row, const T *panel, int depth,
                                     int first) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = VECTORS * LANES;
#pragma GCC unroll 1
  for (int j = 0; j < columns; j += 4)
    column_product_block<Form, 4, N, V>(sums + j * WIDTH + first * LANES, WIDTH, tile + j * tile_row, tile_row, 1,
                                        panel + first * LANES, depth);
}

// A panel padded to VECTORS vectors of features. Sums are added to of whole blocks of 4 columns, in matrices of 16.
template <class Form, int VECTORS, class V, class T>
IRC_ONCE void column_product(T *sums, int columns, const T *tile, int64_t tile_row, const T *panel, int depth) {
  constexpr int REST = VECTORS % FEATURE_VECTORS;
#if defined(IRC_MATRICES)
  if constexpr (Form::MATRICES) return amx::add_column_products<VECTORS * amx::SIDE>(sums, columns, tile, tile_row, panel);
#endif
#pragma GCC unroll 1
  for (int first = 0; first + FEATURE_VECTORS <= VECTORS; first += FEATURE_VECTORS)
    column_product_strip<Form, VECTORS, FEATURE_VECTORS, V>(sums, columns, tile, tile_row, panel, depth, first);
  if constexpr (REST != 0)
    column_product_strip<Form, VECTORS, REST, V>(sums, columns, tile, tile_row, panel, depth, VECTORS - REST);
}

// Where the panel holds NaN or infinity and pairs are blocked: 0*NaN must not enter. Its copy, in which those tokens are 0,
// goes the usual way, in the same order, so that no bit changes; here their own products are selected and added after.
template <class Form, int F, int N, class V, class T, class Supported>
__attribute__((noinline)) void add_non_finite_to_rows(T *sums, const T *panel, int64_t panel_step, const T *tile, int columns,
                                                      const char *finite, Supported supported) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = N * LANES;
  for (int k = 0; k < columns; k++)
    for (int n = 0; n < N && !finite[k]; n++) {
      const auto wanted = supported(k, n);
      V weight;
      for (int lane = 0; lane < LANES; lane++) weight[lane] = load<T>(number<Form>(tile, WIDTH, k, n * LANES + lane));
      for (int f = 0; f < F; f++) {
        T *place = sums + f * WIDTH + n * LANES;
        const V sum = load_vector<V>(place);
        store_vector(place, select(wanted, sum + weight * load<T>(number<Form>(panel, panel_step, k, f)), sum));
      }
    }
}

template <class Form, int VECTORS, class V, class T, class Supported>
__attribute__((noinline)) void add_non_finite_to_columns(T *sums, int columns, const T *tile, int64_t tile_row,
                                                         const T *panel, int rows, const char *finite, Supported supported) {
  constexpr int LANES = sizeof(V) / sizeof(T), WIDTH = VECTORS * LANES;
  for (int j = 0; j < columns; j++)
    for (int k = 0; k < rows; k++) {
      if (finite[k] || !supported(j, k / LANES)[k % LANES]) continue;
      const T weight = load<T>(((const typename Form::element *)tile)[j * tile_row * Form::DEPTH + k]);
      for (int f = 0; f < WIDTH; f++) sums[j * WIDTH + f] += weight * load<T>(number<Form>(panel, WIDTH, k, f));
    }
}

}  // namespace irc
