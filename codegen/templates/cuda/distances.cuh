// Products with vectors that pairs choose by their distance. 16 rows and COLUMNS columns have COLUMNS + 15 distances, whose
// vectors lie in slots, the farthest first: row i and column j want slot 15 - i + j. A band is a fragment of rows and slots.
// Four lanes hold a row of a fragment and eight a column, so that lanes exchange what a shift along either moves.
namespace irc {

constexpr int BESIDE = 16;  // more slots than columns, the last for no pair

template <int WIDTH, int COLUMNS, class Half>
DEVICE void any_dot(Half, float (&tile)[COLUMNS / 8][4], const uint16_t *rows, const uint16_t *columns, uint64_t, uint64_t) {
  dot<WIDTH, COLUMNS>(Half{}, tile, rows, columns);
}
template <int WIDTH, int COLUMNS>
DEVICE void any_dot(Float, float (&tile)[COLUMNS / 8][4], const float *rows, const float *columns, uint64_t odd_rows,
                    uint64_t odd_columns) {
  dot<WIDTH, COLUMNS>(Float{}, tile, rows, columns);
  if (odd_rows | odd_columns) odd_dot<WIDTH, COLUMNS>(Float{}, tile, rows, columns, odd_rows, odd_columns);
}

// tile[row, column] = band[row, 15 - row + column].
template <int COLUMNS> DEVICE void from_band(float (&tile)[COLUMNS / 8][4], const float (&band)[(COLUMNS + BESIDE) / 8][4]) {
  const int place = threadIdx.x % 4 * 2, shift = 7 - threadIdx.x % 32 / 4;  // and 8 more of the upper rows
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int by = e % 2 + shift, own = by % 2;  // the other lane wants this one's own number of two, from here or the next eight
      const float(&here)[4] = band[n + 1 - e / 2], (&next)[4] = band[n + 2 - e / 2];
      const float lower = own ? here[e / 2 * 2 + 1] : here[e / 2 * 2], upper = own ? next[e / 2 * 2 + 1] : next[e / 2 * 2];
      tile[n][e] = __shfl_sync(~0u, place + own >= by ? lower : upper, (place + by) % 8 / 2, 4);
    }
}

// The other way, and 0 for slots that no column of the tile wants.
template <int COLUMNS> DEVICE void to_band(float (&band)[(COLUMNS + BESIDE) / 8][4], const float (&tile)[COLUMNS / 8][4]) {
  const int place = threadIdx.x % 4 * 2, shift = 7 - threadIdx.x % 32 / 4;
#pragma unroll
  for (int n = 0; n < (COLUMNS + BESIDE) / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int own = (e + shift) % 2;
      auto at = [&](int m) {
        if (m < 0 || m >= COLUMNS / 8) return 0.0f;
        return own ? tile[m][e / 2 * 2 + 1] : tile[m][e / 2 * 2];
      };
      const float lower = at(n - 2 + e / 2), here = at(n - 1 + e / 2);
      band[n][e] = __shfl_sync(~0u, place + own + shift < 8 ? here : lower, (place + e % 2 - shift + 8) % 8 / 2, 4);
    }
}

// tile[row, column] = the dot of a row with the vector of its distance from the column.
template <int WIDTH, int COLUMNS, class Form>
DEVICE void dot_of_rows(Form, float (&tile)[COLUMNS / 8][4], const typename Form::number *rows,
                        const typename Form::number *slots, uint64_t odd_rows, uint64_t odd_slots) {
  float band[(COLUMNS + BESIDE) / 8][4];
  any_dot<WIDTH, COLUMNS + BESIDE>(Form{}, band, rows, slots, odd_rows, odd_slots);
  from_band<COLUMNS>(tile, band);
}

// The same of a column: 16 of them with the 32 slots that they want, which are the rows of these products.
template <int WIDTH, int COLUMNS, class Form>
DEVICE void dot_of_columns(Form, float (&tile)[COLUMNS / 8][4], const typename Form::number *slots,
                           const typename Form::number *columns, uint64_t odd_slots, uint64_t odd_columns) {
  constexpr int STEP = WIDTH + Form::PAD;
  const int place = threadIdx.x % 4, group = threadIdx.x % 32 / 4;
  __syncwarp();  // else ptxas begins with these beside the dots before them, and is short of registers
#pragma unroll
  for (int first = 0; first < COLUMNS; first += 16) {
    float band[2][2][4];
#pragma unroll
    for (int part = 0; part < 2; ++part)
      any_dot<WIDTH, 16>(Form{}, band[part], slots + (first + 16 * part) * STEP, columns + first * STEP,
                         odd_slots >> first >> 16 * part, odd_columns >> first);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = 2 * place + e % 2, here = n + 1 - e / 2, next = here + 1;  // eights of slots
        const float lower = band[here / 2][n][here % 2 * 2 + e % 2], upper = band[next / 2][n][next % 2 * 2 + e % 2];
        tile[first / 8 + n][e] = __shfl_sync(~0u, group >= column ? lower : upper, (7 - group + column) % 8 * 4 + place);
      }
  }
}

}  // namespace irc
