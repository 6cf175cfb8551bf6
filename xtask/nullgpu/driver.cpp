// The CUDA driver and the run-time compiler, as far as libtorch or the worker look at what these answer.

#include <cuda.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "card.hpp"

using card::setting;

namespace {

int context;
int succeed() { return 0; }
CUresult state() { return static_cast<CUresult>(card::state()); }

// A kernel of a module is the row that its launches are counted in.
CUfunction of_row(card::Row& row) { return reinterpret_cast<CUfunction>(&row); }

CUresult launch(CUfunction function) {
  card::launched(*reinterpret_cast<card::Row*>(function));
  return state();
}

}  // namespace

// The run-time's numbers of attributes are the driver's.
extern "C" int cudaDeviceGetAttribute(int* value, int attribute, int device);

// A function of the driver by its name; one that succeeds where there is none.
void* driver_function(const char* name) {
  void* known = dlsym(RTLD_DEFAULT, name);
  return known ? known : reinterpret_cast<void*>(succeed);
}

extern "C" {

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) {
  *version = static_cast<int>(setting("NULL_GPU_DRIVER", CUDA_VERSION));
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* current) {
  *current = reinterpret_cast<CUcontext>(&context);
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) { return *device = 0, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int) { return *device = 0, CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return static_cast<CUresult>(cudaDeviceGetAttribute(value, attribute, device));
}
CUresult cuDeviceGetCount(int* count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  return *flags = 0, *active = 1, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* retained, CUdevice) { return cuCtxGetCurrent(retained); }
CUresult cuGetErrorString(CUresult, const char** text) { return *text = "the null GPU's driver failed", CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult, const char** text) { return *text = "CUDA_ERROR_UNKNOWN", CUDA_SUCCESS; }
CUresult cuModuleLoadData(CUmodule* module, const void*) {
  *module = static_cast<CUmodule>(std::calloc(1, 64));
  return state();
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) {
  return cuModuleLoadData(module, image);
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
  *function = of_row(card::row("kernel " + card::readable(name)));
  return state();
}
CUresult cuModuleGetGlobal_v2(CUdeviceptr* at, std::size_t* bytes, CUmodule, const char*) {
  if (at) *at = 0;
  if (bytes) *bytes = 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction) { return *value = 1024, CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int, std::size_t) {
  return *blocks = 2, CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                        CUstream, void**, void**) {
  return launch(function);
}
CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                   unsigned, CUstream, void**) {
  return launch(function);
}

// NVRTC: programs compile to nothing, and kernels are called what the source calls them.
int nvrtcVersion(int* major, int* minor) {
  *major = CUDA_VERSION / 1000, *minor = CUDA_VERSION % 1000 / 10;
  return 0;
}
int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
  *program = std::calloc(1, 64);
  return 0;
}
int nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR"; }
int nvrtcGetLoweredName(void*, const char* name, const char** lowered) { return *lowered = name, 0; }
#define EMPTY(what)                                                      \
  int nvrtcGet##what##Size(void*, std::size_t* size) { return *size = 1, 0; } \
  int nvrtcGet##what(void*, char* text) { return *text = '\0', 0; }
EMPTY(PTX)
EMPTY(CUBIN)
EMPTY(ProgramLog)

}  // extern "C"
