// Tile values added to elements of a tensor, a vector of one side's positions at a time.
namespace irc {

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

// The same, or where they are the `first` they are stored.
template <class V, class E> IRC_INLINE void put_run(bool first, E *to, int64_t step, V values) {
  if (first && step == 1) return store_as(to, values);
  for (int lane = 0; first && lane < int(sizeof(V) / sizeof(values[0])); lane++) store(to[lane * step], 0);
  add_run(to, step, values);
}

// Whether following lanes' indices are the same distance apart, in every dimension.
IRC_INLINE bool are_even() { return true; }
template <class I, class... More> IRC_INLINE bool are_even(I index, int64_t, More... more) {
  return irc::all(index == index[0] + numbered_lanes<I>() * (index[1] - index[0])) && are_even(more...);
}

// To elements anywhere, which are often the same one, or neighbours.
template <class V, class E, class I, class... More>
IRC_ONCE void add_elements(E *first, V values, I index, int64_t step, More... more) {
  typedef typename VectorTraits<V>::element T;
  constexpr int LANES = sizeof(V) / sizeof(T);
  if (are_even(index, step, more...)) {
    const int64_t place = place_of(0, index, step, more...);
    return add_run(first + place, place_of(1, index, step, more...) - place, values);
  }
  for (int lane = 0; lane < LANES; lane++) {
    E &element = first[place_of(lane, index, step, more...)];
    store(element, load<T>(element) + values[lane]);
  }
}

}  // namespace irc
