// The CUDA stream that libtorch's operations of this thread go to, for src/generator/driver.rs: its kernels go there too.
//
// Deliberately absent: CUDA's headers. The handle is asked of what libtorch_cuda.so registered with c10.

#include "../guarded.hpp"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstddef>

// False and the reason in `error`, closed with a zero, if libtorch throws.
extern "C" bool nadgrid_generator_stream(int device, void** stream, char* error, std::size_t capacity) noexcept {
  return guarded(error, capacity, [&] {
    const c10::impl::DeviceGuardImplInterface* cuda = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
    const c10::Device place(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    *stream = cuda->getStreamNativeHandle(cuda->getStream(place));
  });
}
