// The CUDA run-time: memory, copies, launches, streams, events, and the card's properties.
//
// Every call is typed by NVIDIA's own header. A stream is always empty, an event has always happened: the card is
// infinitely fast.

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "card.hpp"

using card::row;
using card::setting;

namespace {

constexpr std::size_t MIB = 1 << 20;

cudaError_t state() { return static_cast<cudaError_t>(card::state()); }

thread_local cudaError_t last = cudaSuccess;
cudaError_t failed(cudaError_t error) { return last = error; }

std::size_t total() { return setting("NULL_GPU_MIB", 139 * 1024) * MIB; }
// What other processes hold of the card.
std::size_t taken() { return setting("NULL_GPU_TAKEN_MIB", 0) * MIB; }

// 90 is 9.0.
int capability() { return static_cast<int>(setting("NULL_GPU_CAPABILITY", 90)); }

// Allocated ranges of one kind of memory, by their first byte.
class Ranges {
 public:
  void insert(void* first, std::size_t bytes) { ranges_[static_cast<char*>(first)] = bytes, held_ += bytes; }
  std::size_t erase(void* first) {
    const auto found = ranges_.find(static_cast<char*>(first));
    if (found == ranges_.end()) return 0;
    const std::size_t bytes = found->second;
    ranges_.erase(found), held_ -= bytes;
    return bytes;
  }
  bool holds(const void* address) const {
    const char* byte = static_cast<const char*>(address);
    auto after = ranges_.upper_bound(const_cast<char*>(byte));
    return after != ranges_.begin() && byte < (--after)->first + after->second;
  }
  std::size_t held() const { return held_; }

 private:
  std::map<char*, std::size_t> ranges_;
  std::size_t held_ = 0;
};

// Leaked, as libtorch frees memory while static objects are destroyed.
std::mutex& mutex = *new std::mutex;
Ranges& device = *new Ranges;
Ranges& pinned = *new Ranges;

cudaError_t count_of_devices(int* count) {
  *count = 0;
  if (setting("NULL_GPU_DRIVER", CUDART_VERSION) < CUDART_VERSION) return failed(cudaErrorInsufficientDriver);
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  // The first entry that names no card ends the list.
  const bool hidden = visible && std::strncmp(visible, "0", 1) != 0 && std::strncmp(visible, "GPU-", 4) != 0;
  *count = hidden ? 0 : static_cast<int>(setting("NULL_GPU_DEVICES", 1));
  return *count == 0 ? failed(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t copied(void* to, const void* from, std::size_t bytes, const char* how) {
  bool into, out_of, host_is_pinned;
  {
    const std::lock_guard lock(mutex);
    into = device.holds(to), out_of = device.holds(from), host_is_pinned = pinned.holds(into ? from : to);
  }
  static const char* directions[2][2] = {{"on the host", "to host"}, {"to device", "on device"}};
  std::string name = std::string("copy ") + directions[into][out_of];
  if (into != out_of) name += std::string(host_is_pinned ? ", pinned, " : ", pageable, ") + how;
  row(name).add(bytes);
  // What nobody computes is zero. Nothing reads the card's memory but through here, so nothing need be written there.
  if (!into && out_of) std::memset(to, 0, bytes);
  if (!into && !out_of) std::memcpy(to, from, bytes);
  return state();
}

cudaError_t pinned_now(void* first, std::size_t bytes) {
  const std::lock_guard lock(mutex);
  pinned.insert(first, bytes);
  row("memory pinned").add();
  row("memory pinned").raise(pinned.held());
  return cudaSuccess;
}

// Kernels by the address of their stub in the host's code.
struct Kernel {
  const char* mangled;
  card::Row* row;
};
std::unordered_map<const void*, Kernel>& kernels = *new std::unordered_map<const void*, Kernel>;

thread_local bool capturing = false;

cudaError_t launch(const void* function) {
  card::Row* kernel = nullptr;
  {
    const std::lock_guard lock(mutex);
    Kernel& known = kernels.try_emplace(function, Kernel{"?", nullptr}).first->second;
    if (!known.row) known.row = &row("kernel " + card::readable(known.mangled));
    kernel = known.row;
  }
  if (capturing) {
    row("captured kernel").add();
  } else {
    card::launched(*kernel);
  }
  return cudaSuccess;
}

template <typename Handle>
cudaError_t make(Handle* handle) {
  *handle = static_cast<Handle>(std::calloc(1, 64));
  return cudaSuccess;
}

cudaError_t waited(const char* call) {
  row(std::string("synchronisation ") + call).add();
  return state();
}

struct Configuration {
  dim3 grid, block;
  std::size_t shared;
  void* stream;
};
thread_local std::vector<Configuration> configurations;

}  // namespace

void* driver_function(const char* name);

extern "C" {

// The card.
cudaError_t cudaGetDeviceCount(int* count) { return count_of_devices(count); }
cudaError_t cudaGetDevice(int* number) { return *number = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int number) {
  int count = 0;
  if (const cudaError_t error = count_of_devices(&count)) return error;
  return number < count ? cudaSuccess : failed(cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = static_cast<int>(setting("NULL_GPU_DRIVER", CUDART_VERSION));
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = capability() / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = capability() % 10; break;
    case cudaDevAttrMultiProcessorCount: *value = static_cast<int>(setting("NULL_GPU_MULTIPROCESSORS", 132)); break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 233472; break;
    case cudaDevAttrL2CacheSize: *value = 60 * MIB; break;
    default: *value = 0;
  }
  return state();
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* is, int) {
  std::memset(is, 0, sizeof *is);
  std::strcpy(is->name, "Null GPU");
  is->totalGlobalMem = total();
  is->sharedMemPerBlock = 49152, is->sharedMemPerBlockOptin = 232448, is->sharedMemPerMultiprocessor = 233472;
  is->regsPerBlock = is->regsPerMultiprocessor = 65536;
  is->warpSize = 32, is->maxThreadsPerBlock = 1024, is->maxThreadsPerMultiProcessor = 2048;
  is->maxThreadsDim[0] = is->maxThreadsDim[1] = 1024, is->maxThreadsDim[2] = 64;
  is->maxGridSize[0] = 2147483647, is->maxGridSize[1] = is->maxGridSize[2] = 65535;
  is->major = capability() / 10, is->minor = capability() % 10;
  is->multiProcessorCount = static_cast<int>(setting("NULL_GPU_MULTIPROCESSORS", 132));
  is->l2CacheSize = 60 * MIB, is->totalConstMem = 65536;
  is->concurrentKernels = is->unifiedAddressing = 1, is->maxBlocksPerMultiProcessor = 32;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int) {
  return std::strncpy(text, "0000:00:00.0", length), cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return *least = 0, *greatest = -5, cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }

// Errors.
cudaError_t cudaGetLastError() {
  const cudaError_t error = state() ? state() : last;
  return last = cudaSuccess, error;
}
cudaError_t cudaPeekAtLastError() { return state() ? state() : last; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return "an error that the null GPU has no words for";
  }
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    default: return "cudaErrorUnknown";
  }
}

// Memory.
cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (const cudaError_t error = state()) return error;
  const std::lock_guard lock(mutex);
  if (device.held() + bytes + taken() > total()) {
    row("memory refused").add(bytes);
    return failed(cudaErrorMemoryAllocation);
  }
  // No page of it is there until the host writes to it.
  void* made = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return failed(cudaErrorMemoryAllocation);
  device.insert(*memory = made, bytes);
  row("memory device").add();
  row("memory device").raise(device.held());
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  const std::lock_guard lock(mutex);
  if (const std::size_t bytes = device.erase(memory)) munmap(memory, bytes);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  if (const cudaError_t error = state()) return error;
  if (posix_memalign(memory, 4096, bytes) != 0) return failed(cudaErrorMemoryAllocation);
  return pinned_now(*memory, bytes);
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return cudaHostAlloc(memory, bytes, 0); }
cudaError_t cudaFreeHost(void* memory) {
  const std::lock_guard lock(mutex);
  if (pinned.erase(memory)) std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned) { return pinned_now(memory, bytes); }
