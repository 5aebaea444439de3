// Stretches of a side: the tiles to walk, the parts of a stretch, and what a vector holds on each.
namespace irc {

// Up to N ranges of positions, cut into tiles: each tile that a range touches comes once, in either order.
template <int N> class Tiles {
 public:
  const int64_t end;  // one past the last tile of the side

  Tiles(int64_t tile, int64_t extent) : end((extent + tile - 1) / tile), tile_(tile), extent_(extent) {
    std::fill(first_, first_ + N, 0);
    std::fill(last_, last_ + N, -1);
  }

  // Range number k: positions first ... last, inclusive, which may be none or lie beyond the side.
  void add(int k, int64_t first, int64_t last) {
    first = first < 0 ? 0 : first;
    last = last < extent_ ? last : extent_ - 1;
    if (first > last) return;
    first_[k] = first / tile_;
    last_[k] = last / tile_;
  }

  // The first tile from `tile` on; `end` where there is none.
  int64_t next(int64_t tile) const {
    int64_t best = end;
    for (int k = 0; k < N; ++k)
      if (tile <= last_[k]) best = std::min(best, std::max(tile, first_[k]));
    return best;
  }

  // The last tile up to `tile`; -1 where there is none.
  int64_t previous(int64_t tile) const {
    int64_t best = -1;
    for (int k = 0; k < N; ++k)
      if (first_[k] <= last_[k] && first_[k] <= tile) best = std::max(best, std::min(tile, last_[k]));
    return best;
  }

 private:
  int64_t tile_, extent_, first_[N], last_[N];
};

// A stretch cut where it crosses a multiple of `every`: what comes before the first, whole multiples, what comes after
// the last; then the whole ones by the next number. Each part is kept as what `make` says of it.
template <class Part, int N> class Parts {
 public:
  int count = 0;

  Parts() = default;
  template <class Make, class... Every> Parts(Make make, int64_t first, int64_t last, Every... every) {
    (cut(make, first, last, every), ...);
    if (first <= last) part_[count++] = make(first, last);
  }
  const Part *begin() const { return part_; }
  const Part *end() const { return part_ + count; }

 private:
  Part part_[2 * N + 1];

  template <class Make> void cut(Make make, int64_t &first, int64_t &last, int64_t every) {
    if (every <= 0 || first > last) return;
    const int64_t over = first % every, head = std::min(first - over + every - 1, last);
    if (over != 0 || head == last) {
      part_[count++] = make(first, head);
      first = head + 1;
    }
    if (first > last) return;
    const int64_t rest = last % every;
    if (rest != every - 1) {
      part_[count++] = make(last - rest, last);
      last -= rest + 1;
    }
  }
};

template <class Rows, class Columns, class May> bool any_part(const Rows &rows, const Columns &columns, May may) {
  for (const auto &row : rows)
    for (const auto &column : columns)
      if (may(row, column)) return true;
  return false;
}

template <class Rows, class Columns, class Must> bool every_part(const Rows &rows, const Columns &columns, Must must) {
  for (const auto &row : rows)
    for (const auto &column : columns)
      if (!must(row, column)) return false;
  return true;
}

// Least and greatest value of vectors of one length on each unit of positions, and on each tile, some whole units. Both are
// constants, since a verdict that divides by others takes several times as long.
template <int64_t UNIT, int64_t TILE> class Summary {
 public:
  struct Ends {
    int64_t low, high;
  };

  Summary(int64_t points, int64_t extent)
      : points_(points), extent_(extent), units_((extent + UNIT - 1) / UNIT), tiles_((extent + TILE - 1) / TILE),
        unit_ends_(points * units_), tile_ends_(points * tiles_) {}

  template <class Value> void fill(int threads, Value value) {
    #pragma omp parallel for num_threads(team(threads, points_ * extent_ / POINTS + 1)) schedule(static)
    for (int64_t at = 0; at < points_ * tiles_; ++at) {
      const int64_t point = at / tiles_, first = at % tiles_ * TILE;
      Ends &all = tile_ends_[at] = {INT64_MAX, INT64_MIN};
      for (int64_t n = first; n < std::min(first + TILE, extent_); n += UNIT) {
        Ends &ends = unit_ends_[point * units_ + n / UNIT] = {INT64_MAX, INT64_MIN};
        for (int64_t position = n; position < std::min(n + UNIT, extent_); ++position) {
          const int64_t x = value(point, position);
          ends = {std::min(ends.low, x), std::max(ends.high, x)};
        }
        all = {std::min(all.low, ends.low), std::max(all.high, ends.high)};
      }
    }
  }

  // On the units around positions first ... last, or where those are many on the tiles.
  Ends ends(int64_t point, int64_t first, int64_t last) const {
    const int64_t units = last / UNIT - first / UNIT;
    const bool few = units < 4;
    const Ends *found = few ? &unit_ends_[point * units_ + first / UNIT] : &tile_ends_[point * tiles_ + first / TILE];
    Ends all = *found;
    for (int64_t more = few ? units : last / TILE - first / TILE; more > 0; --more)
      ++found, all = {std::min(all.low, found->low), std::max(all.high, found->high)};
    return all;
  }

  // In a vector that does not decrease: the last position of the last unit that holds a value up to x, -1 if none does.
  int64_t last_up_to(int64_t point, int64_t x) const {
    const Ends *units = &unit_ends_[point * units_];
    return (std::partition_point(units, units + units_, [&](const Ends &e) { return e.low <= x; }) - units) * UNIT - 1;
  }

  // And the first position of the first unit that holds a value from x on, or one beyond the last.
  int64_t first_from(int64_t point, int64_t x) const {
    const Ends *units = &unit_ends_[point * units_];
    return (std::partition_point(units, units + units_, [&](const Ends &e) { return e.high < x; }) - units) * UNIT;
  }

 private:
  int64_t points_, extent_, units_, tiles_;
  std::vector<Ends> unit_ends_, tile_ends_;
};

}  // namespace irc
