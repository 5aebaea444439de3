// The emulator as one translation unit.
#include "block.cpp"
#include "clocks.cpp"
#include "warp.cpp"
#include "barrier.cpp"
#include "memory.cpp"
#include "launch.cpp"
