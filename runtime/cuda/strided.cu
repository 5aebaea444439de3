// What is done with tensors between kernels, for any element types and strides: copied, converted, summed, multiplied.

namespace strided {

constexpr int AXES = 16;

struct Contraction {
  const void *left, *right;
  void *result;                                   // row-major over the outer axes
  int64_t left_type, right_type, result_type;     // as numbered in `value`; right_type -1: there is no right
  int64_t absent, mends;                          // of the left operand (-1) or the right one (1) a 0 stands for no term;
                                                  // whether the result is there, and right where it is finite
  int64_t outer, axes, points, terms;             // axes from `outer` on are summed over: `terms` for each of `points`
  int64_t extent[AXES], left_stride[AXES], right_stride[AXES];  // strides in elements
};

template <class T> DEVICE T value(const void *data, int64_t type, int64_t at) {
  switch (type) {
    case 0: return irc::load<T>(((const float *)data)[at]);
    case 1: return irc::load<T>(((const double *)data)[at]);
    case 2: return irc::load<T>(((const irc::bf16 *)data)[at]);
    case 3: return irc::load<T>(((const irc::f16 *)data)[at]);
    case 4: return irc::load<T>(((const int32_t *)data)[at]);
    case 6: return irc::load<T>(((const int8_t *)data)[at]);
    case 7: return irc::load<T>(((const irc::u8 *)data)[at]);
    case 8: return irc::load<T>(((const int16_t *)data)[at]);
    case 9: return irc::load<T>(((const uint16_t *)data)[at]);
    default: return irc::load<T>(((const uint8_t *)data)[at]);
  }
}

template <class T> DEVICE void set(void *data, int64_t type, int64_t at, T to) {
  switch (type) {
    case 0: irc::store(((float *)data)[at], to); break;
    case 1: irc::store(((double *)data)[at], to); break;
    case 2: irc::store(((irc::bf16 *)data)[at], to); break;
    case 3: irc::store(((irc::f16 *)data)[at], to); break;
    case 4: irc::store(((int32_t *)data)[at], to); break;
    case 6: ((int8_t *)data)[at] = int8_t(to); break;
    case 7: ((irc::u8 *)data)[at] = irc::u8{uint8_t(to)}; break;
    case 8: ((int16_t *)data)[at] = int16_t(to); break;
    case 9: ((uint16_t *)data)[at] = uint16_t(to); break;
    default: irc::store(((uint8_t *)data)[at], to);
  }
}

// Moves both places to the nth point of the axes first..end-1.
DEVICE void advance(const Contraction &c, int64_t first, int64_t end, int64_t n, int64_t &left, int64_t &right) {
  for (int64_t axis = end - 1; axis >= first; --axis) {
    const int64_t at = n % c.extent[axis];
    n /= c.extent[axis];
    left += at * c.left_stride[axis], right += at * c.right_stride[axis];
  }
}

template <class T> DEVICE void contract(const Contraction &c) {
  const int64_t point = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (point >= c.points || (c.mends && isfinite(value<T>(c.result, c.result_type, point)))) return;
  int64_t left_first = 0, right_first = 0;
  advance(c, 0, c.outer, point, left_first, right_first);
  T sum = 0;
  for (int64_t term = 0; term < c.terms; ++term) {
    int64_t left = left_first, right = right_first;
    advance(c, c.outer, c.axes, term, left, right);
    T one = value<T>(c.left, c.left_type, left);
    if (c.right_type >= 0) {
      const T other = value<T>(c.right, c.right_type, right);
      one = c.absent && (c.absent < 0 ? one : other) == 0 ? T(0) : one * other;
    }
    sum = term ? sum + one : one;  // a copy keeps the sign of 0
  }
  set(c.result, c.result_type, point, sum);
}

}  // namespace strided

KERNEL(contract_f32, 256)(GRID_CONSTANT const strided::Contraction c) { strided::contract<float>(c); }
KERNEL(contract_f64, 256)(GRID_CONSTANT const strided::Contraction c) { strided::contract<double>(c); }
