// Forms: in which units the operands of products are kept. A unit is one number, or two bf16 that follow each other in
// the direction that is summed, which one instruction multiplies and adds in float.
namespace irc {

template <class T> struct Single {
  typedef T unit;
  typedef T element;
  static constexpr int DEPTH = 1;  // numbers in a unit
  static constexpr bool MATRICES = false;  // whether products are made in matrix registers, 16 by 16 at a time
  struct Registers {};
  template <class V> IRC_INLINE V multiply_add(V sum, V a, V b) { return sum + a * b; }
};

#if defined(__AVX512BF16__)
struct Pair {
  typedef float unit;
  typedef bf16 element;
  static constexpr int DEPTH = 2;
#if defined(IRC_MATRICES)
  static constexpr bool MATRICES = true;
  typedef amx::Registers Registers;
#else
  static constexpr bool MATRICES = false;
  struct Registers {};
#endif
  IRC_INLINE VecF multiply_add(VecF sum, VecF a, VecF b) {
    return (VecF)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
};

// 32 bf16 in order, rounded to nearest: `low`, then `high`.
IRC_INLINE VecF narrow(VecF low, VecF high) { return (VecF)(__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low); }

// Lane by lane the pair (first, second).
IRC_INLINE VecF pair_of(VecF first, VecF second) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (VecF)_mm512_permutexvar_epi16(order, (__m512i)narrow(first, second));
}

// The first `count` numbers of pairs.
IRC_INLINE void store_pairs(bf16 *to, VecF pairs, int count) {
  _mm512_mask_storeu_epi16(to, __mmask32((uint64_t(1) << count) - 1), (__m512i)pairs);
}

// Two rows of 32 bf16 as 32 pairs of one of each: the first 16, and the others.
IRC_INLINE void interleave(VecF (&pairs)[2], const bf16 *first, const bf16 *second) {
  const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                       35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  const __m512i x = _mm512_loadu_si512(first), y = _mm512_loadu_si512(second);
  pairs[0] = (VecF)_mm512_permutex2var_epi16(x, low, y);
  pairs[1] = (VecF)_mm512_permutex2var_epi16(x, high, y);
}
#else
typedef Single<float> Pair;  // without such an instruction, numbers of 16 bits are multiplied as floats
#endif

// Where number `summed` of number `other` lies, in a layout whose units run along `others` neighbours: in elements.
template <class Form> constexpr int64_t place(int64_t summed, int64_t other, int64_t others) {
  return (summed / Form::DEPTH * others + other) * Form::DEPTH + summed % Form::DEPTH;
}
template <class Form> constexpr int units(int numbers) { return (numbers + Form::DEPTH - 1) / Form::DEPTH; }

// A vector of numbers from memory of any element type, and back.
template <class V> IRC_INLINE V load_as(const typename VectorTraits<V>::element *from) { return load_vector<V>(from); }
template <class V> IRC_INLINE VecF load_as(const bf16 *from) {
#if defined(__AVX512F__)
  return (VecF)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#elif defined(__AVX2__)
  return (VecF)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16);
#else
  VecF value;
  for (unsigned lane = 0; lane < sizeof(VecF) / 4; lane++) value[lane] = widen(from[lane]);
  return value;
#endif
}
template <class V> IRC_INLINE VecF load_as(const f16 *from) {
#if defined(__AVX512F__)
  return (VecF)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__AVX2__) && defined(__F16C__)
  return (VecF)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#else
  VecF value;
  for (unsigned lane = 0; lane < sizeof(VecF) / 4; lane++) value[lane] = widen(from[lane]);
  return value;
#endif
}
// Integers.
#if defined(__AVX512F__)
IRC_INLINE VecI widened(const int8_t *from) { return (VecI)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)); }
IRC_INLINE VecI widened(const u8 *from) { return (VecI)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)); }
IRC_INLINE VecI widened(const int16_t *from) { return (VecI)_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)from)); }
IRC_INLINE VecI widened(const uint16_t *from) { return (VecI)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)); }
#elif defined(__AVX2__)
IRC_INLINE VecI widened(const int8_t *from) { return (VecI)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)); }
IRC_INLINE VecI widened(const u8 *from) { return (VecI)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)); }
IRC_INLINE VecI widened(const int16_t *from) { return (VecI)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)from)); }
IRC_INLINE VecI widened(const uint16_t *from) { return (VecI)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)); }
#endif
IRC_INLINE VecI widened(const int32_t *from) { return load_vector<VecI>(from); }
template <class E> IRC_INLINE VecI widened(const E *from) {
  VecI value;
  for (unsigned lane = 0; lane < sizeof(VecI) / 4; lane++) value[lane] = irc::load<int32_t>(from[lane]);
  return value;
}

