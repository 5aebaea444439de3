// The tiles of one side that a tile of the other can touch.
namespace irc {

// Up to N ranges of positions, cut into tiles: each tile that a range touches comes once, in ascending order.
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

 private:
  int64_t tile_, extent_, first_[N], last_[N];
};

}  // namespace irc
