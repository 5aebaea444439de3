// Intel AMX for machines without it: an instruction that the processor refuses is decoded where it stands, carried out, and
// stepped over. Encodings and meaning: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, "TDPBF16PS",
// "TILELOADD" and so on. What a processor would refuse ends the process with a message.
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

struct Config {
  uint8_t palette, start, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

struct State {
  bool configured = false;
  Config config;
  alignas(64) uint8_t registers[8][16][64];
};

thread_local State state;
std::atomic<int64_t> products{0};

[[noreturn]] void refuse(const char *what) {
  std::fprintf(stderr, "amx: %s\n", what);
  _exit(70);
}

// One instruction, VEX-encoded: C4, inverted R X B with the map, W vvvv L pp, opcode, ModRM and what follows.
struct Instruction {
  int opcode, prefix, reg, vvvv, mod, rm, length;
  uint64_t address = 0;  // of memory operands
  uint64_t step = 0;     // the index register: bytes from row to row
};

uint64_t general(const greg_t *registers, int number) {
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return uint64_t(registers[order[number]]);
}

bool decode(const uint8_t *code, const greg_t *registers, Instruction &found) {
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2) return false;
  const int x = !(code[1] & 0x40), b = !(code[1] & 0x20);
  found.prefix = code[2] & 3;
  found.vvvv = ~(code[2] >> 3) & 15;
  found.opcode = code[3];
  found.mod = code[4] >> 6, found.reg = code[4] >> 3 & 7, found.rm = code[4] & 7;
  found.length = 5;
  if (found.mod == 3) return true;
  int base = found.rm | b << 3, index = 4, scale = 0;
  if (found.rm == 4) {
    const uint8_t sib = code[found.length++];
    base = (sib & 7) | b << 3, index = (sib >> 3 & 7) | x << 3, scale = sib >> 6;
  }
  if (found.mod == 0 && (base & 7) == 5) {  // no base: an offset, from the next instruction where there is no SIB
    int32_t offset;
    std::memcpy(&offset, code + found.length, 4);
    found.length += 4;
    found.address = uint64_t(int64_t(offset)) + (found.rm == 5 ? uint64_t(code + found.length) : 0);
  } else {
    found.address = general(registers, base);
    int32_t offset = 0;
    if (found.mod == 1) offset = int8_t(code[found.length++]);
    if (found.mod == 2) std::memcpy(&offset, code + found.length, 4), found.length += 4;
    found.address += uint64_t(int64_t(offset));
  }
  if (index != 4) found.step = general(registers, index) << scale;
  return true;
}

int rows(int number) {
  if (!state.configured) refuse("a register is used before it is configured");
  if (number > 7 || !state.config.rows[number]) refuse("a register is used that has no size");
  return state.config.rows[number];
}

void configure(const void *from) {
  std::memcpy(&state.config, from, sizeof state.config);
  if (state.config.palette != 1) refuse("a palette that is not 1");
  for (uint8_t byte : state.config.reserved)
    if (byte) refuse("reserved bytes of a configuration are not 0");
  for (int n = 0; n < 16; ++n)
    if (state.config.rows[n] > (n < 8 ? 16 : 0) || state.config.row_bytes[n] > (n < 8 ? 64 : 0)) refuse("a size beyond the registers");
  std::memset(state.registers, 0, sizeof state.registers);
  state.configured = true;
}

float widened(const uint8_t *at) {
  uint16_t upper;
  std::memcpy(&upper, at, 2);
  if (!(upper & 0x7f80)) upper &= 0x8000;  // subnormal numbers are 0
  const uint32_t bits = uint32_t(upper) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

float flushed(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }

// Even and odd numbers of a row are summed apart, each product fused, then added, then added to the sum.
void multiply(int sums, int left, int right) {
  const int m = rows(sums), units = state.config.row_bytes[left] / 4, n = state.config.row_bytes[sums] / 4;
  if (sums == left || sums == right || left == right) refuse("a product in the place of an operand");
  if (rows(left) != m || rows(right) != units || state.config.row_bytes[right] != 4 * n) refuse("operands that do not fit");
  for (int row = 0; row < m; ++row)
    for (int column = 0; column < n; ++column) {
      float even = 0, odd = 0, sum;
      for (int unit = 0; unit < units; ++unit) {
        const uint8_t *a = state.registers[left][row] + 4 * unit, *b = state.registers[right][unit] + 4 * column;
        even = flushed(std::fma(widened(a), widened(b), even));
        odd = flushed(std::fma(widened(a + 2), widened(b + 2), odd));
      }
      std::memcpy(&sum, state.registers[sums][row] + 4 * column, 4);
      sum = flushed(flushed(sum) + flushed(even + odd));
      std::memcpy(state.registers[sums][row] + 4 * column, &sum, 4);
    }
  ++products;
}

// Prefixes: 0 none, 1 66, 2 F3, 3 F2.
bool carry_out(const Instruction &found) {
  const int what = found.opcode << 4 | found.prefix << 1 | (found.mod == 3);
  switch (what) {
    case 0x490: configure((const void *)found.address); return true;
    case 0x491: state.configured = false; return true;  // TILERELEASE
    case 0x497: rows(found.reg), std::memset(state.registers[found.reg], 0, sizeof state.registers[0]); return true;
    case 0x4b2:  // TILELOADDT1
    case 0x4b6:  // TILELOADD
      std::memset(state.registers[found.reg], 0, sizeof state.registers[0]);
      for (int row = 0; row < rows(found.reg); ++row)
        std::memcpy(state.registers[found.reg][row], (const void *)(found.address + row * found.step), state.config.row_bytes[found.reg]);
      return true;
    case 0x4b4:  // TILESTORED
      for (int row = 0; row < rows(found.reg); ++row)
        std::memcpy((void *)(found.address + row * found.step), state.registers[found.reg][row], state.config.row_bytes[found.reg]);
      return true;
    case 0x5c5: multiply(found.reg, found.rm, found.vvvv); return true;
    default: return false;
  }
}

void on_refused(int, siginfo_t *, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *code = (const uint8_t *)registers[REG_RIP];
  Instruction found;
  if (!decode(code, registers, found) || !carry_out(found)) refuse("an instruction that neither the processor nor this knows");
  registers[REG_RIP] += found.length;
}

struct sigaction before;

}  // namespace

extern "C" int amx_begin() {
  struct sigaction action = {};
  action.sa_sigaction = on_refused;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, &before);
}

extern "C" int amx_end() { return sigaction(SIGILL, &before, nullptr); }

// How many products of two registers there were.
extern "C" int64_t amx_products() { return products; }
