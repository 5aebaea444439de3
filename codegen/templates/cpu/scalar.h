// Scalars: storage types, and every operation of an expression. Integers floor as in Python; a minimum or a maximum
// with NaN is NaN; nothing traps.
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "kernels have to tell infinity and NaN: compile without -ffast-math and -ffinite-math-only"
#endif

namespace irc {

// Threads for so many tasks: waking one that has none takes longer than a small kernel. `POINTS` of a loop are a task.
constexpr int64_t POINTS = 4096;
inline int team(int threads, int64_t tasks) { return (int)std::max<int64_t>(1, std::min<int64_t>(threads, tasks)); }

struct bf16 {
  uint16_t bits;
};

inline float widen(bf16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Round to nearest, ties to even; a NaN stays one even where the payload's upper half is empty.
inline bf16 to_bf16(float value) {
#ifdef IRC_CUDA
  return bf16{uint16_t(ptx::pack_bf16(value, 0.0f))};
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return bf16{uint16_t(value != value ? (bits >> 16) | 0x40u : rounded)};
#endif
}

#if defined(__aarch64__) && !defined(__clang__) && __GNUC__ < 13
#undef __FLT16_MAX__  // the type is there in C alone
#endif
#ifdef __FLT16_MAX__
typedef _Float16 f16;
inline float widen(f16 x) { return float(x); }
inline f16 to_f16(float value) { return f16(value); }
#else
struct f16 {
  uint16_t bits;
};

#ifdef IRC_CUDA
inline float widen(f16 x) { return ptx::unpack_f16(x.bits); }
inline f16 to_f16(float value) { return f16{uint16_t(ptx::pack_f16(value, 0.0f))}; }
#else
inline float widen(f16 x) {
  uint32_t magnitude = x.bits & 0x7fffu, sign = uint32_t(x.bits & 0x8000u) << 16;
  float value;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    uint32_t bits = sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
    std::memcpy(&value, &bits, sizeof value);
  } else if (magnitude >= 0x400u) {
    uint32_t bits = sign | ((magnitude << 13) + 0x38000000u);
    std::memcpy(&value, &bits, sizeof value);
  } else {
    value = float(magnitude) * 0x1p-24f * (sign ? -1.0f : 1.0f);
  }
  return value;
}

inline f16 to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu, half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds beyond the largest
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: units of 2^-24
    half = uint32_t(std::nearbyint(std::fabs(value) * 0x1p24f));
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return f16{uint16_t(sign | half)};
}
#endif
#endif

struct u8 {  // an integer; a bare uint8_t is a truth
  uint8_t value;
};

// What a tensor's element is, as `T`, int64_t or bool; and back.
template <class T> inline T load(float x) { return T(x); }
template <class T> inline T load(double x) { return T(x); }
template <class T> inline T load(int8_t x) { return T(x); }
template <class T> inline T load(u8 x) { return T(x.value); }
template <class T> inline T load(int16_t x) { return T(x); }
template <class T> inline T load(uint16_t x) { return T(x); }
template <class T> inline T load(int32_t x) { return T(x); }
template <class T> inline T load(uint8_t x) { return T(x != 0); }
template <class T> inline T load(bf16 x) { return T(widen(x)); }
template <class T> inline T load(f16 x) { return T(widen(x)); }

template <class V> inline void store(float &target, V value) { target = float(value); }
template <class V> inline void store(double &target, V value) { target = double(value); }
template <class V> inline void store(int32_t &target, V value) { target = int32_t(value); }
template <class V> inline void store(uint8_t &target, V value) { target = uint8_t(value != 0); }
template <class V> inline void store(bf16 &target, V value) { target = to_bf16(float(value)); }
#ifdef __FLT16_MAX__
template <class V> inline void store(f16 &target, V value) { target = f16(value); }
#else
template <class V> inline void store(f16 &target, V value) { target = to_f16(float(value)); }
#endif

template <class T> constexpr T inf() { return std::numeric_limits<T>::infinity(); }
template <class T> constexpr T nan() { return std::numeric_limits<T>::quiet_NaN(); }

