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

// 2^x by a polynomial of least relative error on [-1/2, 1/2]; 2^-inf is exactly 0. For x up to 2^20.
IRC_INLINE VecF exp2(VecF x) {
  x = fast_max(x, splat<VecF>(-160.0f));
  VecF n = round_near(x), r = x - n;
  VecF p = 0.00133999309f + r * 0.000153458124f;
  p = 0.00961848907f + r * p;
  p = 0.0555032864f + r * p;
  p = 0.240226462f + r * p;
  p = 0.693147182f + r * p;
  p = 1.0f + r * p;
  return scale_by_power(p, n);
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
IRC_INLINE VecD exp2(VecD x) { return exp(x * 0.6931471805599453); }

// A function of the standard library, lane by lane.
template <class V, class F> IRC_INLINE V each_lane(V x, F function) {
  V result;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) result[lane] = function(x[lane]);
  return result;
}
template <class V, class = if_real_vector<V>> IRC_INLINE V log(V x) {
  return each_lane(x, [](auto value) { return std::log(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V erf(V x) {
  return each_lane(x, [](auto value) { return std::erf(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V sin(V x) {
  return each_lane(x, [](auto value) { return std::sin(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V cos(V x) {
  return each_lane(x, [](auto value) { return std::cos(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V sqrt(V x) {
  return each_lane(x, [](auto value) { return std::sqrt(value); });
}
template <class V, class = if_real_vector<V>> IRC_INLINE V rsqrt(V x) { return 1 / irc::sqrt(x); }
template <class A, class B, class V = either<A, B>, class = if_real_vector<V>> IRC_INLINE V pow(A a, B b) {
  V x = splat<V>(a), y = splat<V>(b), result;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) result[lane] = std::pow(x[lane], y[lane]);
  return result;
}

// Only exp of what is not positive, so that nothing overflows.
template <class V, class = if_real_vector<V>> IRC_INLINE V sigmoid(V x) {
  V small = irc::exp(-irc::abs(x));
  return select(x < 0, small, splat<V>(1)) / (1 + small);
}

// Away from zero by exp; near it the continued fraction of Lambert, which keeps the relative precision.
template <class V, class = if_real_vector<V>> IRC_INLINE V tanh(V x) {
  V size = irc::abs(x), decay = irc::exp(-2 * size), far = (1 - decay) / (1 + decay), y = x * x;
  typedef typename VectorTraits<V>::element E;
  V above = E(34459425) + y * (E(4729725) + y * (E(135135) + y * (E(990) + y)));
  V below = E(34459425) + y * (E(16216200) + y * (E(945945) + y * (E(13860) + y * E(45))));
  return select(size < splat<V>(0.5f), x * above / below, select(x < 0, -far, far));
}

// One lane's value: a vector's own, a scalar's in all.
template <class A> IRC_INLINE int64_t lane_of(A x, unsigned lane) {
  if constexpr (is_vector<A>) {
    return x[lane];
  } else {
    return x;
  }
}
template <class T, class A, class B, class C, class D, class = std::enable_if_t<is_vector<B> || is_vector<C> || is_vector<D>>>
IRC_INLINE typename Vectors<T>::vec random(A seed, B i, C j, D k) {
  typename Vectors<T>::vec result;
  for (unsigned lane = 0; lane < VECTOR_BYTES / sizeof(T); lane++)
    result[lane] = irc::random<T>(seed, lane_of(i, lane), lane_of(j, lane), lane_of(k, lane));
  return result;
}

}  // namespace irc
