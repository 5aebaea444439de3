// Matrix products of the steps between kernels. An operand is any tensor: each index of the product has a stride in it.
namespace irc {

// One index of a product: its extent, and its stride in the left operand, the right one and the result (0: not there).
struct Axis {
  int64_t extent, left, right, result;
};

// Indices that run together, the last fastest.
struct Axes {
  const Axis *axes;
  int count;
  int64_t extent = 1;

  Axes(const Axis *all, int number) : axes(all), count(number) {
    for (int n = 0; n < count; n++) extent *= axes[n].extent;
  }
  Axes(std::initializer_list<Axis> all) : Axes(all.begin(), int(all.size())) {}

  // How far the point lies from the first one, by the strides of one tensor.
  int64_t offset(int64_t point, int64_t Axis::*stride) const {
    int64_t total = 0;
    for (int n = count; n-- > 0; point /= axes[n].extent) total += point % axes[n].extent * (axes[n].*stride);
    return total;
  }

  // How far each point lies from the one before; 0 also where that is not the same everywhere.
  int64_t step(int64_t Axis::*stride) const {
    for (int n = 1; n < count; n++)
      if (axes[n - 1].*stride != axes[n].extent * (axes[n].*stride)) return 0;
    return count ? axes[count - 1].*stride : 1;
  }

  // The same for `length` points on end.
  void offsets(int64_t first, int64_t length, int64_t Axis::*stride, int64_t *to) const {
    const int64_t run = count ? axes[count - 1].extent : 1, step = count ? axes[count - 1].*stride : 0;
    for (int64_t n = 0, end = 0; n < length; n = end) {
      end = std::min(length, n + run - (first + n) % run);
      for (int64_t at = offset(first + n, stride); n < end; n++, at += step) to[n] = at;
    }
  }
};

// A tensor of any element type.
enum Type : int { F32, F64, BF16, F16 };
template <class E> constexpr Type type_of = sizeof(E) == 8 ? F64 : sizeof(E) == 4 ? F32 : std::is_same<E, bf16>::value ? BF16 : F16;
struct Tensor {
  void *memory;
  Type type;

  // what(its first element), of the types that are computed in T.
  template <class T, class What> void as(What what) const {
    if constexpr (sizeof(T) == 4) {
      if (type == BF16) return what((bf16 *)memory);
      if (type == F16) return what((f16 *)memory);
    }
    what((T *)memory);
  }
};

template <class E> Tensor tensor(E *memory) { return {(void *)memory, type_of<E>}; }

// `pairs`: numbers may be rounded to bf16, and multiplied in pairs. `absent`: of the left operand (-1) or the right one (1) a 0
// stands for no term, whatever the other one holds there.
struct Matrices {
  Tensor result, left, right;
  Axes batch, rows, columns, inner;
  bool pairs;
  int absent;
};

// f(n) for n below `count`, by this thread alone, or shared out, in which case all are done when it returns.
template <class F> void share(int64_t count, bool alone, F f) {
  if (alone) {
    for (int64_t n = 0; n < count; n++) f(n);
    return;
  }
  #pragma omp for schedule(dynamic, 1)
  for (int64_t n = 0; n < count; n++) f(n);
}

// One thread's part in a product. Operands are packed DEPTH units at a time, into strips of lanes, to[strip][unit][lane]: of the
// left one LEFT lanes, which are broadcast, of the right one RIGHT, in vectors. Matrices take the left one as
// to[strip][lane][unit]. What each DEPTH gives is added in order, so that no bit depends on the number of threads.
template <class Form> class Multiplication {
  typedef typename Form::unit T;
  typedef typename Vectors<T>::vec V;
  static constexpr int LANES = sizeof(V) / sizeof(T), N = Form::MATRICES ? 2 : 3, LEFT = std::max(BLOCK, LANES), RIGHT = N * LANES;
  static constexpr int DEPTH = 192, DEEP = DEPTH * Form::DEPTH;  // units, and the same in numbers
  static constexpr int ABREAST = 5;  // strips whose sums of one row are in registers
  static constexpr int64_t HEIGHT = 12 * LEFT, COLUMNS = 40 * RIGHT;  // rows of a tile, columns packed at once
  static constexpr int64_t SMALL = 1 << 17;  // numbers of a result that may wait in it, where the second cache holds them

 public:
  // What the threads share where there are several tiles of rows, or a long one: the right operand, packed, and where sums are
  // not finished at once and cannot wait in the result these, [strip][row][lane].
  struct Shared {
    const bool one_tile, waiting;
    const int64_t rows;
    Buffer<T> right, sums;

    explicit Shared(const Matrices &all)
        : one_tile(all.rows.extent <= HEIGHT && all.rows.extent * all.inner.extent <= 4 * HEIGHT * DEEP),
          waiting(!one_tile && all.inner.extent > DEEP &&
                  (all.result.type != type_of<T> || all.rows.extent * all.columns.extent > SMALL)),
          rows(waiting ? std::min(4 * HEIGHT, up(all.rows.extent, LEFT)) : all.rows.extent),
          right(one_tile ? 0 : std::min(COLUMNS, up(all.columns.extent, RIGHT)) * DEPTH),
          sums(waiting ? std::min(COLUMNS, up(all.columns.extent, RIGHT)) * rows : 0) {}
  };

  Multiplication(const Matrices &all, Shared &shared, bool alone)
      : all_(all), shared_(shared), alone_(alone),
        left_(std::min(HEIGHT, up(all.rows.extent, LEFT)) * (shared.one_tile ? up(all.inner.extent, DEEP) / Form::DEPTH : DEPTH)),
        right_(shared.one_tile ? RIGHT * DEPTH : 0), sums_(HEIGHT * RIGHT) {}

  // One entry of the batch.
  void run(int64_t entry) {
    entry_ = entry;
    if (shared_.one_tile) return one_tile();
    for (int64_t row = 0; row < all_.rows.extent; row += shared_.rows)
      for (int64_t column = 0; column < all_.columns.extent; column += COLUMNS)
        for (int64_t first = 0; first < std::max<int64_t>(all_.inner.extent, 1); first += DEEP) add(row, column, first);
  }

 private:
  // A rectangle of the result.
  struct Part {
    int64_t row, column;
    int rows, columns;
  };

  static int64_t up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }
  int depth(int64_t first) const { return int(std::min<int64_t>(DEEP, all_.inner.extent - first)); }

