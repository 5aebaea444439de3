// Who may see what: vector clocks, and for each word of memory who touched it last. After "FastTrack" (Flanagan, Freund
// 2009).
//
// Actors are the block's threads, then the loads of each mbarrier, then the wgmma operations of each warp, then bulk
// stores. Row t of the clocks says up to which of its moments thread t has seen each actor. An access that has not seen
// an earlier one of the same memory, one of them a write, is a race.
#pragma once
#include "block.h"

namespace emu {

constexpr int MBARRIERS = 32, WARPGROUP = 128;  // mbarriers beyond share the actors of earlier ones

struct Access {
  enum Kind { READ, WRITE, ATOMIC } kind;
  const char *name;  // "a read", "cp.async", …: begins a sentence
  const void *place;
  int actor;
  const uint32_t *seen;       // what it has seen of every actor
  uint32_t now;               // its own moment
  bool asynchronous = false;  // it goes through the asynchronous proxy: plain stores need a fence before it
  bool pending = false;       // cp.async: under way from now on
  uint8_t actors = 1;         // it is one of this many from `actor` on, all at the same moment of theirs
};

constexpr int READERS = 4;

// What is known of a word (or, where parts of it were touched, of a byte).
struct Cell {
  uint32_t block;                    // the serial number of the block that the rest tells of
  uint32_t write_clock, read_clock;  // 0: none
  int32_t write_place, read_place;   // from the kernel's code; of reads the latest
  uint16_t writer;
  uint16_t readers[READERS];  // who has read at read_clock, each at that moment of its own
  uint16_t set;               // the number of a set, where more have read or at different moments; 0: none
  uint16_t pending;           // 1 + the thread whose cp.async to it is under way
  uint8_t reader_count;
  bool atomic, parts;  // written by an atomic; its bytes have been touched apart
};

// The shadow of some memory: a cell a word and, used where needed, a cell a byte. The system hands it out page by page.
struct Space {
  Cell *words = nullptr, *bytes = nullptr;
  size_t size = 0;
  bool is_shared;
  int argument = 0;

  Space(size_t n, bool shared_memory);  // `bytes` is null where there is no memory for it
  ~Space();
  Space(const Space &) = delete;
};

// The words among 32 of shared memory that a thread has read at its moment `now`. To read one again tells nothing new:
// a store between the two would not be ordered after the first.
struct WordsRead {
  uint32_t now, words;
};

struct Clocks {
  int actors = 0;
  std::vector<uint32_t> rows;
  Space shared{SHARED_ROOM, true};
  std::vector<uint16_t> free_sets;

  // For each actor its last read of a cell. SETS such lie together, ordered by actors: a thread that reads cell after
  // cell, which is what threads do most, stays in a cache line.
  static constexpr size_t SETS = 16;
  std::vector<uint32_t> sets;
  uint16_t set_count = 0;
  std::vector<WordsRead> words_read;  // a row of them for each thread
  size_t words_read_pitch = 0;

  void start();
  bool reads_again(int thread, uint32_t offset, unsigned size);  // false for the first time, which it notes
  uint32_t *row(int thread) { return &rows[size_t(thread) * size_t(actors)]; }
  uint32_t &now(int thread) { return row(thread)[thread]; }
  void join(uint32_t *into, const uint32_t *other) const {
    for (int k = 0; k < actors; k++) into[k] = into[k] > other[k] ? into[k] : other[k];
  }
  void join(std::vector<uint32_t> &into, const uint32_t *other) const {
    into.resize(size_t(actors), 0);
    join(into.data(), other);
  }
  // The thread's later moments are not part of what others have seen by now.
  void advance(int thread) { now(thread)++; }

  void touch(Space &space, size_t offset, unsigned size, const Access &access);
  void landed(int thread, size_t offset, unsigned size);  // a cp.async that its thread has waited for

 private:
  bool check(Space &space, Cell &cell, size_t offset, const Access &access);
  void record(Cell &cell, const Access &access);
  void forget(Cell &cell);
  uint32_t &last_read(uint16_t set, int actor) {
    const size_t n = size_t(set - 1);
    return sets[(n / SETS * size_t(actors) + size_t(actor)) * SETS + n % SETS];
  }
  uint16_t new_set();
  bool again(const Cell &cell, const Access &access);
  int unseen_reader(const Cell &cell, const Access &access);
  void add_reader(Cell &cell, const Access &access, int reader);
  void reset(Cell &cell, const Access &access, Space &space, size_t offset);
};

inline int copies_of(int mbarrier) { return block->count + mbarrier % MBARRIERS; }
inline int wgmma_of(int warp) { return block->count + MBARRIERS + warp; }

// An access of the current thread to any memory, checked where the launch is.
void touch(const void *address, unsigned size, Access::Kind kind, const char *name, const void *place,
           bool pending = false);

inline bool in_shared(const void *p) { return size_t((const unsigned char *)p - block->shared) < SHARED_ROOM; }
inline uint32_t shared_offset(const void *p) { return uint32_t((const unsigned char *)p - block->shared); }

}  // namespace emu