template <class E> constexpr bool is_whole = std::is_same<E, u8>::value || (std::is_integral<E>::value && !std::is_same<E, uint8_t>::value);

// As floats, which keep what they can, or in wider integers.
template <class V, class E, class = std::enable_if_t<is_whole<E> && !std::is_same<E, typename VectorTraits<V>::element>::value>>
IRC_INLINE V load_as(const E *from) {
  typedef typename VectorTraits<V>::element T;
  if constexpr (sizeof(T) == 4) {
    return __builtin_convertvector(widened(from), V);
  } else {
    V value;
    for (unsigned lane = 0; lane < sizeof(V) / 8; lane++) value[lane] = irc::load<T>(from[lane]);
    return value;
  }
}
template <class V> IRC_INLINE void store_as(typename VectorTraits<V>::element *to, V value) { store_vector(to, value); }
IRC_INLINE void store_as(bf16 *to, VecF value) {
#if defined(__AVX512BF16__)
  _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
#else
  for (unsigned lane = 0; lane < sizeof(VecF) / 4; lane++) to[lane] = to_bf16(value[lane]);
#endif
}
IRC_INLINE void store_as(f16 *to, VecF value) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT));
#else
  for (unsigned lane = 0; lane < sizeof(VecF) / 4; lane++) irc::store(to[lane], value[lane]);
#endif
}

template <class V, int... LANE> IRC_INLINE V backwards(V x, std::integer_sequence<int, LANE...>) {
  constexpr int LAST = sizeof...(LANE) - 1;
#if defined(__clang__)
  return __builtin_shufflevector(x, x, (LAST - LANE)...);
#else
  return __builtin_shuffle(x, typename VectorTraits<V>::mask{(LAST - LANE)...});
#endif
}

// An element a lane, each `step` after the one before it.
template <class V, class E> IRC_INLINE V load_run(const E *first, int64_t step) {
  typedef typename VectorTraits<V>::element T;
  constexpr int LANES = sizeof(V) / sizeof(T);
  if (step == 1) return load_as<V>(first);
  if (step == -1) return backwards(load_as<V>(first - (LANES - 1)), std::make_integer_sequence<int, LANES>());
  V run;
  for (int lane = 0; lane < LANES; ++lane) run[lane] = irc::load<T>(first[lane * step]);
  return run;
}

// How far a lane's element lies from the first: the sum of its indices times the steps of their dimensions.
IRC_INLINE int64_t place_of(int) { return 0; }
template <class I, class... More> IRC_INLINE int64_t place_of(int lane, I index, int64_t step, More... more) {
  return index[lane] * step + place_of(lane, more...);
}

#if defined(__AVX512F__)
// The same of eight lanes, the first or the second.
template <int HALF> IRC_INLINE VecL places_of() { return VecL{}; }
template <int HALF, class... More> IRC_INLINE VecL places_of(VecI index, int64_t step, More... more) {
  return (VecL)_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)index, HALF)) * step + places_of<HALF>(more...);
}
#endif

// An element a lane, anywhere; 0 in lanes that are not wanted.
template <class V, class E, class I, class... More>
IRC_ONCE V gather_elements(I wanted, const E *first, I index, int64_t step, More... more) {
  typedef typename VectorTraits<V>::element T;
  constexpr int LANES = sizeof(V) / sizeof(T);
#if defined(__AVX512F__)
  if constexpr (sizeof(E) == 4 && sizeof(T) == 4) {
    const __mmask16 lanes = _mm512_test_epi32_mask((__m512i)wanted, (__m512i)wanted);
    if (sizeof...(more) == 0 && step == 1)
      return (V)_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes, (__m512i)index, first, 4);
    const __m512i low = (__m512i)places_of<0>(index, step, more...), high = (__m512i)places_of<1>(index, step, more...);
    const __m256i none = _mm256_setzero_si256();
    const __m256i left = _mm512_mask_i64gather_epi32(none, __mmask8(lanes), low, first, 4);
    const __m256i right = _mm512_mask_i64gather_epi32(none, __mmask8(lanes >> 8), high, first, 4);
    return (V)_mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1);
  }
  if constexpr (std::is_same<E, bf16>::value && sizeof...(more) == 0)
    if (step == 1) {  // each with the one before it, but for the first of all
      const __mmask16 lanes = _mm512_test_epi32_mask((__m512i)wanted, (__m512i)wanted), later = _mm512_test_epi32_mask((__m512i)index, (__m512i)index);
      const __m512i pairs = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes & later, (__m512i)index, first - 1, 2);
      const V elements = (V)_mm512_and_si512(pairs, _mm512_set1_epi32(-65536));
      return lanes & ~later ? select(wanted & (index == I{}), splat<V>(load<T>(first[0])), elements) : elements;
    }
