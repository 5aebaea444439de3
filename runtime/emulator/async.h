// Copies and products that go on beside the threads.
#pragma once
#include "clocks.h"

namespace emu {

struct Async {
  void start() {}
  bool land_one() { return false; }  // one operation ends; false where none is under way
  void finish() {}                   // the block's end: what is still under way is a finding
};

void thread_exited();  // a barrier may have waited for it alone

}  // namespace emu
