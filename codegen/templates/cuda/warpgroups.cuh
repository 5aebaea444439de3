// Products of warpgroups, sm_90a: 64 rows, whose fragments are those of four warps (fragments.cuh). Operands lie in shared
// memory as bulk copies leave them.
namespace irc {

// A panel of TOKENS tokens, each WIDTH numbers of 16 bits: SPAN bytes of every token, then the next SPAN of every token;
// within each, units of 16 bytes change places. It lies on 1024 bytes.
template <int WIDTH, int TOKENS> struct Swizzled {
  static constexpr int SPAN = WIDTH % 64 == 0 ? 128 : WIDTH % 32 == 0 ? 64 : 32;
  static constexpr ptx::Swizzle SWIZZLE = SPAN == 128 ? ptx::SWIZZLE_128B : SPAN == 64 ? ptx::SWIZZLE_64B : ptx::SWIZZLE_32B;
  unsigned char *first;
};

template <int WIDTH, int TOKENS> DEVICE int place_in(Swizzled<WIDTH, TOKENS>, int token, int feature) {
  constexpr int SPAN = Swizzled<WIDTH, TOKENS>::SPAN;
  return 2 * feature / SPAN * (TOKENS * SPAN) + token * SPAN + 2 * feature % SPAN;
}
// Where a unit of eight numbers lies.
template <int WIDTH, int TOKENS> DEVICE uint16_t *unit(Swizzled<WIDTH, TOKENS> panel, int token, int feature) {
  const int at = place_in(panel, token, feature), pattern = panel.SPAN / 16 - 1;
  return (uint16_t *)(panel.first + (at ^ ((at >> 7 & pattern) << 4)));
}
// Operands of wgmma: features of the tokens from `token` on, the first 16, and with all features 16 tokens; of others so
// many `bytes` on. A loop makes them anew in each turn: kept from before it, all steps of a product take a register each.
template <int WIDTH, int TOKENS> DEVICE uint64_t along(Swizzled<WIDTH, TOKENS> panel, int token) {
  const uint32_t at = ptx::shared_address(panel.first) + token * panel.SPAN;
  return ptx::anew(ptx::wgmma_descriptor(at, 16, 8 * panel.SPAN, panel.SWIZZLE));
}
template <int WIDTH, int TOKENS> DEVICE uint64_t across(Swizzled<WIDTH, TOKENS> panel) {
  return ptx::anew(ptx::wgmma_descriptor(ptx::shared_address(panel.first), TOKENS * panel.SPAN, 8 * panel.SPAN, panel.SWIZZLE));
}

template <int BLOCKS> DEVICE float (&flat(float (&tile)[BLOCKS][4]))[4 * BLOCKS] {
  return reinterpret_cast<float(&)[4 * BLOCKS]>(tile);
}
template <int R> DEVICE void wgmma(Bf16, float (&d)[R], uint64_t a, uint64_t b, int accumulate) {
  ptx::wgmma_m64k16_bf16<0, 0>(d, a, b, accumulate);
}
template <int R> DEVICE void wgmma(F16, float (&d)[R], uint64_t a, uint64_t b, int accumulate) {
  ptx::wgmma_m64k16_f16<0, 0>(d, a, b, accumulate);
}
template <int R> DEVICE void wgmma(Bf16, float (&d)[R], const uint32_t (&a)[4], uint64_t b) {
  ptx::wgmma_m64k16_bf16<1>(d, a, b, 1);
}
template <int R> DEVICE void wgmma(F16, float (&d)[R], const uint32_t (&a)[4], uint64_t b) {
  ptx::wgmma_m64k16_f16<1>(d, a, b, 1);
}

// Begins tile[row, column] = sum over features of rows[first + row, feature] columns[column, feature].
template <class Half, int WIDTH, int ROWS, int COLUMNS>
DEVICE void begin_dot(float (&tile)[COLUMNS / 8][4], Swizzled<WIDTH, ROWS> rows, int first, Swizzled<WIDTH, COLUMNS> columns) {
  const uint64_t row_at = along(rows, first), column_at = along(columns, 0);
#pragma unroll
  for (int f = 0; f < WIDTH; f += 16)
    wgmma(Half{}, flat(tile), ptx::advanced(row_at, place_in(rows, 0, f)), ptx::advanced(column_at, place_in(columns, 0, f)), f > 0);
}

// The tile in the operands' type, as the first operand of products; and that without the columns in `odd`, as 0.
template <class Half, int COLUMNS>
DEVICE void pack_tile(uint32_t (&packed)[COLUMNS / 16][4], const float (&tile)[COLUMNS / 8][4]) {
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      packed[n / 2][n % 2 * 2 + half] = pack(Half{}, tile[n][2 * half], tile[n][2 * half + 1]);
}
template <int COLUMNS> DEVICE void without(const uint32_t *odd, uint32_t (&packed)[COLUMNS / 16][4]) {
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      packed[n / 2][n % 2 * 2 + half] = without(odd[n / 4], n % 4 * 8 + threadIdx.x % 4 * 2, packed[n / 2][n % 2 * 2 + half]);
}

// Begins sums[row, feature] += sum over columns of tile[row, column] panel[column, feature].
template <class Half, int WIDTH, int COLUMNS>
DEVICE void begin_product(float (&sums)[WIDTH / 8][4], const uint32_t (&packed)[COLUMNS / 16][4], Swizzled<WIDTH, COLUMNS> panel) {
  const uint64_t panel_at = across(panel);
#pragma unroll
  for (int c = 0; c < COLUMNS; c += 16) wgmma(Half{}, flat(sums), packed[c / 16], ptx::advanced(panel_at, c * panel.SPAN));
}

// Which of 32 tokens, those of a warp, hold what is infinite or NaN: a bit each.
template <class Half, int WIDTH, int COLUMNS> DEVICE uint32_t odd_tokens(Swizzled<WIDTH, COLUMNS> panel, int first) {
  const int token = first + threadIdx.x % 32;
  bool found = false;
#pragma unroll 1  // for few tiles, and unrolled it takes registers from all
  for (int f = 0; f < WIDTH && token < COLUMNS; f += 8) found |= is_odd(Half{}, ptx::load<Chunk>(unit(panel, token, f)));
  return __ballot_sync(~0u, found);
}

DEVICE bool has(const uint32_t *odd, int column) { return odd[column / 32] >> column % 32 & 1; }

// The products of the columns in `odd`; wanted(half, column) says which pairs exist.
template <class Half, int WIDTH, int COLUMNS, class Wanted>
DEVICE void odd_product(float (&sums)[WIDTH / 8][4], const float (&tile)[COLUMNS / 8][4], Swizzled<WIDTH, COLUMNS> panel,
                        const uint32_t *odd, Wanted wanted) {
  add_columns<Half, WIDTH, COLUMNS>(
      sums, tile, [&](int column) { return has(odd, column); },
      [&](int column, int f) { return unit(panel, column, f); },
      [&](int half, int column, float) { return wanted(half, column); });
}

// Makes those columns 0; THREADS threads, of which this is number `thread`, do it together.
template <int THREADS, int WIDTH, int COLUMNS>
DEVICE void clear_tokens(Swizzled<WIDTH, COLUMNS> panel, const uint32_t *odd, int thread) {
#pragma unroll 1  // or what it computes of threads takes registers all the while
  for (int at = thread; at < COLUMNS * (WIDTH / 8); at += THREADS)
    if (const int token = at / (WIDTH / 8); has(odd, token))
      ptx::store(unit(panel, token, at % (WIDTH / 8) * 8), Chunk{});
}

}  // namespace irc