#endif
  V elements{};
  for (int lane = 0; lane < LANES; ++lane)
    if (wanted[lane]) elements[lane] = load<T>(first[place_of(lane, index, step, more...)]);
  return elements;
}

// The first `count` numbers, then zeros.
template <class E, int COUNT> IRC_INLINE void copy_padded(E (&to)[COUNT], const E *from, int count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (sizeof to % 32 == 0) {
    for (int at = 0; at < int(sizeof to); at += 32) {
      const int bytes = std::clamp(count * int(sizeof(E)) - at, 0, 32);
      const __m256i some = _mm256_maskz_loadu_epi8(__mmask32((uint64_t(1) << bytes) - 1), (const char *)from + at);
      _mm256_storeu_si256((__m256i *)((char *)to + at), some);
    }
    return;
  }
#endif
  std::memset((void *)to, 0, sizeof to);
  for (int n = 0; n < count; n++) to[n] = from[n];
}

// LANES units of a row of `width` numbers, from unit `first` on; 0 beyond its end.
template <class Form, class E> IRC_INLINE auto load_units(const E *row, int first, int width) {
  typedef typename Vectors<typename Form::unit>::vec V;
  constexpr int LANES = sizeof(V) / sizeof(typename Form::unit), NUMBERS = LANES * Form::DEPTH;
  const E *from = row + first * Form::DEPTH;
  E padded[NUMBERS];
  const int left = width - first * Form::DEPTH;
  if (left < NUMBERS) {
    copy_padded(padded, from, left);
    from = padded;
  }
#if defined(__AVX512BF16__)
  if constexpr (Form::DEPTH == 2) {
    if constexpr (std::is_same<E, bf16>::value) return load_vector<V>((const float *)from);
    else return narrow(load_as<V>(from), load_as<V>(from + LANES));
  } else
#endif
    return load_as<V>(from);
}

// A square of registers, rows and columns exchanged.
template <class V, int N> IRC_INLINE void transpose(V (&square)[N]) {
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    __m512 step[16], *rows = (__m512 *)square;
#pragma GCC unroll 8
    for (int n = 0; n < 16; n += 2) {
      step[n] = _mm512_unpacklo_ps(rows[n], rows[n + 1]);
      step[n + 1] = _mm512_unpackhi_ps(rows[n], rows[n + 1]);
    }
#pragma GCC unroll 4
    for (int n = 0; n < 16; n += 4)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const __m512d low = (__m512d)step[n + half], high = (__m512d)step[n + 2 + half];
        rows[n + 2 * half] = (__m512)_mm512_unpacklo_pd(low, high);
        rows[n + 2 * half + 1] = (__m512)_mm512_unpackhi_pd(low, high);
      }
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {
      step[n] = _mm512_shuffle_f32x4(rows[n], rows[n + 4], 0x88);
      step[n + 4] = _mm512_shuffle_f32x4(rows[n], rows[n + 4], 0xdd);
      step[n + 8] = _mm512_shuffle_f32x4(rows[n + 8], rows[n + 12], 0x88);
      step[n + 12] = _mm512_shuffle_f32x4(rows[n + 8], rows[n + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {
      rows[n] = _mm512_shuffle_f32x4(step[n], step[n + 8], 0x88);
      rows[n + 8] = _mm512_shuffle_f32x4(step[n], step[n + 8], 0xdd);
      rows[n + 4] = _mm512_shuffle_f32x4(step[n + 4], step[n + 12], 0x88);
      rows[n + 12] = _mm512_shuffle_f32x4(step[n + 4], step[n + 12], 0xdd);
    }
    return;
  }
#elif defined(__AVX2__)
  if constexpr (N == 8) {
    __m256 step[8], *rows = (__m256 *)square;
#pragma GCC unroll 4
    for (int n = 0; n < 8; n += 2) {
      step[n] = _mm256_unpacklo_ps(rows[n], rows[n + 1]);
      step[n + 1] = _mm256_unpackhi_ps(rows[n], rows[n + 1]);
    }
#pragma GCC unroll 2
    for (int n = 0; n < 8; n += 4)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const __m256d low = (__m256d)step[n + half], high = (__m256d)step[n + 2 + half];
        rows[n + 2 * half] = (__m256)_mm256_unpacklo_pd(low, high);
        rows[n + 2 * half + 1] = (__m256)_mm256_unpackhi_pd(low, high);
      }
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {
      step[n] = _mm256_permute2f128_ps(rows[n], rows[n + 4], 0x20);
      step[n + 4] = _mm256_permute2f128_ps(rows[n], rows[n + 4], 0x31);
    }
    std::memcpy(square, step, sizeof step);
    return;
  }
#endif
  for (int row = 1; row < N; row++)
    for (int column = 0; column < row; column++) {
      const auto value = square[row][column];
      square[row][column] = square[column][row];
      square[column][row] = value;
    }
}

}  // namespace irc
