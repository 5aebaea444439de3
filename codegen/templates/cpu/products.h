// Matrix products of the steps between kernels. An operand is any tensor: each index of the product has a stride in it.
namespace irc {

// One index of a product: its extent, and its stride in the left operand, the right one and the result (0: not there).
struct Axis {
  int64_t extent, left, right, result;
};

// Indices that run together, the last fastest.
struct Axes {
  const std::initializer_list<Axis> axes;
  int64_t extent = 1;

  Axes(std::initializer_list<Axis> all) : axes(all) {
    for (const Axis &axis : axes) extent *= axis.extent;
  }

  // How far the point lies from the first one, by the strides of one tensor.
  int64_t offset(int64_t point, int64_t Axis::*stride) const {
    int64_t total = 0;
    for (const Axis *axis = axes.end(); axis-- != axes.begin();) {
      total += point % axis->extent * (axis->*stride);
      point /= axis->extent;
    }
    return total;
  }

  // The same for `length` points on end.
  void offsets(int64_t first, int64_t length, int64_t Axis::*stride, int64_t *to) const {
    for (int64_t n = 0; n < length; n++) to[n] = offset(first + n, stride);
  }
};

// A task: one tile of the result, summed over blocks of the depth. The operands are packed into strips, in T.
template <class T> struct ProductTask {
  typedef typename Vectors<T>::vec V;
  static constexpr int64_t LANES = sizeof(V) / sizeof(T), M = BLOCK, N = 3 * LANES;
  static constexpr int64_t HEIGHT = 24 * BLOCK, WIDTH = 4 * N, DEPTH = 256;

  std::vector<T> left = std::vector<T>(HEIGHT * DEPTH), right = std::vector<T>(DEPTH * WIDTH);
  std::vector<T> sums = std::vector<T>(HEIGHT * WIDTH);
  int64_t row_at[HEIGHT], column_at[WIDTH], depth_at[DEPTH];

  // packed[strip][k][n] = source[at[n] + depth_at[k]], with zeros after `count`. The inner loops follow memory.
  template <int64_t STRIP, class E>
  void pack(T *packed, const E *source, const int64_t *at, int64_t count, int64_t depth) const {
    bool consecutive = true;
    for (int64_t n = 1; n < count; n++) consecutive &= at[n] == at[n - 1] + 1;
    if (consecutive) {
      for (int64_t k = 0; k < depth; k++)
        for (int64_t first = 0; first < count; first += STRIP) {
          const E *from = source + depth_at[k] + at[first];
          T *to = packed + first * DEPTH + k * STRIP;
          const int64_t width = std::min(STRIP, count - first);
          for (int64_t n = 0; n < width; n++) to[n] = load<T>(from[n]);
          for (int64_t n = width; n < STRIP; n++) to[n] = 0;
        }
      return;
    }
    for (int64_t first = 0; first < count; first += STRIP)
      for (int64_t k = 0; k < depth; k++) {
        const E *from = source + depth_at[k];
        T *to = packed + first * DEPTH + k * STRIP;
        const int64_t width = std::min(STRIP, count - first);
        for (int64_t n = 0; n < width; n++) to[n] = load<T>(from[at[first + n]]);
        for (int64_t n = width; n < STRIP; n++) to[n] = 0;
      }
  }

  void add_products(int64_t rows, int64_t columns, int64_t depth) {
    for (int64_t column = 0; column < columns; column += N)
      for (int64_t row = 0; row < rows; row += M) {
        V block[M][N / LANES];
        T *to = sums.data() + row * WIDTH + column;
#pragma GCC unroll 16
        for (int m = 0; m < M; m++)
#pragma GCC unroll 16
          for (int n = 0; n < N / LANES; n++) block[m][n] = load_vector<V>(to + m * WIDTH + n * LANES);
        multiply<Single<T>, M, N / LANES>(block, left.data() + row * DEPTH, 1, M, right.data() + column * DEPTH, N, (int)depth);
#pragma GCC unroll 16
        for (int m = 0; m < M; m++)
#pragma GCC unroll 16
          for (int n = 0; n < N / LANES; n++) store_vector(to + m * WIDTH + n * LANES, block[m][n]);
      }
  }

  template <class A, class B> void run(const A *a, const B *b, const Axes &inner, int64_t rows, int64_t columns) {
    std::fill(sums.begin(), sums.end(), T(0));
    for (int64_t first = 0; first < inner.extent; first += DEPTH) {
      const int64_t depth = std::min(DEPTH, inner.extent - first);
      inner.offsets(first, depth, &Axis::left, depth_at);
      pack<M>(left.data(), a, row_at, rows, depth);
      inner.offsets(first, depth, &Axis::right, depth_at);
      pack<N>(right.data(), b, column_at, columns, depth);
      add_products(rows, columns, depth);
    }
  }
};

// result = sum over `inner` of left * right, in T, rounded once. Threads share out tiles of the result.
template <class T, class A, class B, class R>
void product(R *result, const A *left, const B *right, const Axes &batch, const Axes &rows, const Axes &columns,
             const Axes &inner, int threads) {
  typedef ProductTask<T> Task;
  const int64_t row_tiles = (rows.extent + Task::HEIGHT - 1) / Task::HEIGHT;
  const int64_t column_tiles = (columns.extent + Task::WIDTH - 1) / Task::WIDTH;
  #pragma omp parallel num_threads(threads)
  {
    Task task;
    #pragma omp for collapse(3) schedule(static)
    for (int64_t entry = 0; entry < batch.extent; entry++)
      for (int64_t row_tile = 0; row_tile < row_tiles; row_tile++)
        for (int64_t column_tile = 0; column_tile < column_tiles; column_tile++) {
          const int64_t row = row_tile * Task::HEIGHT, column = column_tile * Task::WIDTH;
          const int64_t height = std::min(Task::HEIGHT, rows.extent - row);
          const int64_t width = std::min(Task::WIDTH, columns.extent - column);
          rows.offsets(row, height, &Axis::left, task.row_at);
          columns.offsets(column, width, &Axis::right, task.column_at);
          task.run(left + batch.offset(entry, &Axis::left), right + batch.offset(entry, &Axis::right), inner, height,
                   width);
          rows.offsets(row, height, &Axis::result, task.row_at);
          columns.offsets(column, width, &Axis::result, task.column_at);
          R *to = result + batch.offset(entry, &Axis::result);
          for (int64_t m = 0; m < height; m++)
            for (int64_t n = 0; n < width; n++)
              store(to[task.row_at[m] + task.column_at[n]], task.sums[m * Task::WIDTH + n]);
        }
  }
}

}  // namespace irc