  // Few rows: each strip of the right operand is packed by who multiplies it, or not at all.
  void one_tile() {
    const int64_t rows = all_.rows.extent, columns = all_.columns.extent, height = up(rows, LEFT);
    for (int64_t first = 0; first < all_.inner.extent; first += DEEP) pack_left(left_ + first / Form::DEPTH * height, 0, rows, first);
    const int64_t abreast = rows == 1 && all_.columns.count == 1 ? columns / (ABREAST * RIGHT) : 0;
    const int64_t done = abreast > 0 && in_place({0, 0, 1, RIGHT}, 0) ? abreast * ABREAST : 0;
    share(done / ABREAST, alone_, [&](int64_t n) { one_row(n * ABREAST * RIGHT); });
    share(up(columns, RIGHT) / RIGHT - done, alone_, [&](int64_t n) {
      const int64_t strip = done + n;
      const Part part{0, strip * RIGHT, int(rows), int(std::min<int64_t>(RIGHT, columns - strip * RIGHT))};
      for (int64_t first = 0; first < std::max<int64_t>(all_.inner.extent, 1); first += DEEP) {
        const T *right = in_place(part, first);
        const int64_t step = right ? all_.inner.axes[0].right : RIGHT;
        if (!right) right = pack<RIGHT>(right_, all_.right, &Axis::right, all_.columns, part.column, part.columns, first);
        multiply_strip(sums_, part, {left_ + first / Form::DEPTH * height, 0, 0}, right, step, units<Form>(depth(first)), first == 0);
      }
      store(sums_, part);
    });
  }

  // Columns of one row from `column` on. What is read of the right operand lies side by side, as far as it can.
  void one_row(int64_t column) {
    for (int64_t first = 0; first < std::max<int64_t>(all_.inner.extent, 1); first += DEEP)
      add_block<1, ABREAST * N>(sums_, left_ + first / Form::DEPTH * LEFT, 1, LEFT, in_place({0, column, 1, RIGHT}, first), all_.inner.axes[0].right, units<Form>(depth(first)), first == 0);
    for (int strip = 0; strip < ABREAST; strip++) store(sums_ + strip * RIGHT, {0, column + strip * RIGHT, 1, RIGHT});
  }

