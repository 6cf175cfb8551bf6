// What cuda_runtime_api.h asks of the CUDA compiler's own headers, which are in another wheel.
#pragma once
#define __host__
#define __device__
#define __device_builtin__
#define __cudart_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define __specialization_static
#define __forceinline__ inline
#define CUDARTAPI
#define CUDARTAPI_CDECL
