// The null GPU: what its parts share. A card that takes every call of CUDA and its libraries, computes nothing, and
// counts. Whatever is copied from it is zero.
//
// What it counts lies in a file that is mapped into the process, a row of 256 bytes for each name: it is there while
// the program runs, and stays when it is killed. xtask/src/gpu_dry_run/counts.rs reads it. Deliberately absent:
// results, times of kernels, a second card.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace card {

// One line of the file. A row is never moved or removed.
struct Row {
  char name[240];
  std::atomic<std::uint64_t> count;
  std::atomic<std::uint64_t> bytes;

  void add(std::uint64_t moved = 0) {
    count.fetch_add(1, std::memory_order_relaxed);
    bytes.fetch_add(moved, std::memory_order_relaxed);
  }
  void raise(std::uint64_t to) {
    std::uint64_t before = bytes.load();
    while (before < to && !bytes.compare_exchange_weak(before, to)) {
    }
  }
};
static_assert(sizeof(Row) == 256);

// The row of this name, made when it is first asked for.
Row& row(const std::string& name);

// A number from a variable, else `otherwise`.
long long setting(const char* variable, long long otherwise);

// What every call answers: 0, or 700 (an illegal address) once the card is lost.
int state();

// Counts a launch, after which the card may be lost.
void launched(Row& kernel);

// What the C++ compiler made of a name, read back and cut.
std::string readable(const char* mangled);

}  // namespace card