template <class F> using if_floating = std::enable_if_t<std::is_floating_point<F>::value, F>;
template <class A, class B = A>
using if_integer = std::enable_if_t<std::is_integral<A>::value && std::is_integral<B>::value, std::common_type_t<A, B>>;

template <class T, class A> inline std::enable_if_t<std::is_integral<A>::value, T> to_float(A x) { return T(x); }

// By a power of two that is known when it is compiled: loops over shifts become vectors.
#ifdef IRC_CUDA
#define IRC_IF_POWER(b, result)
#else
#define IRC_IF_POWER(b, result) if (__builtin_constant_p(b) && (b) > 0 && ((b) & ((b) - 1)) == 0) return result;
#endif

// Division by zero, which only a branch that is not taken may hold, is 0.
template <class A, class B> inline if_integer<A, B> floordiv(A x, B y) {
  if_integer<A, B> a = x, b = y;
  IRC_IF_POWER(b, a >> __builtin_ctzll((unsigned long long)b))
  if (b == 0) return 0;
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

template <class A, class B> inline if_integer<A, B> mod(A x, B y) {
  if_integer<A, B> a = x, b = y;
  IRC_IF_POWER(b, a & (b - 1))
  if (b == 0) return 0;
  if_integer<A, B> rest = a % b;
  return rest + (rest != 0 && (a < 0) != (b < 0) ? b : 0);
}

// A power of integers, held within ±2^62; an exponent below 0 counts as 0.
template <class A, class B> inline std::enable_if_t<sizeof(if_integer<A, B>) != 0, int64_t> pow(A x, B y) {
  const int64_t most = int64_t(1) << 62, by = x < 0 ? -int64_t(x) : int64_t(x);
  int64_t size = y > 0 && by == 0 ? 0 : 1;
  for (B n = 0; n < y && by > 1 && size < most; n++) size = size > most / by ? most : size * by;
  return x < 0 && y > 0 && y % 2 != 0 ? -size : size;
}

template <class A, class B> inline if_integer<A, B> min(A x, B y) { return y < x ? y : x; }
template <class A, class B> inline if_integer<A, B> max(A x, B y) { return y > x ? y : x; }
template <class A> inline if_integer<A> abs(A x) { return x < 0 ? -x : x; }
template <class A, class B, class C> inline if_integer<if_integer<A, B>, if_integer<C>> clamp(A x, B low, C high) {
  return irc::min(irc::max(x, low), high);
}

// Held at the ends of the type.
template <class Lane> inline Lane held(int64_t x) {
  return Lane(irc::clamp(x, std::numeric_limits<Lane>::min(), std::numeric_limits<Lane>::max()));
}

// How many of n offsets that do not decrease, from the second on, are at most x. Positions are asked for one after
// another, so that the branches are guessed right.
template <class Offset> inline int64_t segment(const Offset *first, int64_t stride, int64_t n, int64_t x) {
  int64_t low = 1, high = n;  // offsets before low are at most x, those from high on are not
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (load<int64_t>(first[middle * stride]) <= x)
      low = middle + 1;
    else
      high = middle;
  }
  return low - 1;
}

template <class F> inline if_floating<F> min(F x, F y) { return y < x || y != y ? y : x; }
#ifdef IRC_CUDA
inline float min(float x, float y) { return ptx::min_nan(x, y); }
#endif
template <class F> inline if_floating<F> max(F x, F y) { return y > x || y != y ? y : x; }
template <class F> inline if_floating<F> clamp(F x, F low, F high) { return irc::min(irc::max(x, low), high); }
template <class F> inline if_floating<F> relu(F x) { return x < F(0) ? F(0) : x; }
template <class F> inline if_floating<F> abs(F x) { return std::fabs(x); }
template <class F> inline if_floating<F> pow(F x, F y) { return std::pow(x, y); }
template <class F> inline if_floating<F> exp(F x) { return std::exp(x); }
template <class F> inline if_floating<F> log(F x) { return std::log(x); }
template <class F> inline if_floating<F> sqrt(F x) { return std::sqrt(x); }
template <class F> inline if_floating<F> rsqrt(F x) { return F(1) / std::sqrt(x); }
template <class F> inline if_floating<F> sin(F x) { return std::sin(x); }
template <class F> inline if_floating<F> cos(F x) { return std::cos(x); }
template <class F> inline if_floating<F> tanh(F x) { return std::tanh(x); }
template <class F> inline if_floating<F> erf(F x) { return std::erf(x); }

