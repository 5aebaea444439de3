// What the emulator found: kind, text, and the places in the kernel's code.
#pragma once
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <mutex>
#include <string>
#include <vector>

namespace emu {

struct Finding {
  const char *kind;
  std::string text;
  unsigned block[3];
  int thread;
  const void *places[2];  // the return addresses of the calls concerned; null where there is none
};

// The findings of one launch: one of a kind for each pair of places.
struct Findings {
  static constexpr size_t KEPT = 32;
  std::mutex mutex;
  std::vector<Finding> all;

  void add(const Finding &finding) {
    std::lock_guard<std::mutex> lock(mutex);
    for (const Finding &old : all)
      if (old.kind == finding.kind && old.places[0] == finding.places[0] && old.places[1] == finding.places[1]) return;
    if (all.size() < KEPT) all.push_back(finding);
  }
};

inline std::string format(const char *text, va_list arguments) {
  char line[512];
  vsnprintf(line, sizeof line, text, arguments);
  return line;
}

// The kinds, as `findings.py` lists them.
constexpr const char *RACE = "race", *BOUNDS = "out of bounds", *UNWRITTEN = "never written",
                     *DIVERGENCE = "divergence", *DEADLOCK = "deadlock", *ASYNC = "not waited for",
                     *ALIGNMENT = "misaligned", *MISUSE = "misuse", *READONLY = "read-only", *PROXY = "missing fence";

}  // namespace emu