cudaError_t cudaHostUnregister(void* memory) {
  const std::lock_guard lock(mutex);
  return pinned.erase(memory), cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* all) {
  const std::lock_guard lock(mutex);
  *all = total();
  *free = *all - std::min(*all, device.held() + taken());
  return state();
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* is, const void* memory) {
  std::memset(is, 0, sizeof *is);
  const std::lock_guard lock(mutex);
  is->type = device.holds(memory)   ? cudaMemoryTypeDevice
             : pinned.holds(memory) ? cudaMemoryTypeHost
                                    : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  return copied(to, from, bytes, "synchronous");
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return copied(to, from, bytes, "asynchronous");
}
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void*, int, std::size_t bytes, cudaStream_t) {
  row("fill").add(bytes);
  return state();
}

// Kernels.
void** __cudaRegisterFatBinary(void*) {
  static void* handle[1];
  return handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* stub, char*, const char* name, int, void*, void*, void*, void*, int*) {
  const std::lock_guard lock(mutex);
  kernels[stub] = {name, nullptr};
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, void* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  if (configurations.empty()) return failed(cudaErrorInvalidValue);
  const Configuration& given = configurations.back();
  *grid = given.grid, *block = given.block, *shared = given.shared, *static_cast<void**>(stream) = given.stream;
  configurations.pop_back();
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return launch(kernel);
}
cudaError_t cudaLaunchKernel(const void* function, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return launch(function);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void* function, void**) { return launch(function); }
cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return launch(function);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* is, const void*) {
  std::memset(is, 0, sizeof *is);
  is->maxThreadsPerBlock = 1024, is->numRegs = 32, is->binaryVersion = is->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, std::size_t) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t,
                                                                   unsigned) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = driver_function(name);
  if (result) *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// Streams, events and graphs.
cudaError_t cudaDeviceSynchronize() { return waited("of the device"); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return waited("of a stream"); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return waited("of an event"); }
cudaError_t cudaStreamQuery(cudaStream_t) { return state(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return state(); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return make(stream); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) { return make(stream); }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return make(event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return make(event); }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return row("event").add(), state(); }
cudaError_t cudaEventQuery(cudaEvent_t) { return state(); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  return *milliseconds = 1, cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* is) {
  *is = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* is, unsigned long long* number,
                                     cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**,
                                     std::size_t*) {
  if (number) *number = 1;
  return cudaStreamIsCapturing(nullptr, is);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return capturing = true, cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) { return capturing = false, make(graph); }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaGraphGetNodes(cudaGraph_t, cudaGraphNode_t*, std::size_t* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* graph, cudaGraph_t, unsigned long long) {
  return make(graph);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  static card::Row& graph = row("kernel (a graph of kernels)");
  return card::launched(graph), state();
}

}  // extern "C"
