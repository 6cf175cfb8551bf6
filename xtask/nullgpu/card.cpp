#include "card.hpp"

#include <cxxabi.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

namespace card {
namespace {

constexpr std::size_t ROWS = 8192;

// The rows, in the file that NULL_GPU_COUNTS names, or in memory that nobody reads. `%p` in the name becomes the
// process's number.
Row* table() {
  static Row* rows = [] {
    const char* named = std::getenv("NULL_GPU_COUNTS");
    std::string path = named ? named : "";
    if (const auto at = path.find("%p"); at != std::string::npos) path.replace(at, 2, std::to_string(getpid()));
    const int file = path.empty() ? -1 : open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file >= 0 && ftruncate(file, ROWS * sizeof(Row)) != 0) std::perror("null GPU: NULL_GPU_COUNTS");
    const int how = file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void* mapped = mmap(nullptr, ROWS * sizeof(Row), PROT_READ | PROT_WRITE, how, file, 0);
    if (mapped == MAP_FAILED) {
      std::perror("null GPU: NULL_GPU_COUNTS");
      std::abort();
    }
    return static_cast<Row*>(mapped);
  }();
  return rows;
}

std::atomic<long long> launches{0};

}  // namespace

Row& row(const std::string& name) {
  static std::mutex mutex;
  static auto& places = *new std::unordered_map<std::string, std::size_t>;
  const std::lock_guard lock(mutex);
  // The last row takes what has no room.
  const auto [place, is_new] = places.try_emplace(name, std::min(places.size(), ROWS - 1));
  Row& found = table()[place->second];
  const bool is_last = place->second == ROWS - 1;
  if (is_new) std::snprintf(found.name, sizeof found.name, "%s", is_last ? "other: the rest" : name.c_str());
  return found;
}

long long setting(const char* variable, long long otherwise) {
  const char* value = std::getenv(variable);
  return value && *value ? std::atoll(value) : otherwise;
}

int state() {
  static const long long lost_at = setting("NULL_GPU_LOST_AT", -1);
  return lost_at >= 0 && launches.load(std::memory_order_relaxed) > lost_at ? 700 : 0;
}

void launched(Row& kernel) {
  launches.fetch_add(1, std::memory_order_relaxed);
  kernel.add();
}

std::string readable(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string name = text ? text : mangled;
  std::free(text);
  if (name.rfind("void ", 0) == 0) name.erase(0, 5);
  for (const char* noise : {"at::native::", "(anonymous namespace)::"}) {
    for (auto at = name.find(noise); at != std::string::npos; at = name.find(noise, at)) {
      name.erase(at, std::strlen(noise));
    }
  }
  return name;
}

}  // namespace card
