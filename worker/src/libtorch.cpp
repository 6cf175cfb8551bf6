// What tch does not offer, for src/libtorch.rs. No exception may cross into Rust: each function that can fail says so.
//
// Deliberately absent: anything resolved when this is compiled. On a GPU machine another libtorch is loaded than the one
// whose headers stand here.

#include "guarded.hpp"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/cudnn_convolution_add_relu.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/AutogradState.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/env.h>

#include <cstddef>
#include <cstdint>
#include <string>

// A part of libtorch's stable C interface, exported by libtorch_cpu.so.
extern "C" std::uint64_t aoti_torch_abi_version();

namespace {

// That of libtorch_cuda.so, where it is loaded and has computed; else null.
c10::DeviceAllocator* cuda_allocator() {
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(at::kCUDA);
  return allocator->initialized() ? allocator : nullptr;
}

}  // namespace

extern "C" {

// Major, minor and patch in the three highest bytes, of the libtorch that is loaded.
std::uint64_t nadgrid_libtorch_version() { return aoti_torch_abi_version(); }

bool nadgrid_libtorch_cpu_capability(char* text, std::size_t capacity, char* error, std::size_t error_capacity) {
  return guarded(error, error_capacity, [&] { give(at::get_cpu_capability(), text, capacity); });
}

// Whether cuBLAS and cuDNN may compute products of float32 in TF32. oneDNN, a CPU's library, never may, nor in BF16.
bool nadgrid_libtorch_set_tf32(bool allowed, char* error, std::size_t capacity) {
  return guarded(error, capacity, [allowed] {
    at::Context& context = at::globalContext();
    // libtorch keeps an old and a new set of switches and throws where they disagree. The old setters set both.
    // oneDNN's old switch is off unless set, and its setter warns: it is for Intel's GPUs.
    context.setAllowTF32CuBLAS(allowed);
    context.setAllowTF32CuDNN(allowed);
    for (const auto op : {at::Float32Op::ALL, at::Float32Op::CONV, at::Float32Op::RNN, at::Float32Op::MATMUL}) {
      context.setFloat32Precision(at::Float32Backend::MKLDNN, op, at::Float32Precision::IEEE);
    }
    TORCH_CHECK(context.allowTF32CuBLAS() == allowed && context.allowTF32CuDNN() == allowed &&
                    !context.allowTF32OneDNN(),
                "libtorch does not obey");
  });
}

// max(convolution(input, weight) + residual + bias, 0) of maps on a GPU, as one operation of cuDNN. `result` takes a new tensor.
bool nadgrid_libtorch_cudnn_convolution_add_relu(const at::Tensor* input, const at::Tensor* weight,
                                                 const at::Tensor* residual, const at::Tensor* bias,
                                                 std::int64_t stride, std::int64_t padding, at::Tensor** result,
                                                 char* error, std::size_t capacity) {
  return guarded(error, capacity, [=] {
    const at::Scalar one = 1.0;
    *result = new at::Tensor(at::cudnn_convolution_add_relu(*input, *weight, *residual, one, *bias, {stride, stride},
                                                            {padding, padding}, {1, 1}, 1));
  });
}

// max(a b + bias, 0) of matrices and a row. `result` takes a new tensor.
bool nadgrid_libtorch_addmm_relu(const at::Tensor* bias, const at::Tensor* a, const at::Tensor* b, at::Tensor** result,
                                 char* error, std::size_t capacity) {
  return guarded(error, capacity, [=] { *result = new at::Tensor(at::_addmm_activation(*bias, *a, *b, 1, 1, false)); });
}

// The same bits for the same input on the same device. With `warn_only` an operation that has no deterministic
// implementation warns where it would otherwise throw.
bool nadgrid_libtorch_be_deterministic(bool warn_only, char* error, std::size_t capacity) {
  return guarded(error, capacity, [warn_only] {
    // cuBLAS reads it when its first handle is made, and libtorch refuses products without it.
    c10::utils::set_env("CUBLAS_WORKSPACE_CONFIG", ":4096:8", false);
    at::Context& context = at::globalContext();
    context.setBenchmarkCuDNN(false);
    context.setDeterministicCuDNN(true);
    context.setDeterministicMkldnn(true);
    context.setDeterministicAlgorithms(true, warn_only);
    // Filling memory that is about to be written costs bandwidth; nothing here reads it before.
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// From now on backward of this thread runs on it. Else a GPU has one thread for the backward of all, which keeps its own choices
// of cuDNN's engines.
void nadgrid_libtorch_backward_here() { c10::AutogradState::get_tls_state().set_multithreading_enabled(false); }

// How often the allocator of a GPU had to refuse memory, also where libtorch went on without it.
bool nadgrid_libtorch_cuda_ooms(std::int8_t device, std::int64_t* ooms, char* error, std::size_t capacity) {
  return guarded(error, capacity, [device, ooms] {
    c10::DeviceAllocator* const allocator = cuda_allocator();
    *ooms = allocator == nullptr ? 0 : allocator->getDeviceStats(device).num_ooms;
  });
}

// The most bytes that the allocator ever held of a GPU: tensors, workspaces, and what it kept for later ones.
bool nadgrid_libtorch_cuda_peak(std::int8_t device, std::int64_t* bytes, char* error, std::size_t capacity) {
  return guarded(error, capacity, [device, bytes] {
    constexpr auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    c10::DeviceAllocator* const allocator = cuda_allocator();
    *bytes = allocator == nullptr ? 0 : allocator->getDeviceStats(device).reserved_bytes[all].peak;
  });
}

// The bytes of a GPU that nobody holds, whichever process.
bool nadgrid_libtorch_cuda_free(std::int8_t device, std::int64_t* bytes, char* error, std::size_t capacity) {
  return guarded(error, capacity, [device, bytes] {
    *bytes = static_cast<std::int64_t>(c10::getDeviceAllocator(at::kCUDA)->getMemoryInfo(device).first);
  });
}

// Gives back what the allocator keeps of every GPU and nothing uses.
bool nadgrid_libtorch_cuda_empty_cache(char* error, std::size_t capacity) {
  return guarded(error, capacity, [] {
    if (c10::DeviceAllocator* const allocator = cuda_allocator()) {
      allocator->emptyCache();
    }
  });
}

// The CUDA and the cuDNN that libtorch_cuda.so was built with, as they number themselves.
bool nadgrid_libtorch_cuda_build(std::int64_t* cuda, std::int64_t* cudnn, char* error, std::size_t capacity) {
  return guarded(error, capacity, [cuda, cudnn] {
    const at::CUDAHooksInterface& hooks = at::detail::getCUDAHooks();
    *cuda = hooks.versionCUDART();
    *cudnn = hooks.versionCuDNN();
  });
}

// How libtorch_cuda.so was built, as lines of text. It throws where there is no GPU.
bool nadgrid_libtorch_cuda_config(char* text, std::size_t text_capacity, char* error, std::size_t capacity) {
  return guarded(error, capacity, [&] { give(at::detail::getCUDAHooks().showConfig(), text, text_capacity); });
}

}  // extern "C"
