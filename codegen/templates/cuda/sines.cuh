// Sines and cosines to within two units in the last place, of any angle. CUDA's own keep the words of a long product in
// local memory.
namespace irc {

// An angle as the nearest multiple of pi/2, which counts modulo 4, and what is left, at most about pi/4 in size.
struct Angle {
  int quarters;
  double rest;
};

// pi/2 is the sum of these.
constexpr double QUARTER = 0x1.921fb54442d18p0, QUARTER_2 = 0x1.1a62633145c07p-54, QUARTER_3 = -0x1.f1976b7ed8fbcp-110;
constexpr double FAR = 0x1p31;

// Below FAR (Cody and Waite 1980): the first difference is exact, since its terms are multiples of 2^-53 where they differ. No double
// but 0 is nearer to a multiple of pi/2 than 2^-61, and what the three numbers leave out of one is below 2^-132.
DEVICE Angle near_angle(double x) {
  const double n = std::rint(x * 0x1.45f306dc9c883p-1);
  return {int(n), std::fma(-n, QUARTER_3, std::fma(-n, QUARTER_2, std::fma(-n, QUARTER, x)))};
}

// From FAR on (Payne and Hanek 1983): x is m * 2^e with a whole m of 53 bits. Bits of 2/pi that make multiples of 4 of it are left
// out; of the others 192 say it to within 2^-137.
DEVICE Angle far_angle(double x) {
  static const uint64_t BITS[] = {  // of 2/pi; 1/2 is the first of the second word
      0x0000000000000000, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
      0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484, 0xe99c7026b45f7e41,
      0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
      0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab};
  using Wide = unsigned __int128;
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint64_t m = (bits & ((uint64_t(1) << 52) - 1)) | uint64_t(1) << 52;
  const int first = int(bits >> 52) - 1075 + 62, shift = first % 64;  // the bit that makes 2 of the last of m
  const uint64_t *const word = BITS + first / 64;
  const uint64_t high = word[0] << shift | word[1] >> 1 >> (63 - shift);
  const uint64_t middle = word[1] << shift | word[2] >> 1 >> (63 - shift);
  const uint64_t low = word[2] << shift | word[3] >> 1 >> (63 - shift);
  const Wide lower = Wide(m) * middle + uint64_t(Wide(m) * low >> 64);
  const Wide product = Wide(m * high + uint64_t(lower >> 64)) << 64 | uint64_t(lower);  // of which 2^126 is a quarter
  const bool above = product >> 125 & 1;  // half a quarter or more: the next is as near
  const Wide left = (above ? ~product : product) << 2;
  const double whole = double(uint64_t(left >> 75)) * 0x1p-53, rest = double(uint64_t(left >> 11)) * 0x1p-117;
  const double angle = std::fma(whole, QUARTER, std::fma(whole, QUARTER_2, rest * QUARTER));
  return {int(uint64_t(product >> 126)) + above, above ? -angle : angle};
}

// The sine of x + quarters * pi/2, for x of 0 and more; NaN of infinity and NaN. Taylor's series.
DEVICE double sine(double x, int quarters) {
  const Angle angle = x < FAR ? near_angle(x) : x < inf<double>() ? far_angle(x) : Angle{0, nan<double>()};
  const double r = angle.rest, square = r * r;
  quarters += angle.quarters;
  double value;
  if (quarters & 1) {
    double series = 1.0 / 20922789888000;
    series = series * square - 1.0 / 87178291200;
    series = series * square + 1.0 / 479001600;
    series = series * square - 1.0 / 3628800;
    series = series * square + 1.0 / 40320;
    series = series * square - 1.0 / 720;
    series = series * square + 1.0 / 24;
    value = 1.0 - (0.5 * square - square * square * series);
  } else {
    double series = 1.0 / 355687428096000;
    series = series * square - 1.0 / 1307674368000;
    series = series * square + 1.0 / 6227020800;
    series = series * square - 1.0 / 39916800;
    series = series * square + 1.0 / 362880;
    series = series * square - 1.0 / 5040;
    series = series * square + 1.0 / 120;
    series = series * square - 1.0 / 6;
    value = r + r * square * series;
  }
  return quarters & 2 ? -value : value;
}

DEVICE double sin(double x) { return std::signbit(x) ? -sine(-x, 0) : sine(x, 0); }
DEVICE double cos(double x) { return sine(std::fabs(x), 1); }
DEVICE float sin(float x) { return float(irc::sin(double(x))); }
DEVICE float cos(float x) { return float(irc::cos(double(x))); }

}  // namespace irc
