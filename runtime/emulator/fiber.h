// CUDA threads as fibers: each has a stack, and a switch saves the registers that a call keeps. x86-64 and aarch64.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __APPLE__
#define EMU_SYMBOL "_emu_switch"
#else
#define EMU_SYMBOL "emu_switch"
#endif

// Saves the running fiber's stack pointer in *from and goes on where `to` was saved.
extern "C" void emu_switch(void **from, void *to);
#if defined(__x86_64__)
asm(".text\n.globl " EMU_SYMBOL "\n" EMU_SYMBOL
    ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");
#elif defined(__aarch64__)
asm(".text\n.globl " EMU_SYMBOL "\n.p2align 2\n" EMU_SYMBOL
    ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n");
#else
#error "the emulator runs on x86-64 and aarch64"
#endif

namespace emu {

// Stacks of one size, each above a page that cannot be touched.
struct Stacks {
  static constexpr size_t SIZE = 256 << 10;
  char *memory = nullptr;
  size_t count = 0;

  size_t pitch() const { return SIZE + size_t(sysconf(_SC_PAGESIZE)); }
  char *bottom(size_t n) const { return memory + n * pitch() + pitch() - SIZE; }
  bool holds(const void *p) const { return size_t((const char *)p - memory) < count * pitch(); }

  bool reserve(size_t n) {
    if (n <= count) return true;
    release();
    void *fresh = mmap(nullptr, n * pitch(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) return false;
    memory = (char *)fresh, count = n;
    for (size_t k = 0; k < n; k++)
      if (mprotect(bottom(k), SIZE, PROT_READ | PROT_WRITE) != 0) return release(), false;
    return true;
  }
  void release() {
    if (memory) munmap(memory, count * pitch());
    memory = nullptr, count = 0;
  }
  ~Stacks() { release(); }

  // The stack pointer of a fiber that begins in `entry`. Tops of stacks differ by cache lines, so that they do not all
  // fall into the same sets of a cache.
  void *begin(size_t n, void (*entry)()) const {
    uint64_t *top = (uint64_t *)(bottom(n) + SIZE - 64 - (n % 61) * 192);
#if defined(__x86_64__)
    *--top = 0;                // a return address of nobody: aligns the stack as after a call
    *--top = (uint64_t)entry;  // where the switch returns to
    top -= 6;
    for (int k = 0; k < 6; k++) top[k] = 0;
#else
    top -= 20;
    for (int k = 0; k < 20; k++) top[k] = 0;
    top[11] = (uint64_t)entry;  // x30
#endif
    return top;
  }
};

}  // namespace emu