  // A strip of the right operand where it lies as it would be packed, but for the distance from unit to unit.
  const T *in_place(const Part &part, int64_t first) const {
    if (Form::DEPTH != 1 || all_.right.type != type_of<T> || all_.inner.count != 1 || part.columns != RIGHT) return nullptr;
    int64_t lanes[RIGHT];
    all_.columns.offsets(part.column, RIGHT, &Axis::right, lanes);
    if (!in_steps_of_one(lanes, RIGHT)) return nullptr;
    return (const T *)all_.right.memory + all_.batch.offset(entry_, &Axis::right) + lanes[0] + first * all_.inner.axes[0].right;
  }

  static bool in_steps_of_one(const int64_t *places, int count) {
    bool in_steps = true;
    for (int n = 1; n < count; n++) in_steps &= places[n] == places[n - 1] + 1;
    return in_steps;
  }

  // What the numbers from `first` on add to the sums of these rows and columns; the last ones finish them.
  void add(int64_t row, int64_t column, int64_t first) {
    const int64_t rows = std::min(shared_.rows, all_.rows.extent - row), columns = std::min(COLUMNS, all_.columns.extent - column);
    const int64_t fewest = up(rows, HEIGHT) / HEIGHT, tall = up(up(rows, fewest) / fewest, LEFT), tiles = up(rows, tall) / tall;
    const int64_t strips = up(columns, RIGHT) / RIGHT, parts = alone_ ? 1 : std::min(strips, up(4 * omp_get_num_threads(), tiles) / tiles);
    const bool last = first + DEEP >= all_.inner.extent;
    auto width = [&](int64_t strip) { return int(std::min<int64_t>(RIGHT, columns - strip * RIGHT)); };
    share(strips, alone_, [&](int64_t strip) {
      pack<RIGHT>(shared_.right + strip * RIGHT * DEPTH, all_.right, &Axis::right, all_.columns, column + strip * RIGHT, width(strip), first);
    });
    share(tiles * parts, alone_, [&](int64_t task) {
      const int64_t begin = task / parts * tall, end = std::min(begin + tall, rows), number = task % parts;
      const Left left = left_rows(row + begin, end - begin, first);
      for (int64_t strip = strips * number / parts; strip < strips * (number + 1) / parts; strip++) {
        const Part part{row + begin, column + strip * RIGHT, int(end - begin), width(strip)};
        T *const sums = shared_.waiting ? shared_.sums + (strip * shared_.rows + begin) * RIGHT : sums_;
        if (first > 0 && !shared_.waiting) fetch(sums, part);
        multiply_strip(sums, part, left, shared_.right + strip * RIGHT * DEPTH, RIGHT, units<Form>(depth(first)), first == 0);
        if (last || !shared_.waiting) store(sums, part);
      }
    });
  }

  // Rows of the left operand: packed, or where they lie, `apart` from each other, and their units `step`.
  struct Left {
    const T *rows;
    int64_t apart, step;
  };

  Left left_rows(int64_t row, int64_t count, int64_t first) {
    const int64_t apart = all_.rows.step(&Axis::left), inner = all_.inner.step(&Axis::left);
    const int64_t from = all_.batch.offset(entry_, &Axis::left) + all_.rows.offset(row, &Axis::left) + first * inner;
    const auto place = uintptr_t(all_.left.memory) + from * int64_t(sizeof(T) / Form::DEPTH);
    const bool as_units = all_.left.type == (Form::DEPTH == 1 ? type_of<T> : BF16) && (Form::DEPTH == 1 ? inner != 0 : inner == 1);
    const bool whole = apart % Form::DEPTH == 0 && all_.inner.extent % Form::DEPTH == 0 && place % sizeof(T) == 0;
    if (!Form::MATRICES && as_units && whole && apart) return {(const T *)place, apart / Form::DEPTH, inner};
    pack_left(left_, row, count, first);
    return {left_, 0, 0};
  }

  void pack_left(T *to, int64_t row, int64_t count, int64_t first) {
    for (int64_t lane = 0; lane < count; lane += LEFT, to += LEFT * DEPTH)
      pack<LEFT>(to, all_.left, &Axis::left, all_.rows, row + lane, int(std::min<int64_t>(LEFT, count - lane)), first);
  }

  // `count` lanes of an operand, the numbers from `first` on, as one strip.
  template <int WIDTH> T *pack(T *to, Tensor from, int64_t Axis::*stride, const Axes &axes, int64_t lane, int count, int64_t first) {
    int64_t lanes[WIDTH], places[DEEP];
    axes.offsets(lane, count, stride, lanes);
    all_.inner.offsets(first, depth(first), stride, places);
    from.as<T>([&](auto *memory) { pack_strip<WIDTH>(to, memory + all_.batch.offset(entry_, stride), lanes, count, places, depth(first)); });
    return to;
  }

