// Elementary functions of floats without branches or calls, so that the compiler vectorises the loops that hold them.
namespace irc {

// 2^n * e^r with |r| <= log(2)/2, and Taylor's series for e^r.
inline float exp(float x) {
  const float bounded = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;  // beyond these: 0 and infinity; NaN passes
  const float shift = 0x1.8p23f;  // puts an integer into the lowest bits
  const float shifted = bounded * 0x1.715476p0f + shift;
  const float n = shifted - shift;
  const float r = (bounded - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  uint32_t bits, origin;
  std::memcpy(&bits, &shifted, sizeof bits);
  std::memcpy(&origin, &shift, sizeof origin);
  // 2^n in two factors: either alone has no subnormals and no overflow.
  const int32_t exponent = int32_t(bits - origin), half = exponent >> 1;
  const uint32_t first = uint32_t(half + 127) << 23, second = uint32_t(exponent - half + 127) << 23;
  float low, high;
  std::memcpy(&low, &first, sizeof low);
  std::memcpy(&high, &second, sizeof high);
  return series * low * high;
}

// log(x) = e ln 2 + log(m), x = 2^e m and m in [3/4, 3/2), the latter as the log of vectors has it (tile_vector_math.h).
inline float log(float x) {
  const bool small = x < 0x1p-126f;
  const float normal = small ? x * 0x1p24f : x;
  uint32_t bits;
  std::memcpy(&bits, &normal, sizeof bits);
  const int32_t e = int32_t(bits - 0x3f400000u) >> 23;
  const uint32_t mantissa = bits - (uint32_t(e) << 23);
  float m;
  std::memcpy(&m, &mantissa, sizeof m);
  const float t = m - 1.0f;
  float p = 0.104483344f - t * 0.0449096076f;
  p = p * t - 0.131622359f;
  p = p * t + 0.144820616f;
  p = p * t - 0.166477665f;
  p = p * t + 0.199906066f;
  p = p * t - 0.250000536f;
  p = p * t + 0.333334535f;
  p = p * t - 0.5f;
  const float log = t + t * t * p + (float(e) - (small ? 24.0f : 0.0f)) * 0.693147181f;
  const float beyond = x == 0.0f ? -std::numeric_limits<float>::infinity() : x < 0.0f ? std::numeric_limits<float>::quiet_NaN() : x;
  return x > 0.0f && x <= std::numeric_limits<float>::max() ? log : beyond;
}

// Taylor's series near 0, where the quotient of exponentials cancels.
inline float tanh(float x) {
  const float square = x * x, decay = irc::exp(-2.0f * std::fabs(x));
  float series = 21844.0f / 6081075;
  series = series * square - 1382.0f / 155925;
  series = series * square + 62.0f / 2835;
  series = series * square - 17.0f / 315;
  series = series * square + 2.0f / 15;
  series = series * square - 1.0f / 3;
  const float quotient = std::copysign((1.0f - decay) / (1.0f + decay), x);
  return std::fabs(x) < 0.4f ? x + x * square * series : quotient;
}

// Taylor's series up to 1; beyond it 1 - exp(-x^2) p(1 / (1 + x/2)), p by least squares on [0.9, 4].
inline float erf(float x) {
  const float square = x * x, size = std::fabs(x);
  float series = -1.0f / 918086400;
  series = series * square + 1.0f / 76204800;
  series = series * square - 1.0f / 6894720;
  series = series * square + 1.0f / 685440;
  series = series * square - 1.0f / 75600;
  series = series * square + 1.0f / 9360;
  series = series * square - 1.0f / 1320;
  series = series * square + 1.0f / 216;
  series = series * square - 1.0f / 42;
  series = series * square + 1.0f / 10;
  series = series * square - 1.0f / 3;
  const float near = 1.1283791670955126f * (x + x * square * series);
  const float t = 1.0f / (1.0f + 0.5f * size);
  float p = -0.22972020506858826f;
  p = p * t + 0.6335799098014832f;
  p = p * t - 0.0609198696911335f;
  p = p * t + 0.39478829503059387f;
  p = p * t + 0.2602708637714386f;
  p = p * t + 0.00175817112904042f;
  const float far = std::copysign(1.0f - irc::exp(-square) * p, x);
  return size < 1.0f ? near : far;
}

// Sines and cosines of the C library, which has vectors of them too.
#if defined(__GLIBC__) && defined(__x86_64__) && !defined(__clang__)
extern "C" {
#pragma omp declare simd notinbranch
double irc_sin(double) __asm__("sin") __attribute__((const));
#pragma omp declare simd notinbranch
double irc_cos(double) __asm__("cos") __attribute__((const));
}
inline double sin(double x) { return irc_sin(x); }
inline double cos(double x) { return irc_cos(x); }
#endif

}  // namespace irc
