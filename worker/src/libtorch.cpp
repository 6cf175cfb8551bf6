// What tch does not offer, for src/libtorch.rs. No exception may cross into Rust: each function that can fail says so.
//
// Deliberately absent: anything resolved when this is compiled. On a GPU machine another libtorch is loaded than the one
// whose headers stand here.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/cudnn_convolution_add_relu.h>
#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <c10/util/env.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>

// A part of libtorch's stable C interface, exported by libtorch_cpu.so.
extern "C" std::uint64_t aoti_torch_abi_version();

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

}  // extern "C"