  template <int WIDTH, class E> void pack_strip(T *to, const E *from, const int64_t *lanes, int count, const int64_t *places, int length) {
    const E *rows[std::max(WIDTH, DEEP)];
    const bool in_order = in_steps_of_one(places, length);
    constexpr bool TURNED = Form::MATRICES && WIDTH == LEFT;
    T *const packed = TURNED ? turned_.hold(DEPTH * WIDTH) : to;
    if (count > 1 && !in_order && in_steps_of_one(lanes, count)) {
      for (int k = 0; k < length; k++) rows[k] = from + places[k] + lanes[0];
      pack_along<Form, WIDTH>(packed, length, length, Rows<const E>{rows, nullptr, 0}, count);
    } else {
      E *const values = in_order ? nullptr : (E *)values_.hold(WIDTH * DEEP);
      for (int n = 0; n < count; n++) {
        rows[n] = in_order ? from + lanes[n] + places[0] : values + n * DEEP;
        for (int k = 0; k < length && !in_order; k++) values[n * DEEP + k] = from[lanes[n] + places[k]];
      }
      pack_across<Form>(packed, WIDTH, count, Rows<const E>{rows, nullptr, 0}, length);
    }
#if defined(IRC_MATRICES)
    const int end = units<Form>(length);
    if constexpr (TURNED) turn<DEPTH>(to, packed, end, WIDTH);
    else if constexpr (Form::MATRICES) std::fill_n(to + end * WIDTH, (up(end, amx::SIDE) - end) * WIDTH, 0);
#endif
  }

  // Sums of the rows of a tile in one strip of the right operand, whose units lie `step` apart.
  void multiply_strip(T *sums, const Part &part, Left left, const T *right, int64_t step, int depth, bool begins) {
#if defined(IRC_MATRICES)
    if constexpr (Form::MATRICES) {
      for (int row = 0; row < part.rows; row += LEFT) row_product_matrices<1>(sums + row * RIGHT, begins, nullptr, left.rows + row * DEPTH, DEPTH, right, depth);
      return;
    }
#endif
    in_vectors(part, [&](auto vectors) {
      constexpr int count = decltype(vectors)::value;
      int row = 0;
      for (; row < part.rows && !left.apart; row += BLOCK)
        add_block<BLOCK, count>(sums + row * RIGHT, left.rows + row / LEFT * LEFT * DEPTH + row % LEFT, 1, LEFT, right, step, depth, begins);
      auto in_place = [&](auto rows) {
        for (; row + rows() <= part.rows; row += rows())
          add_block<decltype(rows)::value, count>(sums + row * RIGHT, left.rows + row * left.apart, left.apart, left.step, right, step, depth, begins);
      };
      in_place(std::integral_constant<int, BLOCK>());
      in_place(std::integral_constant<int, BLOCK / 2>());
      in_place(std::integral_constant<int, 1>());
    });
  }

  // f(as many vectors as hold the part's columns)
  template <class F> void in_vectors(const Part &part, F f) {
    if (N > 1 && part.columns <= LANES) f(std::integral_constant<int, 1>());
    else if (N > 2 && part.columns <= 2 * LANES) f(std::integral_constant<int, 2>());
    else f(std::integral_constant<int, N>());
  }

  template <int M, int VECTORS>
  void add_block(T *sums, const T *left, int64_t left_row, int64_t left_step, const T *right, int64_t step, int depth, bool begins) {
    V block[M][VECTORS];
    clear(block);
    multiply<Form, M, VECTORS>(block, left, left_row, left_step, right, step, depth);
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
      for (int n = 0; n < VECTORS; n++) {
        T *const at = sums + m * RIGHT + n * LANES;
        store_vector(at, begins ? block[m][n] : load_vector<V>(at) + block[m][n]);
      }
  }

  // f(the result's row m, its places from there, whether these are in steps of one)
  template <class F> void each_row(const Part &part, F f) {
    int64_t rows[HEIGHT], columns[RIGHT];
    all_.rows.offsets(part.row, part.rows, &Axis::result, rows);
    all_.columns.offsets(part.column, part.columns, &Axis::result, columns);
    const bool in_steps = in_steps_of_one(columns, part.columns);
    all_.result.as<T>([&](auto *memory) {
      for (int m = 0; m < part.rows; m++) f(m, memory + all_.batch.offset(entry_, &Axis::result) + rows[m], columns, in_steps);
    });
  }

