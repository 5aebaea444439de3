// Tile values added to elements of a tensor, a vector of one side's positions at a time.
namespace irc {

// The first `count` lanes.
template <class I> IRC_INLINE I first_lanes(int64_t count) {
  I numbered;
  for (unsigned lane = 0; lane < sizeof(I) / sizeof(numbered[0]); lane++) numbered[lane] = lane;
  return numbered < splat<I>(std::min<int64_t>(count, sizeof(I)));
}

// Lane by lane to elements `step` apart, the first one `to`.
template <class V, class E> IRC_INLINE void add_run(E *to, int64_t step, V values) {
  typedef typename VectorTraits<V>::element T;
  constexpr int LANES = sizeof(V) / sizeof(T);
  if (step == 1) {
    store_as(to, load_as<V>(to) + values);
  } else if (step == -1) {
    E *first = to - (LANES - 1);
    store_as(first, load_as<V>(first) + backwards(values, std::make_integer_sequence<int, LANES>()));
  } else if (step == 0) {
    store(*to, load<T>(*to) + joined(values, [](V a, V b) { return a + b; }));
  } else {
    for (int lane = 0; lane < LANES; lane++) store(to[lane * step], load<T>(to[lane * step]) + values[lane]);
  }
}

// To elements anywhere, `places` from the first one: most often they are the same, or neighbours.
template <class V, class E, int LANES> IRC_ONCE void add_at(E *to, const int64_t (&places)[LANES], V values) {
  typedef typename VectorTraits<V>::element T;
  const int64_t step = places[1] - places[0];
  int64_t uneven = 0;
  for (int lane = 0; lane < LANES; lane++) uneven |= places[lane] - places[0] - lane * step;
  if (uneven == 0) return add_run(to + places[0], step, values);
  for (int lane = 0; lane < LANES; lane++) {
    E &element = to[places[lane]];
    store(element, load<T>(element) + values[lane]);
  }
}

}  // namespace irc
