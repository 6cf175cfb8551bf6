// The kernels of kernel.cu on the host, block by block: the tests' reference for what a card computes.
//
// Compiled without contraction (-ffp-contract=off), so that each of these functions is one rounded operation.

#include <cmath>
#include <cstring>

#define DEVICE static inline
#define PHASE(thread) for (u32 thread = 0; thread < THREADS; ++thread)
#define BARRIER() static_cast<void>(0)

namespace {

template <typename To, typename From>
To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits are moved, not changed");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned int a) { return static_cast<float>(a); }
inline double __int2double_rn(int a) { return static_cast<double>(a); }
inline double __ull2double_rn(unsigned long long a) { return static_cast<double>(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline unsigned int __float_as_uint(float a) { return bits_of<unsigned int>(a); }
inline float __uint_as_float(unsigned int a) { return bits_of<float>(a); }
inline long long __double_as_longlong(double a) { return bits_of<long long>(a); }
inline double __longlong_as_double(long long a) { return bits_of<double>(a); }

#include "kernel.cu"

}  // namespace

extern "C" {

void nadgrid_generator_initialise(const void* task, u32 blocks, u32 rows) {
  u32 words[WORDS];
  for (u32 row = 0; row < rows; ++row) {
    for (u32 tile = 0; tile < blocks; ++tile) initialise(*static_cast<const Initialise*>(task), tile, row, words);
  }
}

void nadgrid_generator_copy(const void* task) { copy(*static_cast<const Copy*>(task)); }

void nadgrid_generator_noise(const void* task, u32 blocks) {
  u32 words[WORDS];
  for (u32 tile = 0; tile < blocks; ++tile) noise(*static_cast<const Noise*>(task), tile, words);
}

void nadgrid_generator_place(const void* task, u32 blocks) {
  double sums[THREADS];
  for (u32 block = 0; block < blocks; ++block) place(*static_cast<const Place*>(task), block, sums);
}

// Cosine and sine times the length, of two 64-bit words: the two normals before they are scaled and rounded to f32.
void nadgrid_generator_normals(const u32* words, double* out) {
  const Normals normals = box_muller(words[0], words[1], words[2], words[3]);
  out[0] = normals.first;
  out[1] = normals.second;
}

// What launch.rs repeats of the kernels' constants and sizes.
void nadgrid_generator_layout(u64* out) {
  const u64 layout[] = {THREADS, TILE, SEGMENTS, SAMPLES, GROUP, NUMBERS, UNIFORM, NORMAL, CONSTANT, sizeof(Segment),
                        sizeof(Initialise), sizeof(Copy), sizeof(Noise), sizeof(Place)};
  std::memcpy(out, layout, sizeof(layout));
}

}  // extern "C"
