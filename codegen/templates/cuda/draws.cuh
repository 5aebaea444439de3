// Random numbers of the pairs of an m16n8 fragment (fragments.cuh), the same as irc::random makes for each pair: four neighbours
// along one side take the words of one counter, and lanes that hold such neighbours share the counters of their elements out.
namespace irc {

// Of two words of each of two lanes `step` apart, one with that bit set: the first lane's last one for the other's first.
DEVICE void exchange(uint32_t &first, uint32_t &last, int step) {
  const bool is_other = threadIdx.x & step;
  const uint32_t got = __shfl_xor_sync(~0u, is_other ? first : last, step);
  if (is_other) first = got;
  else last = got;
}

template <class T> DEVICE void to_numbers(T (&drawn)[4], const uint32_t (&words)[4][1]) {
#pragma unroll
  for (int e = 0; e < 4; ++e) drawn[e] = T(words[e][0] >> 8) * T(0x1p-24);
}

// Of the lane's elements, at (row, column), one column on, and eight rows on. Two lanes hold four columns at two rows, and make a row each.
template <class T> DEVICE void draw_along_columns(T (&drawn)[4], uint64_t seed, uint32_t batch, uint32_t row, uint32_t column) {
  uint32_t words[4][1] = {{column >> 2}, {row + 8 * (threadIdx.x & 1)}, {batch}, {0}};
  philox<1>(seed, words);
  exchange(words[0][0], words[2][0], 1);
  exchange(words[1][0], words[3][0], 1);
  to_numbers(drawn, words);
}

// Four lanes hold four rows at four places, these and eight rows on at two columns, and make a place each.
template <class T> DEVICE void draw_along_rows(T (&drawn)[4], uint64_t seed, uint32_t batch, uint32_t row, uint32_t column) {
  const uint32_t place = threadIdx.x / 4 % 4;
  uint32_t words[4][1] = {{(row + 8 * (place / 2)) >> 2}, {column + place % 2}, {batch}, {0}};
  philox<1>(seed, words);
  exchange(words[0][0], words[1][0], 4);
  exchange(words[2][0], words[3][0], 4);
  exchange(words[0][0], words[2][0], 8);
  exchange(words[1][0], words[3][0], 8);
  to_numbers(drawn, words);
}

}  // namespace irc
