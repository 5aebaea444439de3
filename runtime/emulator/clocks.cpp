// The race detector, and the hooks through which plain loads and stores reach it.
#include "clocks.h"

#include <dlfcn.h>

namespace emu {

static Cell *cells(size_t n) {
  void *p = mmap(nullptr, n * sizeof(Cell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : (Cell *)p;
}

Space::Space(size_t n, bool shared_memory) : size(n), is_shared(shared_memory) {
  words = cells(n / 4 + 1), bytes = words ? cells(n + 4) : nullptr;
}

Space::~Space() {
  if (words) munmap(words, (size / 4 + 1) * sizeof(Cell));
  if (bytes) munmap(bytes, (size + 4) * sizeof(Cell));
}

// Places are kept as distances from this one: kernels and emulator lie within 2 GiB of each other.
static const char *origin() { return (const char *)(void *)block->launch.run; }
static int32_t pack(const void *place) { return place ? int32_t((const char *)place - origin()) : 0; }
static const void *unpack(int32_t place) { return place ? origin() + place : nullptr; }

void Clocks::start() {
  actors = block->count + MBARRIERS + int(block->warps.size()) + 1;
  rows.assign(size_t(actors) * size_t(block->count), 0);
  for (int t = 0; t < block->count; t++) now(t) = 1;
  words_read_pitch = block->launch.shared_bytes / 128 + 1;
  words_read.assign(words_read_pitch * size_t(block->count), WordsRead());
  set_count = 0;
  free_sets.clear();
}

inline bool Clocks::reads_again(int thread, uint32_t offset, unsigned size) {
  const uint32_t first = offset / 4 % 32, count = size / 4;
  if ((offset | size) % 4 || first + count > 32) return false;
  WordsRead &read = words_read[size_t(thread) * words_read_pitch + offset / 128];
  const uint32_t words = ((1u << count) - 1) << first;
  if (read.now != now(thread)) read = {now(thread), 0};
  if ((read.words & words) == words) return true;
  read.words |= words;
  return false;
}

static std::string actor_name(int actor) {
  if (actor < block->count) return "thread " + std::to_string(actor);
  if (actor < block->count + MBARRIERS) return "a bulk load";
  const int warp = actor - block->count - MBARRIERS;
  return warp == int(block->warps.size()) ? "a bulk store" : "wgmma of warp " + std::to_string(warp);
}

static std::string argument_name(int argument) {
  return argument >= 0 ? "argument " + std::to_string(argument) : "buffer " + std::to_string(-1 - argument);
}

static std::string where(const Space &space, size_t offset) {
  return (space.is_shared ? "shared memory" : argument_name(space.argument)) + " + " + std::to_string(offset);
}

static void race(const Space &space, size_t offset, const Access &access, int other, const char *did, int32_t place) {
  found(RACE, access.place, unpack(place), "%s of %s is not ordered after %s by %s", access.name,
        where(space, offset).c_str(), did, actor_name(other).c_str());
}

// The cell tells of an earlier block, or of none.
void Clocks::reset(Cell &cell, const Access &access, Space &space, size_t offset) {
  if (!space.is_shared && cell.block != 0) {
    const bool wrote = cell.write_clock && !(cell.atomic && access.kind == Access::ATOMIC);
    const bool read = access.kind != Access::READ && cell.read_clock;
    if (wrote || read)
      found(RACE, access.place, unpack(wrote ? cell.write_place : cell.read_place),
            "%s of %s meets %s by another block", access.name, where(space, offset).c_str(),
            wrote ? "a write" : "a read");
  }
  const bool parts = cell.parts && !space.is_shared;
  cell = Cell();
  cell.block = block->serial, cell.parts = parts;
}

// Whether the access is in order; if not, that is reported.
inline bool Clocks::check(Space &space, Cell &cell, size_t offset, const Access &access) {
  if (cell.block != block->serial) reset(cell, access, space, offset);
  if (cell.pending) {
    found(ASYNC, access.place, unpack(cell.write_place), "%s of %s, where cp.async by thread %d is under way",
          access.name, where(space, offset).c_str(), cell.pending - 1);
    cell.pending = 0;
    return false;
  }
  const bool atomics = cell.atomic && access.kind == Access::ATOMIC;
  if (cell.write_clock > access.seen[cell.writer] && cell.writer != access.actor && !atomics) {
    race(space, offset, access, cell.writer, "a write", cell.write_place);
    return false;
  }
  if (access.asynchronous && cell.write_clock && cell.writer < block->count &&
      cell.write_clock > block->threads[cell.writer].fenced) {
    found(PROXY, access.place, unpack(cell.write_place),
          "%s of %s, stored by thread %d with no fence.proxy.async after it", access.name, where(space, offset).c_str(),
          cell.writer);
    return false;
  }
  if (access.kind == Access::READ) return true;
  const int reader = unseen_reader(cell, access);
  if (reader >= 0) race(space, offset, access, reader, "a read", cell.read_place);
  return reader < 0;
}

// One that has read, and whose read the access has not seen; -1 where there is none.
inline int Clocks::unseen_reader(const Cell &cell, const Access &access) {
  for (int n = 0; n < cell.reader_count; n++)
    if (cell.read_clock > access.seen[cell.readers[n]] && cell.readers[n] != access.actor) return cell.readers[n];
  for (int k = 0; cell.set && k < actors; k++)
    if (last_read(cell.set, k) > access.seen[k] && k != access.actor) return k;
  return -1;
}

inline void Clocks::record(Cell &cell, const Access &access) {
  if (access.kind != Access::READ) {
    if (cell.set) free_sets.push_back(cell.set);
    cell.set = 0, cell.reader_count = 0, cell.read_clock = 0;
    cell.writer = uint16_t(access.actor), cell.write_clock = access.now, cell.write_place = pack(access.place);
    cell.atomic = access.kind == Access::ATOMIC;
    cell.pending = access.pending ? uint16_t(access.actor + 1) : 0;
    return;
  }
  if (!cell.set && cell.read_clock != access.now && unseen_reader(cell, access) < 0) cell.reader_count = 0;
  for (int k = 0; k < access.actors; k++) add_reader(cell, access, access.actor + k);
  cell.read_place = pack(access.place);
}

inline void Clocks::add_reader(Cell &cell, const Access &access, int reader) {
  if (!cell.set) {
    const bool same = cell.reader_count == 0 || cell.read_clock == access.now;
    for (int n = 0; same && n < cell.reader_count; n++)
      if (cell.readers[n] == reader) return;
    if (same && cell.reader_count < READERS) {
      cell.readers[cell.reader_count++] = uint16_t(reader);
      cell.read_clock = access.now;
      return;
    }
    cell.set = new_set();
    for (int n = 0; cell.set && n < cell.reader_count; n++) last_read(cell.set, cell.readers[n]) = cell.read_clock;
    cell.reader_count = 0;
  }
  if (cell.set) last_read(cell.set, reader) = access.now;
}

// An empty one; 0 where there are too many, and then some reads are forgotten.
uint16_t Clocks::new_set() {
  uint16_t set;
  if (!free_sets.empty()) {
    set = free_sets.back();
    free_sets.pop_back();
  } else {
    if (set_count == 0xffff) return 0;
    set = ++set_count;
    const size_t needed = size_t(actors) * SETS * ((set - 1) / SETS + 1);
    if (sets.size() < needed) sets.resize(needed);
  }
  for (int k = 0; k < actors; k++) last_read(set, k) = 0;
  return set;
}

// Whether the cell has this very access already, at the same moment: most accesses of loops over a tile.
inline bool Clocks::again(const Cell &cell, const Access &access) {
  if (cell.block != block->serial || cell.parts || cell.pending || access.asynchronous || access.pending) return false;
  if (access.kind == Access::READ) return cell.set && last_read(cell.set, access.actor) == access.now;
  return access.kind == Access::WRITE && cell.writer == access.actor && cell.write_clock == access.now &&
         !cell.atomic && !cell.reader_count && !cell.set;
}

// An access of a whole word is kept with the word, any other with its bytes; each is checked against both.
void Clocks::touch(Space &space, size_t offset, unsigned size, const Access &access) {
  const size_t end = offset + size;
  auto is_written = [](const Cell &cell) { return cell.block == block->serial && cell.write_clock; };
  auto unwritten = [&](size_t at) {
    found(UNWRITTEN, access.place, nullptr, "%s of %s, which nothing has written", access.name,
          where(space, at).c_str());
  };
  const bool asks = space.is_shared && access.kind != Access::WRITE;
  for (size_t word = offset / 4; word * 4 < end; word++) {
    Cell &cell = space.words[word];
    const size_t first = std::max(word * 4, offset), last = std::min(word * 4 + 4, end);
    if (again(cell, access)) continue;
    if (!check(space, cell, first, access)) return;
    const bool written = is_written(cell);
    if (cell.parts)
      for (size_t at = first; at < last; at++) {
        if (!check(space, space.bytes[at], at, access)) return;
        if (asks && !written && !is_written(space.bytes[at])) return unwritten(at);
      }
    else if (asks && !written)
      return unwritten(first);
    if (last - first == 4) {
      record(cell, access);
      if (access.kind == Access::READ || !cell.parts) continue;
      for (size_t at = first; at < last; at++) forget(space.bytes[at]);
      cell.parts = false;
    } else {
      cell.parts = true;
      for (size_t at = first; at < last; at++) {
        if (space.bytes[at].block != block->serial) reset(space.bytes[at], access, space, at);
        record(space.bytes[at], access);
      }
    }
  }
}

void Clocks::forget(Cell &cell) {
  if (cell.set && cell.block == block->serial) free_sets.push_back(cell.set);
  cell = Cell();
}

void Clocks::landed(int thread, size_t offset, unsigned size) {
  for (size_t word = offset / 4; word * 4 < offset + size; word++) {
    Cell &cell = shared.words[word];
    auto clear = [&](Cell &c) {
      if (c.pending == thread + 1 && c.block == block->serial) c.pending = 0, c.write_clock = now(thread);
    };
    clear(cell);
    if (cell.parts)
      for (size_t at = word * 4; at < word * 4 + 4; at++) clear(shared.bytes[at]);
  }
}

// ---- from addresses to spaces

static void outside(uintptr_t address, unsigned size, bool write, const char *name, const void *place) {
  Dl_info library;
  if (!write && dladdr((void *)address, &library)) return;  // a constant
  const Range *nearest = nullptr;
  uintptr_t distance = ~uintptr_t(0);
  for (const Range &range : block->launch.ranges) {
    if (address >= range.begin && address + size <= range.end)
      fail(READONLY, place, nullptr, "%s of %s + %zu, which is read-only", name, argument_name(range.argument).c_str(),
           size_t(address - range.begin));
    const uintptr_t away = address < range.begin ? range.begin - address : address + size - range.end;
    if (away < distance) distance = away, nearest = &range;
  }
  if (block->stacks.holds((const void *)address))
    fail(BOUNDS, place, nullptr, "%s of %u bytes in another thread's local memory", name, size);
  if (nearest && distance < (1u << 20))
    fail(BOUNDS, place, nullptr, "%s of %u bytes at %s %+td, which has %zu bytes", name, size,
         argument_name(nearest->argument).c_str(), ptrdiff_t(address - nearest->begin),
         size_t(nearest->end - nearest->begin));
  fail(BOUNDS, place, nullptr, "%s of %u bytes at %p, which is no memory of the kernel", name, size, (void *)address);
}

static void touch_global(uintptr_t address, unsigned size, const Access &access) {
  for (Range &range : block->launch.ranges)  // those that can be written come first
    if (address >= range.begin && address + size <= range.end && (range.writable || access.kind == Access::READ)) {
      if (range.shadow) block->clocks->touch(*range.shadow, address - range.begin, size, access);
      return;
    }
  outside(address, size, access.kind != Access::READ, access.name, access.place);
}

void touch(const void *address, unsigned size, Access::Kind kind, const char *name, const void *place, bool pending) {
  Thread &me = *current;
  Clocks *clocks = block->clocks;
  if (!clocks) return;
  if (size_t((const char *)address - me.stack) < Stacks::SIZE) {
    for (const Registers &r : me.in_flight)
      if ((uintptr_t)address < r.end && (uintptr_t)address + size > r.begin && (r.written || kind != Access::READ))
        return found(ASYNC, place, r.place, "%s of registers that a wgmma under way %s", name,
                     r.written ? "writes" : "reads");
    return;
  }
  const uint32_t offset = shared_offset(address);
  const bool shared = in_shared(address);
  if (shared && offset + size > block->launch.shared_bytes)
    fail(BOUNDS, place, nullptr, "%s of %u bytes at shared memory + %u, of which there are %u bytes", name, size,
         offset, block->launch.shared_bytes);
  if (shared && kind == Access::READ && clocks->reads_again(me.id, offset, size)) return;
  const uint32_t *seen = clocks->row(me.id);
  const Access access = {kind, name, place, me.id, seen, seen[me.id], false, pending, 1};
  if (shared)
    clocks->touch(clocks->shared, offset, size, access);
  else
    touch_global((uintptr_t)address, size, access);
}

}  // namespace emu

#pragma GCC visibility push(default)
// Kernels are compiled with -fsanitize=thread, which calls these before each load and store.
#define EMU_HOOK(kind, size, what)                                                   \
  extern "C" void __tsan_##what##size(void *p) {                                     \
    if (emu::current) emu::touch(p, size, emu::Access::kind, "a " #what, EMU_PLACE); \
  }
#define EMU_HOOKS(size)                \
  EMU_HOOK(READ, size, read)           \
  EMU_HOOK(WRITE, size, write)         \
  EMU_HOOK(READ, size, unaligned_read) \
  EMU_HOOK(WRITE, size, unaligned_write)
EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_read_range(void *p, size_t n) {
  if (emu::current) emu::touch(p, unsigned(n), emu::Access::READ, "a read", EMU_PLACE);
}
void __tsan_write_range(void *p, size_t n) {
  if (emu::current) emu::touch(p, unsigned(n), emu::Access::WRITE, "a write", EMU_PLACE);
}
}
#pragma GCC visibility pop
