// Panels: rows of numbers brought from where they lie, of any element type, into the layouts that products read; tiles
// that products read; and results brought back.
namespace irc {

// Memory of one task, aligned, uninitialised.
template <class T> class Buffer {
 public:
  explicit Buffer(size_t count = 0) { hold(count); }
  ~Buffer() { std::free(memory_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  operator T *() const { return memory_; }

  // Room for so many; what was there is gone if there was less.
  T *hold(size_t count) {
    if (count <= count_) return memory_;
    std::free(memory_);
    count_ = count;
    return memory_ = (T *)std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64);
  }

 private:
  T *memory_ = nullptr;
  size_t count_ = 0;
};

// A row on its way to the caches, to be read or written.
template <int WIDTH, bool WRITTEN, class E> IRC_INLINE void fetch(const E *row) {
  for (int f = 0; f < WIDTH; f += 64 / sizeof(E)) __builtin_prefetch(row + f, WRITTEN, 3);
}

// Where row n begins, whose features follow each other: `step` elements after the one before, or each at its own place.
template <class E> struct Rows {
  E *const *each;  // null: evenly spaced
  E *first;
  int64_t step;
  E *operator[](int n) const { return each ? each[n] : first + n * step; }
};

// The rows from number `begin` on, `row(n)` points to row n: evenly spaced where a step is given, else found one by one
// (vectors of addresses take the compiler long and save nothing).
template <class E, int COUNT, class Row, class... Step>
IRC_INLINE Rows<E> rows_from(E *(&places)[COUNT], int begin, int count, Row row, Step... step) {
  if constexpr (sizeof...(Step) == 1) return {nullptr, row(begin), step...};
  for (int n = 0; n < count; n++) {
    asm("" : "+r"(n));
    places[n] = row(begin + n);
  }
  return {places, nullptr, 0};
}

// A width that is known when it is compiled; elsewhere an int.
template <int WIDTH> using Fixed = std::integral_constant<int, WIDTH>;

// Rows in the lanes, the features' units one after another: to[unit][lane], `lanes` a multiple of the vector. Lanes from
// `count` on are 0.
template <class Form, class E, class Width>
IRC_ONCE void pack_across(typename Form::unit *to, int lanes, int count, Rows<E> rows, Width width) {
  typedef typename Vectors<typename Form::unit>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(typename Form::unit);
  for (int first = 0; first < lanes; first += LANES)
    for (int unit = 0; unit < units<Form>(width); unit += LANES) {
      V square[LANES];
      for (int n = 0; n < LANES; n++)
        square[n] = first + n < count ? load_units<Form>(rows[first + n], unit, width) : V{};
      transpose(square);
      const int end = std::min(LANES, units<Form>(width) - unit);
      for (int n = 0; n < end; n++) store_vector(to + (unit + n) * lanes + first, square[n]);
    }
}

// Row by row, a row's units one after another: to[row][unit]. Rows from `count` to `end` are 0.
template <class Form, int WIDTH, class E>
IRC_ONCE void pack_rows(typename Form::unit *to, int end, int count, Rows<E> rows) {
  typedef typename Vectors<typename Form::unit>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(typename Form::unit);
  const int row_units = units<Form>(WIDTH);
  for (int n = 0; n < count; n++, to += row_units) {
    const E *from = rows[n];
    int unit = 0;
    for (; unit + LANES <= row_units; unit += LANES) store_vector(to + unit, load_units<Form>(from, unit, WIDTH));
    if (unit < row_units) {
      const V rest = load_units<Form>(from, unit, WIDTH);
      std::memcpy(to + unit, &rest, (row_units - unit) * sizeof *to);
    }
  }
  std::fill_n(to, (end - count) * row_units, 0);
}

// Features in the lanes, units along the rows: to[row / DEPTH][feature], `FEATURES` of them of which those from `width`
// on are 0, and so are rows from `count` on.
template <class Form, int FEATURES, class E, class Width>
IRC_ONCE void pack_along(typename Form::unit *to, int end, int count, Rows<E> rows, Width width) {
  typedef typename Vectors<typename Form::unit>::vec V;
  typedef Single<typename Form::unit> Numbers;
  constexpr int LANES = sizeof(V) / sizeof(typename Form::unit), DEPTH = Form::DEPTH;
  for (int n = 0; n < end; n += DEPTH, to += FEATURES) {
    if (n >= count) {
      std::fill_n(to, FEATURES, 0);
      continue;
    }
    const E *first = rows[n], *second = n + 1 < count ? rows[n + 1] : nullptr;
    int f = 0;
#if defined(__AVX512BF16__)
    if constexpr (DEPTH == 2 && std::is_same<const E, const bf16>::value)
      for (VecF pairs[2]; second && f + 2 * LANES <= width; f += 2 * LANES) {
        interleave(pairs, first + f, second + f);
        store_vector(to + f, pairs[0]);
        store_vector(to + f + LANES, pairs[1]);
      }
#endif
    for (; f < FEATURES; f += LANES) {
      V unit = load_units<Numbers>(first, f, width);
#if defined(__AVX512BF16__)
      if constexpr (DEPTH == 2) unit = pair_of(unit, second ? load_units<Numbers>(second, f, width) : V{});
#endif
      (void)second;
      if (f + LANES <= FEATURES) store_vector(to + f, unit);
      else std::memcpy(to + f, &unit, (FEATURES - f) * sizeof *to);
    }
  }
}

// Units along the tokens, to[feature][unit] from[unit][feature]: `ACROSS` of each feature, from `count` on zeros.
template <int ACROSS, class T> IRC_ONCE const T *turn(T *to, const T *from, int count, int width) {
  typedef typename Vectors<T>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(T);
  for (int unit = 0; unit < ACROSS; unit += LANES)
    for (int f = 0; f < width; f += LANES) {
      V square[LANES];
      for (int n = 0; n < LANES; n++)
        square[n] = unit + n < count ? load_units<Single<T>>(from + (unit + n) * width, f, width) : V{};
      if (unit < count) transpose(square);
      for (int n = 0; n < LANES && f + n < width; n++) store_vector(to + (f + n) * ACROSS + unit, square[n]);
    }
  return to;
}

// Number `f` of token `n` in a panel whose units run along the tokens, `step` units apart.
template <class Form, class T> IRC_INLINE typename Form::element &number(T *panel, int64_t step, int n, int f) {
  return ((typename Form::element *)panel)[place<Form>(n, f, step)];
}

// Which of `tokens` tokens are finite, in a panel whose units run along the tokens, `step` units apart; whether all are. Only
// where some are not, each is looked at.
template <class Form, class T> IRC_ONCE bool finite_tokens(char *finite, const T *panel, int64_t step, int width, int tokens) {
  typedef typename Vectors<T>::vec V;
  typedef typename Vectors<T>::ivec I;
  typedef std::make_unsigned_t<typename Vectors<T>::lane_int> Bits __attribute__((vector_size(sizeof(V))));
  constexpr int LANES = sizeof(V) / sizeof(T);
  // Infinity and NaN have an exponent of ones alone, which carries into the sign when one is added.
  auto of_each = [](Bits bits) { return Form::DEPTH == 1 ? bits : bits | bits >> 16; };
  const Bits infinite = (Bits)(V{} + irc::inf<T>()), exponent = of_each(infinite), one = of_each(infinite & -infinite);
  auto carried = [&](int n) {
    Bits found{};
    for (int f = 0; f < width; f += LANES)
      found |= ((Bits)load_units<Single<T>>(panel + n / Form::DEPTH * step, f, width) & exponent) + one;
    return found;
  };
  auto has = [](Bits found, int number) { return any((I)(number + 1 < Form::DEPTH ? found << 16 : found) < 0); };
  Bits found{};
  for (int n = 0; n < tokens; n += Form::DEPTH) found |= carried(n);
  if (!has(found, 0) && !has(found, Form::DEPTH - 1)) return true;
  for (int n = 0; n < tokens; n++) finite[n] = !has(carried(n), n % Form::DEPTH);
  return false;
}

// The panel's tokens one after another, those that are not finite as 0.
template <class Form, class T>
IRC_SMALL const T *cleaned_tokens(Buffer<T> &copy, const T *panel, int64_t step, int width, int tokens, const char *finite) {
  T *const to = copy.hold(units<Form>(tokens) * width);
  for (int n = 0; n < units<Form>(tokens); n++) std::memcpy(to + n * width, panel + n * step, width * sizeof(T));
  for (int n = 0; n < tokens; n++)
    for (int f = 0; f < width && !finite[n]; f++) number<Form>(to, width, n, f) = {};
  return to;
}

// A matrix operand of the rows, one tile of rows at a time. Dots read it [panel][unit][row], products that sum over rows
// [row / DEPTH][feature], the features filled up to whole vectors.
template <class Form, int WIDTH, int PANEL, int PANELS, bool DOTTED, bool SUMMED> class RowPanel {
  typedef typename Form::unit T;
  static constexpr int LANES = sizeof(typename Vectors<T>::vec) / sizeof(T), ROWS = PANEL * PANELS;

 public:
  static constexpr int VECTORS = (WIDTH + LANES - 1) / LANES, FEATURES = VECTORS * LANES;

  RowPanel() : across_(DOTTED ? ROWS * units<Form>(WIDTH) : 0), along_(SUMMED ? ROWS / Form::DEPTH * FEATURES : 0) {}

  // `row(n)` points to row n; `step`: elements from row to row, where these are evenly spaced.
  template <class Row, class... Step> void read(int count, Row row, Step... step) {
    for (int first = 0; first < count; first += PANEL) {
      decltype(row(0)) places[PANEL];
      const int end = std::min(PANEL, count - first);
      pack(first, end, rows_from(places, first, end, row, step...));
    }
    std::fill_n(known_, PANELS, -1);
  }

  // The same of numbers that are computed: value(n, to) writes those of row n.
  template <class Value> void evaluate(int count, Value value) {
    T *const values = values_.hold(ROWS * WIDTH);
    for (int n = 0; n < count; n++) value(n, values + n * WIDTH);
    read(count, [&](int n) -> const T * { return values + n * WIDTH; }, WIDTH);
  }

  const T *dotted(int row) const { return across_ + row * units<Form>(WIDTH); }
  const T *summed(int row) const { return along_ + row / Form::DEPTH * FEATURES; }
  bool is_finite(int panel) {
    if (known_[panel] < 0)
      known_[panel] = finite_tokens<Form>(finite_ + panel * PANEL, summed(panel * PANEL), FEATURES, FEATURES, PANEL);
    return known_[panel] != 0;
  }
  const char *finite(int row) const { return finite_ + row; }
  const T *cleaned(int row, int count) {
    return cleaned_tokens<Form>(cleaned_, summed(row), FEATURES, FEATURES, Form::MATRICES ? PANEL : count, finite(row));
  }

 private:
  template <class E> void pack(int first, int count, Rows<E> rows) {
    if constexpr (DOTTED) pack_across<Form>((T *)dotted(first), PANEL, count, rows, Fixed<WIDTH>());
    if constexpr (SUMMED) pack_along<Form, FEATURES>((T *)summed(first), PANEL, count, rows, Fixed<WIDTH>());
  }

  Buffer<T> across_, along_;
  Buffer<T> values_, cleaned_;
  int known_[PANELS];
  char finite_[ROWS];
};

// A matrix operand of the columns, one tile of columns at a time. Dots read it [column][unit], products that sum over
// columns [column / DEPTH][feature]; in single numbers that is the same. It is read in place where it lies so. Matrices
// want that of products [feature][column / DEPTH], with zeros after the last column.
template <class Form, int WIDTH, int COLUMNS, bool DOTTED, bool SUMMED> class ColumnPanel {
  typedef typename Form::unit T;
  static constexpr bool ONE = Form::DEPTH == 1, BY_COLUMN = ONE || DOTTED, TURNED = Form::MATRICES && SUMMED;
  static constexpr int ACROSS = (units<Form>(COLUMNS) + 23) / 16 * 16;  // units of a feature: 16 from any block on

 public:
  static constexpr int CLEANED_STEP = TURNED ? ACROSS : WIDTH;
  // Units from column to column; from row of units to row of units; the same, or from feature to feature, where multiplied.
  int64_t dotted_step, summed_step, multiplied_step;

  ColumnPanel()
      : by_column_(BY_COLUMN ? COLUMNS * units<Form>(WIDTH) : 0), along_(!ONE && SUMMED ? COLUMNS / Form::DEPTH * WIDTH : 0),
        turned_(TURNED ? ACROSS * WIDTH : 0) {}

  // `row(n)` points to column n; `step`: elements from column to column, where these are evenly spaced.
  template <class Row, class... Step> void read(int count, Row row, Step... step) {
    decltype(row(0)) places[COLUMNS];
    pack(count, rows_from(places, 0, count, row, step...));
  }

  // The same of numbers that are computed: value(n, to) writes those of column n.
  template <class Value> void evaluate(int count, Value value) {
    T *const values = values_.hold(COLUMNS * WIDTH);
    for (int n = 0; n < count; n++) value(n, values + n * WIDTH);
    read(count, [&](int n) -> const T * { return values + n * WIDTH; }, WIDTH);
  }

  const T *dotted(int column) const { return dotted_ + column * dotted_step; }
  const T *summed(int column) const { return ONE ? dotted(column) : along_ + column / Form::DEPTH * WIDTH; }
  const T *multiplied(int column) const { return TURNED ? turned_ + column / Form::DEPTH : summed(column); }
  bool is_finite() {
    if (known_ < 0) known_ = finite_tokens<Form>(finite_, summed(0), summed_step, WIDTH, count_);
    return known_ != 0;
  }
  const char *finite(int column) const { return finite_ + column; }
  // As multiplied, the tokens that are not finite as 0.
  const T *cleaned(int column, int count) {
    const T *tokens = cleaned_tokens<Form>(cleaned_, summed(column), summed_step, WIDTH, count, finite(column));
    if constexpr (TURNED) return turn<ACROSS, T>(turned_clean_.hold(ACROSS * WIDTH), tokens, units<Form>(count), WIDTH);
    else return tokens;
  }

 private:
  template <class E> void pack(int count, Rows<E> rows) {
    const int end = std::min(COLUMNS, (count + 31) / 32 * 32);  // no block of columns reads beyond
    (void)end;
    dotted_ = by_column_;
    dotted_step = units<Form>(WIDTH);
    if (std::is_same<E, const typename Form::element>::value && WIDTH % Form::DEPTH == 0 && count == COLUMNS && rows.step > 0 &&
        rows.step % Form::DEPTH == 0) {
      dotted_ = (const T *)rows.first;
      dotted_step = rows.step / Form::DEPTH;
    } else if constexpr (BY_COLUMN) {
      pack_rows<Form, WIDTH>((T *)by_column_, end, count, rows);
    }
    if constexpr (!ONE && SUMMED) pack_along<Form, WIDTH>((T *)along_, end, count, rows, Fixed<WIDTH>());
    if constexpr (TURNED) turn<ACROSS, T>(turned_, along_, units<Form>(count), WIDTH);
    summed_step = ONE ? dotted_step : WIDTH;
    multiplied_step = TURNED ? ACROSS : summed_step;
    count_ = count;
    known_ = -1;
  }

  Buffer<T> by_column_, along_, turned_, turned_clean_;
  const T *dotted_;
  Buffer<T> values_, cleaned_;
  int count_, known_;
  char finite_[COLUMNS];
};

// What the values of a tile are kept for: to be read one by one, to be summed over columns, over rows, or to be made of
// logits that lie in their place first.
enum Use { PLAIN = 1, OVER_COLUMNS = 2, OVER_ROWS = 4, LOGITS = 8 };

// One tile value, column by column with `PANEL` rows in the lanes. In single numbers one copy serves every use; pairs
// that are summed over columns are of two columns, [column / 2][row], and pairs summed over rows of two rows.
template <class Form, int PANEL, int USES> class Kept {
  typedef typename Form::unit T;
  typedef typename Vectors<T>::vec V;
  static constexpr int DEPTH = Form::DEPTH, LANES = sizeof(V) / sizeof(T);
  static constexpr bool ONE = DEPTH == 1, IS_PLAIN = ONE || (USES & PLAIN);
  Buffer<T> plain_, over_columns_, over_rows_;

 public:
  explicit Kept(int columns)
      : plain_(IS_PLAIN || (USES & LOGITS) ? columns * PANEL + 2 * LANES : 0),
        over_columns_(!ONE && (USES & OVER_COLUMNS) ? columns / 2 * PANEL : 0),
        over_rows_(!ONE && (USES & OVER_ROWS) ? columns * PANEL / 2 : 0) {}

  T *plain(int column) const { return plain_ + LANES + column * PANEL; }  // a vector more at both ends, for what reads along diagonals
  const T *over_columns(int column) const { return ONE ? plain(column) : over_columns_ + column / 2 * PANEL; }
  const T *over_rows(int column) const { return ONE ? plain(column) : over_rows_ + column * (PANEL / 2); }
  static constexpr int ROW_UNITS = PANEL / DEPTH;  // from one column to the next, summed over rows

  // Lanes from `lane` on of columns n and n + 1; n is even.
  IRC_INLINE_MEMBER void keep(int n, int lane, V first, V second) const {
    if constexpr (IS_PLAIN) {
      store_vector(plain(n) + lane, first);
      store_vector(plain(n + 1) + lane, second);
    }
    keep_units(n, lane, first, second);
  }

  // The same of what is plain already: every column from `begin` to `end` in the units of the sums.
  void keep_units(int begin, int end) const {
    if constexpr (!ONE && (USES & (OVER_COLUMNS | OVER_ROWS)))
      for (int n = begin; n < end; n += 2)
        for (int lane = 0; lane < PANEL; lane += int(sizeof(V) / sizeof(T)))
          keep_units(n, lane, load_vector<V>(plain(n) + lane), n + 1 < end ? load_vector<V>(plain(n + 1) + lane) : V{});
  }

  // Where rows are summed in pairs and their number is odd, the row beyond the last is none; in matrices none is.
  void end_rows(int rows, int begin, int end) const {
    if constexpr (!ONE && (USES & OVER_ROWS))
      for (int row = rows; row < (Form::MATRICES ? PANEL : (rows + 1) / 2 * 2); row++)
        for (int n = begin; n < end; n++) ((bf16 *)over_rows(n))[row].bits = 0;
  }

  // Nor is a column beyond the last in matrices, which sum over 32.
  void end_columns(int begin, int end) const {
    if constexpr (Form::MATRICES && (USES & OVER_COLUMNS))
      for (int n = (end + 1) / 2 * 2; (n - begin) % 32; n += 2) std::fill_n((T *)over_columns(n), PANEL, 0);
    (void)begin, (void)end;
  }

 private:
  IRC_INLINE_MEMBER void keep_units(int n, int lane, V first, V second) const {
    (void)n, (void)lane, (void)first, (void)second;
#if defined(__AVX512BF16__)
    if constexpr (!ONE && (USES & OVER_COLUMNS)) store_vector((T *)over_columns(n) + lane, pair_of(first, second));
    if constexpr (!ONE && (USES & OVER_ROWS)) {
      store_as((bf16 *)over_rows(n) + lane, first);
      store_as((bf16 *)over_rows(n + 1) + lane, second);
    }
#endif
  }
};

// What a row panel's maxima did in its last tile.
enum Growth { UNKNOWN, STEADY, RISING };

// Sums that lie feature by feature with rows in the lanes, from[feature][lane], each lane times its factor if it has one,
// to rows whose features follow each other; with ADDS to what is there, one row after another.
template <bool ADDS, class T, class E>
IRC_ONCE void unpack_across(const T *from, int lanes, int count, int width, const T *factor, Rows<E> rows) {
  typedef typename Vectors<T>::vec V;
  typedef std::conditional_t<std::is_same<E, typename Pair::element>::value, Pair, Single<T>> Form;
  constexpr int LANES = sizeof(V) / sizeof(T), NUMBERS = LANES * Form::DEPTH;
  for (int first = 0; first < count; first += LANES) {
    const V scale = factor ? load_vector<V>(factor + first) : V{} + 1;
    for (int f = 0; f < width; f += NUMBERS) {
      V square[LANES];
      const int end = std::min(NUMBERS, width - f);
      auto number = [&](int n) { return n < end ? load_vector<V>(from + (f + n) * lanes + first) * scale : V{}; };
      for (int n = 0; n < LANES; n++)
        if constexpr (Form::DEPTH == 1) square[n] = number(n);
        else square[n] = pair_of(number(2 * n), number(2 * n + 1));
      transpose(square);
      for (int n = 0; n < LANES && first + n < count; n++) {
        E *to = rows[first + n] + f;
        if constexpr (ADDS) square[n] += load_units<Form>(to, 0, end);
        if constexpr (Form::DEPTH == 2) store_pairs(to, square[n], end);
        else if (end == LANES) store_as(to, square[n]);
        else
          for (int lane = 0; lane < end; lane++) store(to[lane], square[n][lane]);
      }
    }
  }
}

// The first `count` rows of a panel so; `row` and `step` as of panels.
template <int PANEL, bool ADDS, class T, class Row, class... Step>
IRC_INLINE void unpack_panel(const T *from, int count, int width, const T *factor, Row row, Step... step) {
  decltype(row(0)) places[PANEL];
  unpack_across<ADDS>(from, PANEL, count, width, factor, rows_from(places, 0, count, row, step...));
}

// A row of results.
template <class E, class T> IRC_ONCE void unpack_row(E *to, const T *from, int width) {
  typedef typename Vectors<T>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(T);
  int f = 0;
  for (; f + LANES <= width; f += LANES) store_as(to + f, load_vector<V>(from + f));
  for (; f < width; f++) store(to[f], from[f]);
}

// Sums of another task, from number `first` up to `last`; or maxima.
template <class T> IRC_ONCE void add_sums(T *to, const T *from, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; n++) to[n] += from[n];
}
template <class T> IRC_ONCE void take_greater(T *to, const T *from, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; n++) to[n] = max(to[n], from[n]);
}

}  // namespace irc
