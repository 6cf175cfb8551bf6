// No exception may cross into Rust: what can fail is called here, and its reason is written for Rust to read.

#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <string>

namespace {

// Copies a text into `to`, cut to what fits and closed with a zero.
void give(const std::string& text, char* to, std::size_t capacity) {
  const std::size_t length = std::min(text.size(), capacity - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

// Calls `action`; false and the reason in `error` if it throws.
template <typename Action>
bool guarded(char* error, std::size_t capacity, Action action) noexcept {
  try {
    action();
    return true;
  } catch (const c10::Error& thrown) {
    give(thrown.what_without_backtrace(), error, capacity);
  } catch (const std::exception& thrown) {
    give(thrown.what(), error, capacity);
  } catch (...) {
    give("an unknown exception", error, capacity);
  }
  return false;
}

}  // namespace
