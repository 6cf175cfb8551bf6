// Host memory that a GPU copies from by itself, and the stream of these copies, for src/pinned.rs. c10's guards find the CUDA
// half at run time, so nothing of CUDA is linked.
//
// Deliberately absent: events. Whoever copies waits for the copy, on a thread of its own.

#include "guarded.hpp"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace {

// A GPU's one stream for copies. The allocator keeps memory apart by stream: with a stream for each thread it would keep
// memory that no other thread can use.
c10::Stream copy_stream(const c10::impl::VirtualGuardImpl& guard, c10::Device device) {
  static std::mutex mutex;
  static std::vector<std::optional<c10::Stream>> streams;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::size_t index = static_cast<std::size_t>(device.index());
  if (streams.size() <= index) streams.resize(index + 1);
  if (!streams[index]) streams[index] = guard.getStreamFromGlobalPool(device);
  return *streams[index];
}

}  // namespace

extern "C" {

// So many float32 numbers in page-locked memory.
bool nadgrid_pinned_numbers(std::int64_t count, at::Tensor** tensor, char* error, std::size_t capacity) {
  return guarded(error, capacity, [&] {
    *tensor = new at::Tensor(at::detail::empty_cpu({count}, at::kFloat, /*pin_memory=*/true));
  });
}

// From now on what this thread asks of the GPU goes by the stream for copies, behind what the default stream was asked so far.
bool nadgrid_enter_copy_stream(std::int32_t index, char* error, std::size_t capacity) {
  return guarded(error, capacity, [&] {
    const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    guard.setDevice(device);
    const c10::Stream copies = copy_stream(guard, device);
    c10::Event asked(c10::DeviceType::CUDA);
    asked.record(guard.getDefaultStream(device));
    asked.block(copies);
    guard.exchangeStream(copies);
  });
}

// The tensor was made on the stream for copies and is read on the default one: its memory is not given to another copy before
// the reader is through with it.
bool nadgrid_hand_to_default_stream(const at::Tensor* tensor, char* error, std::size_t capacity) {
  return guarded(error, capacity, [&] {
    const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    tensor->record_stream(guard.getDefaultStream(tensor->device()));
  });
}

}  // extern "C"
