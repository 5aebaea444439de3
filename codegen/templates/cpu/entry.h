// What the entries of a whole program need besides kernels: room in a workspace, calls, copies, sums of chunks.
namespace irc {

constexpr int64_t ALIGNMENT = 64;  // bytes: a cache line, and the widest vector register

inline int64_t aligned(int64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }
inline char *aligned(const void *memory) { return (char *)aligned((int64_t)memory); }

// A tensor that is in use from the step `first` to the step `last`, both included.
struct Lifetime {
  int64_t bytes, first, last;
};

// Where each tensor lies: at the lowest place that is free all through its life. Answers how many bytes that takes,
// with room to start on a cache line.
template <int COUNT> int64_t arrange(const Lifetime (&tensors)[COUNT], int64_t *offsets) {
  int64_t end = 0;
  for (int n = 0; n < COUNT; n++) {
    const int64_t bytes = aligned(tensors[n].bytes);
    int64_t place = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (int other = 0; other < n; other++) {
        const bool together = tensors[other].first <= tensors[n].last && tensors[n].first <= tensors[other].last;
        const int64_t other_end = offsets[other] + aligned(tensors[other].bytes);
        if (together && offsets[other] < place + bytes && place < other_end) place = other_end, moved = true;
      }
    }
    offsets[n] = place;
    end = std::max(end, place + bytes);
  }
  return end == 0 ? 0 : end + ALIGNMENT;
}

template <class E> void clear(E *tensor, int64_t count) { std::memset((void *)tensor, 0, count * sizeof(E)); }

typedef void Kernel(void *const *, const int64_t *const *, const int64_t *, int);

template <int COUNT>
void call(Kernel *kernel, const void *const (&data)[COUNT], const std::initializer_list<int64_t> (&strides)[COUNT],
          std::initializer_list<int64_t> sizes, int threads) {
  const int64_t *rows[COUNT];
  for (int n = 0; n < COUNT; n++) rows[n] = strides[n].begin();
  kernel(const_cast<void *const *>(data), rows, sizes.begin(), threads);
}

// The least and the greatest entry; of an empty table, as if it could hold anything.
template <class E> void extremes(const E *table, int64_t count, int64_t &least, int64_t &greatest) {
  least = count ? INT32_MAX : INT32_MIN;
  greatest = count ? INT32_MIN : INT32_MAX;
  for (int64_t n = 0; n < count; n++) {
    least = std::min(least, load<int64_t>(table[n]));
    greatest = std::max(greatest, load<int64_t>(table[n]));
  }
}

// One axis of a tensor that is copied: its extent, and the strides of either side.
struct CopiedAxis {
  int64_t extent, to, from;
};

template <class E> void copy(E *to, const E *from, const CopiedAxis *axes, size_t count) {
  if (count == 0) {
    *to = *from;
    return;
  }
  for (int64_t n = 0; n < axes->extent; n++) copy(to + n * axes->to, from + n * axes->from, axes + 1, count - 1);
}

template <class E> void copy(E *to, const E *from, std::initializer_list<CopiedAxis> axes) {
  copy(to, from, axes.begin(), axes.size());
}

// result[n] = the sum of source[chunk][n], one chunk after another, rounded once.
template <class T, class S, class R>
void sum_chunks(R *result, const S *source, int64_t chunks, int64_t count, int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t n = 0; n < count; n++) {
    T total = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) total += load<T>(source[chunk * count + n]);
    store(result[n], total);
  }
}

}  // namespace irc
