// cuBLAS and cuBLASLt: products, counted by their shape. The interface is stable, so the few types are written out as
// what they are.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "card.hpp"

namespace {

// CUBLAS_DEFAULT_MATH or, where TF32 is allowed, CUBLAS_TF32_TENSOR_OP_MATH.
thread_local int math_mode = 0;

int product(const char* what, int m, int n, int k, int batch) {
  const std::string shape = std::to_string(m) + " x " + std::to_string(k) + " x " + std::to_string(n);
  card::Row& row = card::row(std::string("product ") + what + " " + shape + ", batch " + std::to_string(batch) +
                             ", math mode " + std::to_string(math_mode));
  card::launched(row);
  // CUBLAS_STATUS_EXECUTION_FAILED
  return card::state() ? 13 : 0;
}

int make(void** handle) {
  *handle = std::calloc(1, 64);
  return 0;
}

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) { return make(handle); }
int cublasGetVersion_v2(void*, int* version) { return *version = 130100, 0; }
int cublasGetProperty(int which, int* value) {
  constexpr int version[] = {13, 1, 0};
  return *value = version[which], 0;
}
int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, 0; }
int cublasSetMathMode(void*, int mode) { return math_mode = mode, 0; }
int cublasGetMathMode(void*, int* mode) { return *mode = math_mode, 0; }
int cublasSgemm_v2(void*, int, int, int m, int n, int k, const float*, const float*, int, const float*, int,
                   const float*, float*, int) {
  return product("fp32", m, n, k, 1);
}
int cublasGemmEx(void*, int, int, int m, int n, int k, const void*, const void*, int type, int, const void*, int, int,
                 const void*, void*, int, int, int, int) {
  return product(("type " + std::to_string(type)).c_str(), m, n, k, 1);
}
int cublasSgemmStridedBatched(void*, int, int, int m, int n, int k, const float*, const float*, int, long long,
                              const float*, int, long long, const float*, float*, int, long long, int batch) {
  return product("fp32", m, n, k, batch);
}
int cublasGemmStridedBatchedEx(void*, int, int, int m, int n, int k, const void*, const void*, int type, int,
                               long long, const void*, int, int, long long, const void*, void*, int, int, long long,
                               int batch, int, int) {
  return product(("type " + std::to_string(type)).c_str(), m, n, k, batch);
}
int cublasSgemmBatched(void*, int, int, int m, int n, int k, const float*, const float* const*, int,
                       const float* const*, int, const float*, float* const*, int, int batch) {
  return product("fp32", m, n, k, batch);
}

int cublasLtCreate(void** handle) { return make(handle); }
int cublasLtMatmulDescCreate(void** made, int, int) { return make(made); }
int cublasLtMatmulPreferenceCreate(void** made) { return make(made); }
// A layout remembers its rows and columns.
int cublasLtMatrixLayoutCreate(void** made, int, std::uint64_t rows, std::uint64_t columns, std::int64_t) {
  make(made);
  const std::uint64_t shape[] = {rows, columns};
  std::memcpy(*made, shape, sizeof shape);
  return 0;
}
// One algorithm: the first result is whole zeros, which says CUBLAS_STATUS_SUCCESS and no workspace.
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* results, int* found) {
  constexpr std::size_t RESULT_BYTES = 96;
  std::memset(results, 0, RESULT_BYTES);
  return *found = 1, 0;
}
int cublasLtMatmul(void*, void*, const void*, const void*, const void* a_layout, const void*, const void*,
                   const void*, const void*, const void*, const void* d_layout, void*, void*, const void*, void*,
                   std::size_t, void*) {
  const auto* a = static_cast<const std::uint64_t*>(a_layout);
  const auto* d = static_cast<const std::uint64_t*>(d_layout);
  const int m = static_cast<int>(d[0]), n = static_cast<int>(d[1]);
  // The operand may be transposed: of its two sides the one that the result lacks is summed over.
  return product("by cuBLASLt", m, n, static_cast<int>(a[0] == d[0] ? a[1] : a[0]), 1);
}
std::size_t cublasLtGetVersion() { return 130100; }

}  // extern "C"
