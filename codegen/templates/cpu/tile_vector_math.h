// Elementary functions of vectors. Coefficients are Taylor's, enough terms for half a unit or so of the type.
namespace irc {

IRC_INLINE VecF round_near(VecF x) {
#if defined(__AVX512F__)
  return (VecF)_mm512_roundscale_ps((__m512)x, 8);
#elif defined(__AVX2__)
  return (VecF)_mm256_round_ps((__m256)x, 8);
#else
  return __builtin_convertvector(__builtin_convertvector(x + select(x < 0, splat<VecF>(-0.5f), splat<VecF>(0.5f)), VecI), VecF);
#endif
}
IRC_INLINE VecD round_near(VecD x) {
#if defined(__AVX512F__)
  return (VecD)_mm512_roundscale_pd((__m512d)x, 8);
#elif defined(__AVX2__)
  return (VecD)_mm256_round_pd((__m256d)x, 8);
#else
  return __builtin_convertvector(__builtin_convertvector(x + select(x < 0, splat<VecD>(-0.5), splat<VecD>(0.5)), VecL), VecD);
#endif
}

// p * 2^n for whole n, down to zero and up to infinity.
IRC_INLINE VecF scale_by_power(VecF p, VecF n) {
#if defined(__AVX512F__)
  return (VecF)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  VecI whole = __builtin_convertvector(n, VecI), half = whole >> 1;
  return p * (VecF)((half + 127) << 23) * (VecF)((whole - half + 127) << 23);
#endif
}
IRC_INLINE VecD scale_by_power(VecD p, VecD n) {
#if defined(__AVX512F__)
  return (VecD)_mm512_scalef_pd((__m512d)p, (__m512d)n);
#else
  VecL whole = __builtin_convertvector(n, VecL), half = whole >> 1;
  return p * (VecD)((half + 1023) << 52) * (VecD)((whole - half + 1023) << 52);
#endif
}

// 2^x = 2^n p(r), n whole and r = x - n, by a polynomial of least relative error that is 1 at 0: of degree 5 (9e-8), or 4
// (3e-6) where the result is rounded to 16 bits. 2^-inf is exactly 0. Where instructions take floors apart, r is in [0, 1); else
// in [-1/2, 1/2], n has been rounded by a sum that leaves it in the last bits, and is added to the exponent of p.
template <class Form> IRC_INLINE VecF exp2(VecF x) {
#if defined(__AVX512DQ__)
  const VecF r = (VecF)_mm512_reduce_ps((__m512)x, 9);  // x - floor(x), and 0 for infinity
  VecF p;
  if constexpr (Form::DEPTH == 2) {
    p = 0.0522424653f + r * 0.0134266894f;
    p = 0.241280213f + r * p;
    p = 0.693044841f + r * p;
  } else {
    p = 0.00901702885f + r * 0.00186713075f;
    p = 0.0557999127f + r * p;
    p = 0.240164444f + r * p;
    p = 0.693151295f + r * p;
  }
  p = 1.0f + r * p;
  return (VecF)_mm512_scalef_ps((__m512)p, (__m512)x);  // which takes the floor
#else
  x = fast_min(x, splat<VecF>(128.0f));  // whose power is infinity
  const VecF shifted = x + 12582912.0f, r = x - (shifted - 12582912.0f);  // 3 * 2^22
  VecF p = 0.00967151299f + r * 0.00132647273f;
  p = 0.0555073358f + r * p;
  p = 0.240222424f + r * p;
  p = 0.693147004f + r * p;
  p = 1.0f + r * p;
  return (VecF)((((VecI)p + ((VecI)shifted << 23)) & ~(VecI)(x < -126.0f)) | (VecI)(x != x));  // the sum of what NaN holds is not one
#endif
}

// exp(x) = 2^n e^r with |r| <= ln(2)/2, the subtraction in two parts (Cody and Waite 1980). exp(-inf) is exactly 0.
IRC_INLINE VecF exp(VecF x) {
  x = fast_min(fast_max(x, splat<VecF>(-120.0f)), splat<VecF>(100.0f));
  VecF n = round_near(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
  VecF p = 0.00837503653f + r * 0.00138365675f;
  p = 0.0416682437f + r * p;
  p = 0.166664168f + r * p;
  p = 0.499999911f + r * p;
  p = 1.0f + r * p;
  p = 1.0f + r * p;
  return scale_by_power(p, n);
}
IRC_INLINE VecD exp(VecD x) {
  x = fast_min(fast_max(x, splat<VecD>(-800.0)), splat<VecD>(800.0));
  VecD n = round_near(x * 1.4426950408889634), r = x - n * 6.93145751953125e-1 - n * 1.42860682030941723212e-6;
  const double inverse_factorials[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
  VecD p = splat<VecD>(1.0 / 6227020800.0);
#pragma GCC unroll 16
  for (int term = 0; term < 13; term++) p = inverse_factorials[term] + r * p;
  return scale_by_power(p, n);
}

// x = n + r, so that 2^x = 2^n exp(r ln 2), as exactly as exp.
template <class Form> IRC_INLINE VecD exp2(VecD x) { return exp(x * 0.6931471805599453); }

// a / b + c / d, within some units of the last place, where b d is neither 0 nor infinite. Zen 5 divides a vector in two or
// three cycles, beside multiplications; others of 512 bits take 10 to 16. What it has and Zen 4 has not is vp2intersect: to
// g++ 12 they are the same processor.
IRC_INLINE VecF quotients(VecF a, VecF b, VecF c, VecF d) {
#if defined(__AVX512VP2INTERSECT__)
  return a / b + c / d;
#elif defined(__AVX512F__)
  const VecF below = b * d, near = (VecF)_mm512_rcp14_ps((__m512)below);
  return (a * d + c * b) * (near + near * (1.0f - below * near));  // Newton's step
#else
  return (a * d + c * b) / (b * d);
#endif
}

// Not inlined: what takes many instructions. A tile's block has a copy of each expression for each of its registers.
#define IRC_APART __attribute__((noinline))

// shift / log2(e) + log_total is a logsumexp: what `lse`, its float, lacks where a logit in powers of two has lse log2(e)
// subtracted, as a float too. That product is rounded apart: fused with the sum it would be another. Of NATURAL logits
// shift + log_total is one.
template <class V> IRC_APART V rounded_product(V x, V y) { return x * y; }
template <bool NATURAL, class V> IRC_INLINE V remainder(V shift, V log_total, V lse) {
  if (NATURAL) return (shift - lse) + log_total;
  return (shift - rounded_product(lse, V{} + 1.44269504f)) * 0.693147181f + log_total;
}

// A function of the standard library, lane by lane.
template <class V, class F> IRC_APART V each_lane(V x, F function) {
  V result;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) result[lane] = function(x[lane]);
  return result;
}
IRC_INLINE VecD log(VecD x) {
  return each_lane(x, [](double value) { return std::log(value); });
}

// log(x) = e ln 2 + log(m), x = 2^e m and m in [3/4, 3/2), the latter by a polynomial in t = m - 1 that is t at 0 (5e-9
// of it), so that the relative precision is kept around 1.
IRC_INLINE VecF log(VecF x) {
#if defined(__AVX512F__)
  const __m512 m = _mm512_getmant_ps((__m512)x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan);
  const VecF e = (VecF)_mm512_getexp_ps(_mm512_div_ps((__m512)x, m));
  const VecF t = (VecF)m - 1.0f;
  VecF p = 0.104483344f - t * 0.0449096076f;
  p = -0.131622359f + t * p;
  p = 0.144820616f + t * p;
  p = -0.166477665f + t * p;
  p = 0.199906066f + t * p;
  p = -0.250000536f + t * p;
  p = 0.333334535f + t * p;
  p = -0.5f + t * p;
  p = t + t * t * p + e * 0.693147181f;
  return select(x == 0, splat<VecF>(-inf<float>()), select(x == inf<float>(), x, p));
#else
  return each_lane(x, [](float value) { return std::log(value); });
#endif
}
// A quotient of polynomials of x^2 of degree 5, of least relative error (2e-8) up to 3.93, from where on a float of erf is 1.
IRC_INLINE VecF erf(VecF x) {
  const VecF y = x * x;
  VecF above = 2.84809037e-4f + y * 2.04196226e-6f, below = 1.16521947e-3f + y * 3.80040074e-5f;
  above = 3.77963972e-3f + y * above, below = 0.0149975f + y * below;
  above = 0.0527903847f + y * above, below = 0.114257827f + y * below;
  above = 0.190784574f + y * above, below = 0.502411127f + y * below;
  above = 1.12837911f + y * above, below = 1.0f + y * below;
  const VecF near = fast_max(fast_min(x * (above / below), splat<VecF>(1.0f)), splat<VecF>(-1.0f));
  return select(x >= 3.93f, splat<VecF>(1.0f), select(x <= -3.93f, splat<VecF>(-1.0f), near));
}
IRC_INLINE VecD erf(VecD x) {
  return each_lane(x, [](double value) { return std::erf(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V sin(V x) {
  return each_lane(x, [](auto value) { return std::sin(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V cos(V x) {
  return each_lane(x, [](auto value) { return std::cos(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V sqrt(V x) {
  V result;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) result[lane] = std::sqrt(x[lane]);
  return result;
}
template <class V, class = if_real_vector<V>> IRC_INLINE V rsqrt(V x) { return 1 / irc::sqrt(x); }
template <class V> IRC_APART V pow_lanes(V x, V y) {
  V result;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) result[lane] = std::pow(x[lane], y[lane]);
  return result;
}

template <class A, class B, class V = either<A, B>, class = if_real_vector<V>> IRC_INLINE V pow(A a, B b) {
  return irc::pow_lanes(splat<V>(a), splat<V>(b));
}

// One base of many powers.
struct Base {
  float value;
  double log2;
  bool is_plain;
  explicit Base(float x) : value(x), log2(std::log2(double(x))), is_plain(x > 0 && x != 1 && x < inf<float>()) {}
};

// 2^(x log2(base)), the exponent as a double, of which whole numbers are taken apart exactly.
IRC_INLINE VecF pow(const Base &base, VecF x) {
  typedef float Half __attribute__((vector_size(VECTOR_BYTES / 2)));
  constexpr int LANES = VECTOR_BYTES / 8;
  if (!base.is_plain) return irc::pow_lanes(splat<VecF>(base.value), x);
  VecF whole, rest;
  for (int half = 0; half < 2; half++) {
    const VecD product = __builtin_convertvector(load_vector<Half>((const float *)&x + half * LANES), VecD) * base.log2;
    const VecD exponent = fast_max(fast_min(product, splat<VecD>(200.0)), splat<VecD>(-200.0)), n = round_near(exponent);
    store_vector((float *)&whole + half * LANES, __builtin_convertvector(n, Half));
    store_vector((float *)&rest + half * LANES, __builtin_convertvector(exponent - n, Half));
  }
  return select(x == x, scale_by_power(exp2<Single<float>>(rest), whole), x);
}

// Only exp of what is not positive, so that nothing overflows.
template <class V, class = if_real_vector<V>> IRC_INLINE V sigmoid(V x) {
  V small = irc::exp(-irc::abs(x));
  return select(x < 0, small, splat<V>(1)) / (1 + small);
}

// A quotient of polynomials of x^2 of degree 4, of least relative error (2e-8) up to 9, in partial fractions, whose terms are
// positive: two by two, for few multiplications. Beyond 9 a float of tanh is 1: the quotient has passed 1 before 9.6, and is cut
// there. It has to be 1 exactly, because a derivative, 1 - tanh^2, may be multiplied by x.
// Doubles away from zero by exp, near it by the continued fraction of Lambert, which keeps the relative precision.
IRC_INLINE VecF tanh(VecF x) {
  x = fast_max(fast_min(x, splat<VecF>(9.6f)), splat<VecF>(-9.6f));
  const VecF y = x * x;
  const VecF near = 49.6259730f + y * 4.03586590f, below_near = 55.0259466f + y * (y + 24.7684857f);
  const VecF far = 1892.04224f + y * 15.2101677f, below_far = 23369.4030f + y * (y + 397.737966f);
  const VecF slope = 0.0171726734f + quotients(near, below_near, far, below_far);
  return fast_max(fast_min(x * slope, splat<VecF>(1.0f)), splat<VecF>(-1.0f));
}
IRC_INLINE VecD tanh(VecD x) {
  VecD size = irc::abs(x), decay = irc::exp(-2 * size), far = (1 - decay) / (1 + decay), y = x * x;
  VecD above = 34459425 + y * (4729725 + y * (135135 + y * (990 + y)));
  VecD below = 34459425 + y * (16216200 + y * (945945 + y * (13860 + y * 45)));
  return select(size < splat<VecD>(0.5), x * above / below, select(x < 0, -far, far));
}

#if defined(__AVX512F__)
// Of each lane times a factor, the words above and below. Instructions multiply every other lane.
IRC_INLINE void multiply_words(VecI x, uint32_t by, VecI &high, VecI &low) {
  const __m512i factor = _mm512_set1_epi32(int(by)), even = _mm512_mul_epu32((__m512i)x, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), factor);
  high = (VecI)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
  low = (VecI)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
#elif defined(__AVX2__)
IRC_INLINE void multiply_words(VecI x, uint32_t by, VecI &high, VecI &low) {
  const __m256i factor = _mm256_set1_epi32(int(by)), even = _mm256_mul_epu32((__m256i)x, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)x, 32), factor);
  high = (VecI)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  low = (VecI)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
#else
IRC_INLINE void multiply_words(VecI x, uint32_t by, VecI &high, VecI &low) {
  for (unsigned lane = 0; lane < sizeof(VecI) / 4; lane++) {
    const uint64_t product = uint64_t(uint32_t(x[lane])) * by;
    high[lane] = int32_t(product >> 32), low[lane] = int32_t(product);
  }
}
#endif

// philox of a whole vector of floats' counters.
IRC_INLINE void philox_lanes(uint64_t seed, VecI (&c)[4]) {
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#pragma GCC unroll 1
  for (int round = 0; round < 7; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    VecI first, second, low, last;
    multiply_words(c[0], 0xd2511f53u, first, last);
    multiply_words(c[2], 0xcd9e8d57u, second, low);
    c[0] = second ^ c[1] ^ int32_t(k0), c[2] = first ^ c[3] ^ int32_t(k1);
    c[1] = low, c[3] = last;
  }
}
// 24 bits each, as numbers in [0, 1).
IRC_INLINE void philox_numbers(uint64_t seed, VecI (&c)[4], VecF (&to)[4]) {
  philox_lanes(seed, c);
  for (int word = 0; word < 4; word++) to[word] = __builtin_convertvector((c[word] >> 8) & 0xffffff, VecF) * 0x1p-24f;
}
IRC_INLINE void philox_numbers(uint64_t seed, VecL (&c)[4], VecD (&to)[4]) {
  constexpr int LANES = sizeof(VecD) / 8;
  uint32_t words[4][LANES];
  for (int word = 0; word < 4; word++)
    for (int lane = 0; lane < LANES; lane++) words[word][lane] = uint32_t(c[word][lane]);
  philox<LANES>(seed, words);
  for (int word = 0; word < 4; word++)
    for (int lane = 0; lane < LANES; lane++) to[word][lane] = (words[word][lane] >> 8) * 0x1p-24;
}

template <class T, class I = typename Vectors<T>::ivec>
IRC_APART typename Vectors<T>::vec random_lanes(uint64_t seed, I i, I j, I k) {
  constexpr int LANES = VECTOR_BYTES / sizeof(T);
  I c[4] = {k >> 2, j, i, I{}};
  typename Vectors<T>::vec numbers[4], result;
  philox_numbers(seed, c, numbers);
  for (int lane = 0; lane < LANES; lane++) result[lane] = numbers[k[lane] & 3][lane];
  return result;
}

// Random numbers of a panel of rows, four vectors at a time: for those that follow each other along k, whichever side has it.
template <class T, int VECTORS> class Draws {
  typedef typename Vectors<T>::vec V;
  typedef typename Vectors<T>::ivec I;
  static constexpr int LANES = sizeof(V) / sizeof(T), GROUPS = LANES / 4;

 public:
  Draws() { std::fill_n(at_, VECTORS, -1); }

  // Rows j in the lanes of vector w, at one k.
  IRC_INLINE_MEMBER V of_rows(int w, int64_t seed, int64_t i, I j, int64_t k) {
    if (at_[w] != k / 4) make_of_rows(w, seed, i, j, k / 4);
    return made_[w][k % 4];
  }

  // Rows k, the first of vector w a multiple of 4, at one j.
  IRC_INLINE_MEMBER V of_columns(int w, int64_t seed, int64_t i, int64_t j, int64_t k) {
    if constexpr (GROUPS == 0) return irc::random_lanes<T>(uint64_t(seed), splat<I>(i), splat<I>(j), splat<I>(k) + numbered_lanes<I>());
    if (at_[w] != j / 4) make_of_columns(w, seed, i, j / 4, k / 4);
    return made_[w][j % 4];
  }

 private:
  IRC_APART void make_of_rows(int w, int64_t seed, int64_t i, I j, int64_t group) {
    I c[4] = {splat<I>(group), j, splat<I>(i), I{}};
    philox_numbers(uint64_t(seed), c, made_[w]);
    at_[w] = group;
  }

  // Of 4 columns and GROUPS groups of rows, the counters lie group by group.
  IRC_APART void make_of_columns(int w, int64_t seed, int64_t i, int64_t columns, int64_t group) {
    const I lane = numbered_lanes<I>(), column = lane / std::max(GROUPS, 1);
    I c[4] = {splat<I>(group) + lane - column * GROUPS, splat<I>(4 * columns) + column, splat<I>(i), I{}};
    V words[4];
    philox_numbers(uint64_t(seed), c, words);
    turn(made_[w], words, std::make_integer_sequence<int, 4>());
    at_[w] = columns;
  }

  // Of the words of a column's counters, row 4 g + n takes word n of group g's.
  template <int... COLUMN> static IRC_INLINE_MEMBER void turn(V *made, const V *words, std::integer_sequence<int, COLUMN...>) {
    ((made[COLUMN] = of_column<COLUMN * GROUPS>(words, std::make_integer_sequence<int, LANES>())), ...);
  }
  template <int FIRST, int... LANE> static IRC_INLINE_MEMBER V of_column(const V *words, std::integer_sequence<int, LANE...>) {
    const V left = chosen<FIRST + LANE / 4 + LANE % 2 * LANES...>(words[0], words[1]);
    const V right = chosen<FIRST + LANE / 4 + LANE % 2 * LANES...>(words[2], words[3]);
    return chosen<LANE + LANE / 2 % 2 * LANES...>(left, right);
  }

  V made_[VECTORS][4];
  int64_t at_[VECTORS];
};

template <class T, class A, class B, class C, class D, class = std::enable_if_t<is_vector<B> || is_vector<C> || is_vector<D>>>
IRC_INLINE typename Vectors<T>::vec random(A seed, B i, C j, D k) {
  typedef typename Vectors<T>::ivec ivec;
  return irc::random_lanes<T>(uint64_t(int64_t(seed)), splat<ivec>(i), splat<ivec>(j), splat<ivec>(k));
}

}  // namespace irc