  // Rounded once.
  void store(const T *sums, const Part &part) {
    each_row(part, [&](int m, auto *row, const int64_t *places, bool in_steps) {
      if (in_steps) unpack_row(row + places[0], sums + m * RIGHT, part.columns);
      for (int n = 0; n < part.columns && !in_steps; n++) irc::store(row[places[n]], sums[m * RIGHT + n]);
    });
  }

  // What was stored, where nothing had to be rounded.
  void fetch(T *sums, const Part &part) {
    each_row(part, [&](int m, auto *row, const int64_t *places, bool in_steps) {
      for (int n = 0; n < part.columns && in_steps; n++) sums[m * RIGHT + n] = load<T>(row[places[0] + n]);
      for (int n = 0; n < part.columns && !in_steps; n++) sums[m * RIGHT + n] = load<T>(row[places[n]]);
    });
  }

  const Matrices &all_;
  Shared &shared_;
  const bool alone_;
  Buffer<T> left_, right_, sums_, turned_, values_;
  int64_t entry_;
};

template <class Form> void multiply_matrices(const Matrices &all, int threads) {
  typedef Multiplication<Form> Part;
  const bool apart = all.batch.extent >= threads;  // each entry is one thread's
  typename Part::Shared together(all);
  // As much as is worth a thread; reading the right operand is as much work as eight rows.
  const double work = double(all.batch.extent) * double(all.rows.extent + 8) * double(all.columns.extent) * double(all.inner.extent) / (1 << 24);
  #pragma omp parallel num_threads(team(threads, int64_t(std::min(work, 1e6))))
  {
    [[maybe_unused]] const typename Form::Registers registers;
    if (apart && omp_get_num_threads() > 1) {
      typename Part::Shared shared(all);
      Part part(all, shared, true);
      #pragma omp for schedule(dynamic, 1)
      for (int64_t entry = 0; entry < all.batch.extent; entry++) part.run(entry);
    } else {
      Part part(all, together, omp_get_num_threads() == 1);
      for (int64_t entry = 0; entry < all.batch.extent; entry++) part.run(entry);
    }
  }
}

// A result that is finite has no such term that counts. Others are summed once more, without them.
template <class T> void leave_out_absent(const Matrices &all, int threads) {
  const int64_t rows = all.rows.extent, columns = all.columns.extent, terms = all.inner.extent;
  const int64_t along = all.columns.step(&Axis::result);
  all.result.as<T>([&](auto *result) {
    all.left.as<T>([&](auto *left) {
      all.right.as<T>([&](auto *right) {
        #pragma omp parallel for num_threads(team(threads, all.batch.extent * rows * columns / POINTS + 1))
        for (int64_t row = 0; row < all.batch.extent * rows; row++) {
          auto at = [&](int64_t Axis::*stride) { return all.batch.offset(row / rows, stride) + all.rows.offset(row % rows, stride); };
          const int64_t to = at(&Axis::result), from_left = at(&Axis::left), from_right = at(&Axis::right);
          for (int64_t column = 0; column < columns; column++) {
            auto &found = result[to + (along ? column * along : all.columns.offset(column, &Axis::result))];
            if (std::isfinite(load<T>(found))) continue;
            T sum = 0;
            for (int64_t term = 0; term < terms; term++) {
              const T a = load<T>(left[from_left + all.inner.offset(term, &Axis::left)]);
              const T b = load<T>(right[from_right + all.columns.offset(column, &Axis::right) + all.inner.offset(term, &Axis::right)]);
              if ((all.absent < 0 ? a : b) != 0) sum += a * b;
            }
            irc::store(found, sum);
          }
        }
      });
    });
  });
}

// result = sum over `inner` of left * right, rounded once: of doubles in doubles, else in floats. `rows` are indices of the
// left operand alone, `columns` of the right one, `batch` of both.
inline void product(const Matrices &all, int threads) {
  if (all.result.type == F64) multiply_matrices<Single<double>>(all, threads);
  else if (all.pairs) multiply_matrices<Pair>(all, threads);
  else multiply_matrices<Single<float>>(all, threads);
  if (all.absent && all.result.type == F64) leave_out_absent<double>(all, threads);
  else if (all.absent) leave_out_absent<float>(all, threads);
}

}  // namespace irc
