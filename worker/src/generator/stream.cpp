// The CUDA stream that libtorch's operations of this thread go to, for src/generator/driver.rs: its kernels go there too.
//
// Deliberately absent: CUDA's headers. The handle is asked of what libtorch_cuda.so registered with c10.

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

// False and the reason in `error`, closed with a zero, if libtorch throws.
extern "C" bool nadgrid_generator_stream(int device, void** stream, char* error, std::size_t capacity) noexcept {
  const char* reason = nullptr;
  try {
    const c10::impl::DeviceGuardImplInterface* cuda = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
    const c10::Device place(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    *stream = cuda->getStreamNativeHandle(cuda->getStream(place));
    return true;
  } catch (const c10::Error& thrown) {
    reason = thrown.what_without_backtrace();
    const std::size_t length = std::min(std::strlen(reason), capacity - 1);
    std::memcpy(error, reason, length);
    error[length] = '\0';
  } catch (...) {
    error[0] = '\0';
  }
  return false;
}