// What is subtracted from logits of which `top` is the largest: neither inf nor NaN, so that the weight of a logit of inf is
// inf, as is the sum, and only a logit of NaN makes that NaN. And the weight of `top` itself: 1, of -inf 0.
template <class F> inline if_floating<F> shift_of(F top) {
  return top < std::numeric_limits<F>::max() ? top : std::numeric_limits<F>::max();
}
template <class F> inline if_floating<F> weight_of(F top) { return top == -inf<F>() ? F(0) : 1 + (top - shift_of(top)); }

// Only exp of what is not positive, so that nothing overflows.
template <class F> inline if_floating<F> sigmoid(F x) {
  F small = irc::exp(-std::fabs(x));
  return (x < F(0) ? small : F(1)) / (F(1) + small);
}

// Within 32 bits whatever x is, so that what is computed of it is an integer too: NaN is 0.
template <class F> inline std::enable_if_t<std::is_floating_point<F>::value, int64_t> floor(F x) {
  constexpr int64_t FAR = 2147483647;
  return !(x == x) ? 0 : x >= F(FAR) ? FAR : x <= -F(FAR) ? -FAR : int64_t(std::floor(x));
}

// Philox4x32-7 (Salmon et al. 2011), in place: the four words of each of LANES counters.
template <int LANES> inline void philox(uint64_t seed, uint32_t (&c)[4][LANES]) {
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 7; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    for (int lane = 0; lane < LANES; lane++) {
      uint64_t first = uint64_t(0xd2511f53u) * c[0][lane], second = uint64_t(0xcd9e8d57u) * c[2][lane];
      c[0][lane] = uint32_t(second >> 32) ^ c[1][lane] ^ k0, c[1][lane] = uint32_t(second);
      c[2][lane] = uint32_t(first >> 32) ^ c[3][lane] ^ k1, c[3][lane] = uint32_t(first);
    }
  }
}

// 24 bits for (seed, i, j, k) as a number in [0, 1): the seed is the key and (k / 4, j, i) the counter, of whose words the
// four neighbours along k take one each.
template <class T, class A, class B, class C, class D, class = if_integer<A, B>, class = if_integer<C, D>>
inline T random(A seed, B i, C j, D k) {
  uint32_t c[4][1] = {{uint32_t(uint64_t(int64_t(k)) >> 2)}, {uint32_t(j)}, {uint32_t(i)}, {0}};
  philox<1>(uint64_t(int64_t(seed)), c);
  const uint32_t even = k & 2 ? c[2][0] : c[0][0], odd = k & 2 ? c[3][0] : c[1][0];
  return T((k & 1 ? odd : even) >> 8) * T(0x1p-24);
}

template <class A, class B>
inline std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value, std::common_type_t<A, B>>
where(bool condition, A x, B y) {
  return condition ? x : y;
}

// While one lives, what its thread computes is 0 where it would be subnormal. Weights of far keys pass through such
// numbers on their way to 0, and processors take a hundred times as long for each.
#if defined(__SSE2__)
class FlushToZero {
 public:
  FlushToZero() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8000u); }
  ~FlushToZero() { __builtin_ia32_ldmxcsr(before_); }

 private:
  const unsigned before_;
};
#elif defined(__aarch64__)
class FlushToZero {
 public:
  FlushToZero() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    set(before_ | 1u << 24);
  }
  ~FlushToZero() { set(before_); }

 private:
  static void set(uint64_t value) { asm volatile("msr fpcr, %0" ::"r"(value) : "memory"); }
  uint64_t before_;
};
#else
struct FlushToZero {};
#endif

}  // namespace irc
