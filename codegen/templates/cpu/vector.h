// Vectors: one register of numbers, or of the integers of the same width (which are masks too: every bit or none).
// Operators are the compiler's own; here are the functions of an expression, with scalars and vectors mixed freely.
namespace irc {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

typedef float VecF __attribute__((vector_size(VECTOR_BYTES)));
typedef double VecD __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t VecI __attribute__((vector_size(VECTOR_BYTES)));
typedef decltype(VecD{} == VecD{}) VecL;  // of int64_t, or of what a compiler has of its size

// The vector of T, its integers, and how many lanes there are.
template <class T> struct Vectors;
template <> struct Vectors<float> { typedef VecF vec; typedef VecI ivec; typedef int32_t lane_int; };
template <> struct Vectors<double> { typedef VecD vec; typedef VecL ivec; typedef int64_t lane_int; };

template <class A> struct VectorTraits { static constexpr bool is = false; typedef A element; };
template <> struct VectorTraits<VecF> { static constexpr bool is = true; typedef float element; typedef VecI mask; };
template <> struct VectorTraits<VecD> { static constexpr bool is = true; typedef double element; typedef VecL mask; };
template <> struct VectorTraits<VecI> { static constexpr bool is = true; typedef int32_t element; typedef VecI mask; };
template <> struct VectorTraits<VecL> { static constexpr bool is = true; typedef int64_t element; typedef VecL mask; };

template <class A> constexpr bool is_vector = VectorTraits<A>::is;
template <class A> constexpr bool is_real = std::is_floating_point<typename VectorTraits<A>::element>::value;
template <class A> using if_vector = std::enable_if_t<is_vector<A>, A>;
template <class A> using if_real_vector = std::enable_if_t<is_vector<A> && is_real<A>, A>;
template <class A> using if_int_vector = std::enable_if_t<is_vector<A> && !is_real<A>, A>;

// The vector type of a mixed pair: the one that is a vector.
template <class A, class B>
using either = std::enable_if_t<is_vector<A> || is_vector<B>, std::conditional_t<is_vector<A>, A, B>>;

#define IRC_INLINE static inline __attribute__((always_inline))
#define IRC_INLINE_MEMBER inline __attribute__((always_inline))
#define IRC_ONCE static __attribute__((noinline))  // compiled once for its types, not in each place: it takes long enough
#define IRC_SMALL IRC_ONCE __attribute__((cold))  // and in little code: run too seldom to be worth a vectoriser's time

// A scalar in every lane; a vector is itself.
template <class V, class A> IRC_INLINE V splat(A x) {
  if constexpr (is_vector<A>) {
    return (V)x;
  } else {
    return (typename VectorTraits<V>::element)(x) - V{};  // x - 0 is x, so nothing but the broadcast is left
  }
}
template <class V> IRC_INLINE V splat_mask(bool x) { return splat<V>(x ? -1 : 0); }
template <class V> IRC_INLINE V splat_mask(V x) { return x; }

// Memory may have been written as another type: pairs of bf16 are read as floats.
template <class V, class E> IRC_INLINE V load_vector(const E *from) {
  typedef V unaligned __attribute__((aligned(sizeof(E)), may_alias));
  return *(const unaligned *)from;
}
template <class V, class E> IRC_INLINE void store_vector(E *to, V value) {
  typedef V unaligned __attribute__((aligned(sizeof(E)), may_alias));
  *(unaligned *)to = value;
}

// A number in memory in every lane. As bits: on Zen 4 a broadcast of floats to 512 bits takes a unit that what is done beside
// multiplications wants, and one of integers is a load alone (benchmarks/NOTES.md).
template <class V, class T> IRC_INLINE V broadcast(const T *from) {
  typedef typename Vectors<T>::lane_int bits __attribute__((may_alias));
  return (V)splat<typename Vectors<T>::ivec>(*(const bits *)from);
}

template <class M, class V> IRC_INLINE V select(M mask, V yes, V no) { return mask ? yes : no; }

template <class M> IRC_INLINE bool any(M mask) {
#if defined(__AVX512F__)
  if constexpr (sizeof(M) == 64) return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  if constexpr (sizeof(M) == 32) return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#endif
  bool found = false;
  for (unsigned lane = 0; lane < sizeof(M) / sizeof(mask[0]); lane++) found |= mask[lane] != 0;
  return found;
}

template <class M> IRC_INLINE bool all(M mask) { return !irc::any(~mask); }

template <class I> IRC_INLINE I numbered_lanes() {
  I numbered;
  for (unsigned lane = 0; lane < sizeof(I) / sizeof(numbered[0]); lane++) numbered[lane] = lane;
  return numbered;
}

// The first `count` lanes.
template <class I> IRC_INLINE I first_lanes(int64_t count) {
  return numbered_lanes<I>() < splat<I>(std::min<int64_t>(count, sizeof(I)));
}

// Each lane takes that of the lane DISTANCE away: neighbours, pairs, … change places. A power of two.
template <int DISTANCE, class V, int... N> IRC_INLINE V exchanged(V x, std::integer_sequence<int, N...>) {
#if defined(__clang__)
  return __builtin_shufflevector(x, x, (N ^ DISTANCE)...);
#else
  return __builtin_shuffle(x, typename VectorTraits<V>::mask{(N ^ DISTANCE)...});
#endif
}

// Lanes by their numbers, which go on from those of x to those of y.
template <int... LANE, class V> IRC_INLINE V chosen(V x, V y) {
#if defined(__clang__)
  return __builtin_shufflevector(x, y, LANE...);
#else
  return __builtin_shuffle(x, y, typename VectorTraits<V>::mask{LANE...});
#endif
}

// All lanes joined to one: their sum, or their maximum.
template <class V, class Join, int DISTANCE = sizeof(V) / sizeof(typename VectorTraits<V>::element) / 2>
IRC_INLINE auto joined(V x, Join join) {
  if constexpr (DISTANCE == 0) return x[0];
  else return joined<V, Join, DISTANCE / 2>(join(x, exchanged<DISTANCE>(x, std::make_integer_sequence<int, sizeof(V) / sizeof(x[0])>())), join);
}

// where(condition, a, b): at least one of the three is a vector; a scalar condition chooses a whole vector.
template <class C, class A, class B, class = std::enable_if_t<is_vector<C> || is_vector<A> || is_vector<B>>>
IRC_INLINE auto where(C condition, A yes, B no) {
  if constexpr (is_vector<A> || is_vector<B>) {
    typedef either<A, B> V;
    if constexpr (is_vector<C>) return select(condition, splat<V>(yes), splat<V>(no));
    else return condition ? splat<V>(yes) : splat<V>(no);
  } else if constexpr (std::is_floating_point<A>::value) {
    typedef typename Vectors<A>::vec V;
    return select(condition, splat<V>(yes), splat<V>(no));
  } else {
    return select(condition, splat<C>(yes), splat<C>(no));
  }
}

template <class V> IRC_INLINE if_vector<V> relu(V x) { return select(x < V{}, V{}, x); }
template <class V> IRC_INLINE if_int_vector<V> abs(V x) { return select(x < V{}, -x, x); }
template <class V> IRC_INLINE if_real_vector<V> abs(V x) {
  typedef typename VectorTraits<V>::mask M;
  typedef typename VectorTraits<M>::element I;
  return (V)((M)x & splat<M>(std::numeric_limits<I>::max()));
}

// The larger; a NaN in the second argument may be lost, one in the first may not.
IRC_INLINE VecF fast_max(VecF x, VecF y) {
#if defined(__AVX512F__)
  return (VecF)_mm512_max_ps((__m512)y, (__m512)x);
#elif defined(__AVX2__)
  return (VecF)_mm256_max_ps((__m256)y, (__m256)x);
#else
  return select(y > x, y, x);
#endif
}
IRC_INLINE VecD fast_max(VecD x, VecD y) {
#if defined(__AVX512F__)
  return (VecD)_mm512_max_pd((__m512d)y, (__m512d)x);
#elif defined(__AVX2__)
  return (VecD)_mm256_max_pd((__m256d)y, (__m256d)x);
#else
  return select(y > x, y, x);
#endif
}

// The smaller; NaN as above.
IRC_INLINE VecF fast_min(VecF x, VecF y) {
#if defined(__AVX512F__)
  return (VecF)_mm512_min_ps((__m512)y, (__m512)x);
#elif defined(__AVX2__)
  return (VecF)_mm256_min_ps((__m256)y, (__m256)x);
#else
  return select(y < x, y, x);
#endif
}
IRC_INLINE VecD fast_min(VecD x, VecD y) {
#if defined(__AVX512F__)
  return (VecD)_mm512_min_pd((__m512d)y, (__m512d)x);
#elif defined(__AVX2__)
  return (VecD)_mm256_min_pd((__m256d)y, (__m256d)x);
#else
  return select(y < x, y, x);
#endif
}

IRC_INLINE VecI fast_max(VecI x, VecI y) { return select(y > x, y, x); }
IRC_INLINE VecI fast_min(VecI x, VecI y) { return select(y < x, y, x); }
IRC_INLINE VecL fast_max(VecL x, VecL y) { return select(y > x, y, x); }
IRC_INLINE VecL fast_min(VecL x, VecL y) { return select(y < x, y, x); }

// NaN in either argument gives NaN: of a second one that is known to be none in one instruction.
template <class A, class B, class V = either<A, B>> IRC_INLINE V min(A a, B b) {
  V x = splat<V>(a), y = splat<V>(b);
  return select(y != y, y, fast_min(x, y));
}
template <class A, class B, class V = either<A, B>> IRC_INLINE V max(A a, B b) {
  V x = splat<V>(a), y = splat<V>(b);
  return select(y != y, y, fast_max(x, y));
}
template <class A, class B, class C, class V = either<A, either<B, std::conditional_t<is_vector<C>, C, A>>>>
IRC_INLINE V clamp(A x, B low, C high) {
  return irc::min(irc::max(x, low), high);
}

template <class V> IRC_INLINE if_real_vector<V> shift_of(V top) {
  return fast_min(splat<V>(std::numeric_limits<typename VectorTraits<V>::element>::max()), top);
}

// Conversions keep the lanes.
template <class T> IRC_INLINE typename Vectors<T>::vec to_float(typename Vectors<T>::ivec x) {
  return __builtin_convertvector(x, typename Vectors<T>::vec);
}
template <class V> IRC_INLINE V round_down(V x) {
  typedef typename VectorTraits<V>::mask M;
  V near = __builtin_convertvector(__builtin_convertvector(x, M), V);
  return near - select(near > x, splat<V>(1), V{});
}
template <class V, class = if_real_vector<V>> IRC_INLINE auto floor(V x) {  // as of numbers
  typedef typename VectorTraits<V>::mask M;
  constexpr int32_t FAR = 2147483647;
  const V far = splat<V>(FAR);  // of floats 2^31
  const M above = x >= far, below = x <= -far, inside = (x < far) & (x > -far);
  const M near = __builtin_convertvector(round_down(select(inside, x, V{})), M);
  return select(above, splat<M>(FAR), select(below, splat<M>(-FAR), near));
}

// Integers floor; division by zero, in a lane that is not taken, is 0. Through floating point, exactly: int32 / int32
// fits a double; the wide integers go lane by lane.
template <class A, class B, class V = either<A, B>> IRC_INLINE V floordiv(A a, B b) {
  V x = splat<V>(a), y = splat<V>(b), safe = select(y == V{}, splat<V>(1), y), quotient = x / safe;
  V inexact = (quotient * safe != x) & ((x < V{}) ^ (safe < V{}));
  return select(y == V{}, V{}, quotient + inexact);
}
template <class A, class B, class V = either<A, B>> IRC_INLINE V mod(A a, B b) {
  V x = splat<V>(a), y = splat<V>(b);
  return select(y == V{}, V{}, x - irc::floordiv(x, y) * y);
}

template <class A, class B, class V = either<A, B>, class E = typename VectorTraits<V>::element>
IRC_INLINE std::enable_if_t<std::is_integral<E>::value, V> pow(A a, B b) {
  V x = splat<V>(a), y = splat<V>(b), result;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) result[lane] = E(irc::pow(x[lane], y[lane]));
  return result;
}

}  // namespace irc
