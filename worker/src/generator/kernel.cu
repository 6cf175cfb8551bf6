// Keyed random numbers and the data D(v), with the bits of nadgrid_core::random and nadgrid_kernels::data.
//
// NVRTC compiles this file for the card that is there; host.cpp includes it, so that a machine without a card runs the
// same lines. Every operation on floats is one of the rounded intrinsics (`__fmul_rn` and so on), which no compiler may
// contract. A thread's work is a loop over PHASE: on the device it runs once, on the host once for each thread of the
// block, and BARRIER stands between loops that hand numbers on through `words`.
//
// Deliberately absent: state between launches. A number is a function of its stream's key and of its place in the stream.

#ifdef __CUDACC_RTC__
#define DEVICE static __device__ __forceinline__
#define PHASE(thread) for (u32 thread = threadIdx.x; thread < THREADS; thread += THREADS)
#define BARRIER() __syncthreads()
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

// Mirrored in launch.rs, where a test compares them.
constexpr u32 THREADS = 128;
// Words of a tile that are used: those of 126 of its 128 blocks. A tile starts anywhere in its first block; whole pairs of
// normals (4 words) and whole groups of D(v) (32 words) fit it.
constexpr u32 TILE = 2016;
// A block of ChaCha is 16 words; the 17th place keeps threads that write theirs off each other's memory bank.
constexpr u32 PITCH = 17;
constexpr u32 WORDS = THREADS * PITCH;
// What a launch's arguments have room for: 4,096 bytes.
constexpr u32 SEGMENTS = 64;
// Samples of D(v) that a block of threads places: 16 threads for the 16 chains of each sample's scalar product.
constexpr u32 CHAINS = 16;
constexpr u32 SAMPLES = THREADS / CHAINS;
// Words, and numbers, of a group of D(v)'s normals.
constexpr u32 GROUP = 32;
// Numbers that a launch's arguments have room for.
constexpr u32 NUMBERS = 480;

// How a segment is drawn.
constexpr u32 UNIFORM = 0, NORMAL = 1, CONSTANT = 2;

// Neighbouring numbers that are drawn alike: one tensor of parameters.
struct Segment {
  // Place of the first word in the stream.
  u64 word;
  // Place of the first number in a member's row.
  u64 place;
  u64 count;
  // Tiles of the segments before it.
  u32 first_tile;
  u32 kind;
  // Bound, standard deviation or the constant itself.
  float value;
  u32 unused;
};

// Rows of parameters: that of member i is drawn from the key's stream `first + i`.
struct Initialise {
  u32 key[8];
  u64 first;
  float* out;
  // Numbers from one row to the next.
  u64 stride;
  u32 segments;
  u32 unused;
  Segment segment[SEGMENTS];
};

// Numbers from the host, which come with the launch: a copy would have to wait, or to be waited for.
struct Copy {
  double* out;
  u32 count;
  u32 unused;
  double number[NUMBERS];
};

// The noise of D(v): row s holds the first `dimension` of the `padded` normals from word s * padded on.
struct Noise {
  u32 key[8];
  u64 stream;
  float* out;
  u64 samples;
  u32 dimension;
  u32 padded;
};

// Turns that noise into samples of D(v), in place, with their labels.
struct Place {
  // Of norm 1.
  const double* direction;
  float* out;
  long long* labels;
  double offset;
  double sigma;
  u64 samples;
  // Samples of class 0.
  u64 positive;
  u32 dimension;
  u32 unused;
};

// ---------------------------------------------------------------------------------------------------------------- words

DEVICE u32 rotate(u32 x, u32 by) { return (x << by) | (x >> (32 - by)); }

DEVICE void quarter_round(u32& a, u32& b, u32& c, u32& d) {
  a += b; d = rotate(d ^ a, 16);
  c += d; b = rotate(b ^ c, 12);
  a += b; d = rotate(d ^ a, 8);
  c += d; b = rotate(b ^ c, 7);
}

// The 16 words of ChaCha8's block `counter` (Bernstein 2008), with a 64-bit counter and a 64-bit stream.
DEVICE void chacha8(const u32* key, u64 stream, u64 counter, u32* to) {
  const u32 state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0], key[1], key[2], key[3],
                         key[4], key[5], key[6], key[7], (u32)counter, (u32)(counter >> 32), (u32)stream,
                         (u32)(stream >> 32)};
  u32 x[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) x[i] = state[i];
#pragma unroll
  for (int round = 0; round < 8; round += 2) {
    quarter_round(x[0], x[4], x[8], x[12]);
    quarter_round(x[1], x[5], x[9], x[13]);
    quarter_round(x[2], x[6], x[10], x[14]);
    quarter_round(x[3], x[7], x[11], x[15]);
    quarter_round(x[0], x[5], x[10], x[15]);
    quarter_round(x[1], x[6], x[11], x[12]);
    quarter_round(x[2], x[7], x[8], x[13]);
    quarter_round(x[3], x[4], x[9], x[14]);
  }
#pragma unroll
  for (int i = 0; i < 16; ++i) to[i] = x[i] + state[i];
}

// Draws this thread's block of the tile whose first word is `word`.
DEVICE void draw(const u32* key, u64 stream, u64 word, u32 thread, u32* words) {
  chacha8(key, stream, word / 16 + thread, words + thread * PITCH);
}

// Word i of a tile whose first word is `skip` words into its first block.
DEVICE u32 at(const u32* words, u32 skip, u32 i) {
  const u32 place = skip + i;
  return words[place / 16 * PITCH + place % 16];
}

// ------------------------------------------------------------------------------------- normals of parameters, f64, libm

// The natural logarithm of x in (0, 1], and sine and cosine of x in [0, 2pi): what the crate libm 0.2 computes for them,
// operation by operation. Its algorithms and numbers are FreeBSD's msun (e_log.c, k_sin.c, k_cos.c, e_rem_pio2.c):
//   Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunSoft, a Sun Microsystems, Inc.
//   business. Permission to use, copy, modify, and distribute this software is freely granted, provided that this
//   notice is preserved.

DEVICE double logarithm(double x) {
  u64 bits = (u64)__double_as_longlong(x);
  u32 high = (u32)(bits >> 32);
  if (bits == 0x3ff0000000000000) return 0.0;
  // x = 2^k * (1 + f), with 1 + f between sqrt(1/2) and sqrt(2).
  high += 0x3ff00000 - 0x3fe6a09e;
  const int k = (int)(high >> 20) - 0x3ff;
  high = (high & 0x000fffff) + 0x3fe6a09e;
  bits = ((u64)high << 32) | (bits & 0xffffffff);
  const double f = __dsub_rn(__longlong_as_double((long long)bits), 1.0);
  const double half_square = __dmul_rn(__dmul_rn(0.5, f), f);
  const double s = __ddiv_rn(f, __dadd_rn(2.0, f));
  const double z = __dmul_rn(s, s);
  const double w = __dmul_rn(z, z);
  double even = __dmul_rn(w, 1.531383769920937332e-01);
  even = __dmul_rn(w, __dadd_rn(2.222219843214978396e-01, even));
  even = __dmul_rn(w, __dadd_rn(3.999999999940941908e-01, even));
  double odd = __dmul_rn(w, 1.479819860511658591e-01);
  odd = __dmul_rn(w, __dadd_rn(1.818357216161805012e-01, odd));
  odd = __dmul_rn(w, __dadd_rn(2.857142874366239149e-01, odd));
  odd = __dmul_rn(z, __dadd_rn(6.666666666666735130e-01, odd));
  const double r = __dadd_rn(odd, even);
  const double n = __int2double_rn(k);
  double sum = __dmul_rn(s, __dadd_rn(half_square, r));
  sum = __dadd_rn(sum, __dmul_rn(n, 1.90821492927058770002e-10));
  sum = __dadd_rn(__dsub_rn(sum, half_square), f);
  return __dadd_rn(sum, __dmul_rn(n, 6.93147180369123816490e-01));
}

// sin(x + y) for |x| up to pi/4, y its tail; `tail` is false where there is none.
DEVICE double sine(double x, double y, bool tail) {
  const double z = __dmul_rn(x, x);
  const double w = __dmul_rn(z, z);
  double low = __dadd_rn(-1.98412698298579493134e-04, __dmul_rn(z, 2.75573137070700676789e-06));
  low = __dadd_rn(8.33333333332248946124e-03, __dmul_rn(z, low));
  const double high = __dadd_rn(-2.50507602534068634195e-08, __dmul_rn(z, 1.58969099521155010221e-10));
  const double r = __dadd_rn(low, __dmul_rn(__dmul_rn(z, w), high));
  const double v = __dmul_rn(z, x);
  const double s1 = -1.66666666666666324348e-01;
  if (!tail) return __dadd_rn(x, __dmul_rn(v, __dadd_rn(s1, __dmul_rn(z, r))));
  const double inner = __dsub_rn(__dmul_rn(0.5, y), __dmul_rn(v, r));
  return __dsub_rn(x, __dsub_rn(__dsub_rn(__dmul_rn(z, inner), y), __dmul_rn(v, s1)));
}

// cos(x + y), of the same.
DEVICE double cosine(double x, double y) {
  const double z = __dmul_rn(x, x);
  const double w = __dmul_rn(z, z);
  double low = __dadd_rn(-1.38888888888741095749e-03, __dmul_rn(z, 2.48015872894767294178e-05));
  low = __dmul_rn(z, __dadd_rn(4.16666666666666019037e-02, __dmul_rn(z, low)));
  double high = __dadd_rn(2.08757232123817482790e-09, __dmul_rn(z, -1.13596475577881948265e-11));
  high = __dadd_rn(-2.75573143513906633035e-07, __dmul_rn(z, high));
  const double r = __dadd_rn(low, __dmul_rn(__dmul_rn(w, w), high));
  const double half = __dmul_rn(0.5, z);
  const double c = __dsub_rn(1.0, half);
  const double rest = __dsub_rn(__dmul_rn(z, r), __dmul_rn(x, y));
  return __dadd_rn(c, __dadd_rn(__dsub_rn(__dsub_rn(1.0, c), half), rest));
}

// The exponent's bits of a number that is not negative.
DEVICE int exponent(double x) { return (int)(((u64)__double_as_longlong(x) >> 52) & 0x7ff); }

// x = n * pi/2 + y0 + y1 for x near a multiple of pi/2; returns n.
DEVICE int reduce_near(double x, double& y0, double& y1) {
  const double to_int = 6755399441055744.0;
  const double n = __dsub_rn(__dadd_rn(__dmul_rn(x, 6.36619772367581382433e-01), to_int), to_int);
  double r = __dsub_rn(x, __dmul_rn(n, 1.57079632673412561417e+00));
  double w = __dmul_rn(n, 6.07710050650619224932e-11);
  y0 = __dsub_rn(r, w);
  if (exponent(x) - exponent(y0) > 16) {
    double t = r;
    w = __dmul_rn(n, 6.07710050630396597660e-11);
    r = __dsub_rn(t, w);
    w = __dsub_rn(__dmul_rn(n, 2.02226624879595063154e-21), __dsub_rn(__dsub_rn(t, r), w));
    y0 = __dsub_rn(r, w);
    if (exponent(x) - exponent(y0) > 49) {
      t = r;
      w = __dmul_rn(n, 2.02226624871116645580e-21);
      r = __dsub_rn(t, w);
      w = __dsub_rn(__dmul_rn(n, 8.47842766036889956997e-32), __dsub_rn(__dsub_rn(t, r), w));
      y0 = __dsub_rn(r, w);
    }
  }
  y1 = __dsub_rn(__dsub_rn(r, y0), w);
  return (int)n;
}

// The same for x = n * pi/2 + what is left, where that is not small.
DEVICE int reduce_far(double x, double n, double& y0, double& y1) {
  const double z = __dsub_rn(x, __dmul_rn(n, 1.57079632673412561417e+00));
  const double tail = __dmul_rn(n, 6.07710050650619224932e-11);
  y0 = __dsub_rn(z, tail);
  y1 = __dsub_rn(__dsub_rn(z, y0), tail);
  return (int)n;
}

DEVICE int reduce(double x, u32 high, double& y0, double& y1) {
  if (high <= 0x400f6a7a) {
    if ((high & 0xfffff) == 0x921fb) return reduce_near(x, y0, y1);
    return reduce_far(x, high <= 0x4002d97c ? 1.0 : 2.0, y0, y1);
  }
  if (high <= 0x4015fdbc) return high == 0x4012d97c ? reduce_near(x, y0, y1) : reduce_far(x, 3.0, y0, y1);
  return high == 0x401921fb ? reduce_near(x, y0, y1) : reduce_far(x, 4.0, y0, y1);
}

DEVICE void sine_and_cosine(double x, double& sin, double& cos) {
  const u32 high = (u32)((u64)__double_as_longlong(x) >> 32);
  if (high < 0x3e46a09e) {
    sin = x;
    cos = 1.0;
    return;
  }
  if (high <= 0x3fe921fb) {
    sin = sine(x, 0.0, false);
    cos = cosine(x, 0.0);
    return;
  }
  double y0, y1;
  const int n = reduce(x, high, y0, y1);
  const double s = sine(y0, y1, true), c = cosine(y0, y1);
  sin = (n & 1) == 0 ? s : c;
  cos = (n & 1) == 0 ? c : s;
  if ((n & 2) != 0) sin = -sin;
  if (((n + 1) & 2) != 0) cos = -cos;
}

// A 53-bit number in [0, 1) of two words, the lower first.
DEVICE double unit(u32 low, u32 high) {
  const u64 word = ((u64)high << 32) | low;
  return __dmul_rn(__ull2double_rn(word >> 11), 1.0 / 9007199254740992.0);
}

struct Normals {
  double first, second;
};

// Two normals of four words, by Box and Muller's transform.
DEVICE Normals box_muller(u32 a, u32 b, u32 c, u32 d) {
  const double length = __dsqrt_rn(__dmul_rn(-2.0, logarithm(__dsub_rn(1.0, unit(a, b)))));
  double sin, cos;
  sine_and_cosine(__dmul_rn(0x1.921fb54442d18p+2, unit(c, d)), sin, cos);
  return {__dmul_rn(length, cos), __dmul_rn(length, sin)};
}

// ---------------------------------------------------------------------------------------------------- normals of D(v), f32

// sqrt(-2 ln u) for u = (2j + 1) / 2^31, j the word's upper 30 bits: normal.rs.
DEVICE float radius(u32 word) {
  const u32 sqrt_half = 0x3f3504f3;
  const u32 bits = __float_as_uint(__int2float_rn((int)((word >> 1) | 1))) + (0x3f800000 - sqrt_half);
  const int halvings = (127 + 31) - (int)(bits >> 23);
  const float m = __uint_as_float((bits & 0x007fffff) + sqrt_half);
  const float s = __fdiv_rn(__fsub_rn(m, 1.0f), __fadd_rn(m, 1.0f));
  const float z = __fmul_rn(s, s);
  float series = __fadd_rn(1.0f / 7.0f, __fmul_rn(z, 1.0f / 9.0f));
  series = __fadd_rn(1.0f / 5.0f, __fmul_rn(z, series));
  series = __fadd_rn(1.0f / 3.0f, __fmul_rn(z, series));
  series = __fadd_rn(1.0f, __fmul_rn(z, series));
  const float whole = __fmul_rn(__int2float_rn(halvings), 2.0f * 0x1.62e430p-1f);
  return __fsqrt_rn(__fsub_rn(whole, __fmul_rn(__fmul_rn(4.0f, s), series)));
}

// A point of the unit circle: normal.rs.
DEVICE void point(u32 word, float& a, float& b) {
  const float x = __fmul_rn(__int2float_rn((int)(word << 2)), 0x1.921fb6p-1f / 2147483648.0f);
  const float z = __fmul_rn(x, x);
  float cos = __fadd_rn(-1.0f / 720.0f, __fmul_rn(z, 1.0f / 40320.0f));
  cos = __fadd_rn(1.0f / 24.0f, __fmul_rn(z, cos));
  cos = __fadd_rn(-1.0f / 2.0f, __fmul_rn(z, cos));
  cos = __fadd_rn(1.0f, __fmul_rn(z, cos));
  float sin = __fadd_rn(-1.0f / 5040.0f, __fmul_rn(z, 1.0f / 362880.0f));
  sin = __fadd_rn(1.0f / 120.0f, __fmul_rn(z, sin));
  sin = __fadd_rn(-1.0f / 6.0f, __fmul_rn(z, sin));
  sin = __fmul_rn(x, __fadd_rn(1.0f, __fmul_rn(z, sin)));
  const bool swapped = (word & (1u << 30)) != 0;
  const u32 sign = word & (1u << 31);
  a = __uint_as_float(__float_as_uint(swapped ? sin : cos) ^ sign);
  b = __uint_as_float(__float_as_uint(swapped ? cos : sin) ^ sign);
}

// -------------------------------------------------------------------------------------------------------------- kernels

// Tile `tile` of row `row`.
DEVICE void initialise(const Initialise& task, u32 tile, u32 row, u32* words) {
  u32 own = 0;
  for (u32 step = SEGMENTS / 2; step > 0; step /= 2) {
    if (own + step < task.segments && task.segment[own + step].first_tile <= tile) own += step;
  }
  const Segment& segment = task.segment[own];
  // Numbers of a tile: two words make one normal.
  const u32 most = segment.kind == NORMAL ? TILE / 2 : TILE;
  const u64 begun = (u64)(tile - segment.first_tile) * most;
  const u32 count = (u32)(segment.count - begun < most ? segment.count - begun : most);
  const u64 word = segment.word + (u64)(tile - segment.first_tile) * TILE;
  const u32 skip = (u32)(word % 16);
  const u64 stream = task.first + row;
  float* const out = task.out + row * task.stride + segment.place + begun;
  const float value = segment.value;
  if (segment.kind == CONSTANT) {
    PHASE(thread) {
      for (u32 i = thread; i < count; i += THREADS) out[i] = value;
    }
    return;
  }
  PHASE(thread) { draw(task.key, stream, word, thread, words); }
  BARRIER();
  if (segment.kind == UNIFORM) {
    const float range = __fmul_rn(2.0f, value);
    PHASE(thread) {
      for (u32 i = thread; i < count; i += THREADS) {
        const float fraction = __fmul_rn(__uint2float_rn(at(words, skip, i) >> 8), 1.0f / 16777216.0f);
        out[i] = __fsub_rn(__fmul_rn(fraction, range), value);
      }
    }
    return;
  }
  PHASE(thread) {
    for (u32 pair = thread; 2 * pair < count; pair += THREADS) {
      const u32 first = 4 * pair;
      const Normals normals = box_muller(at(words, skip, first), at(words, skip, first + 1), at(words, skip, first + 2),
                                         at(words, skip, first + 3));
      out[2 * pair] = __fmul_rn(__double2float_rn(normals.first), value);
      if (2 * pair + 1 < count) out[2 * pair + 1] = __fmul_rn(__double2float_rn(normals.second), value);
    }
  }
}

DEVICE void copy(const Copy& task) {
  PHASE(thread) {
    for (u32 i = thread; i < task.count; i += THREADS) task.out[i] = task.number[i];
  }
}

// Tile `tile` of the words of all samples.
DEVICE void noise(const Noise& task, u32 tile, u32* words) {
  const u64 word = (u64)tile * TILE;
  const u64 sample = word / task.padded;
  const u32 column = (u32)(word % task.padded);
  const u64 left = task.samples * task.padded - word;
  const u32 count = (u32)(left < TILE ? left : TILE);
  PHASE(thread) { draw(task.key, task.stream, word, thread, words); }
  BARRIER();
  PHASE(thread) {
    for (u32 i = thread; 2 * i < count; i += THREADS) {
      const u32 first = i / 16 * GROUP + i % 16;
      const float length = radius(at(words, 0, first));
      float a, b;
      point(at(words, 0, first + 16), a, b);
      const u32 place = (column + first) % task.padded;
      float* const row = task.out + (sample + (column + first) / task.padded) * task.dimension;
      if (place < task.dimension) row[place] = __fmul_rn(length, a);
      if (place + 16 < task.dimension) row[place + 16] = __fmul_rn(length, b);
    }
  }
}

// The samples from `block` * SAMPLES on. `sums` has room for THREADS numbers.
DEVICE void place(const Place& task, u32 block, double* sums) {
  const u64 begin = (u64)block * SAMPLES;
  const u32 samples = (u32)(task.samples - begin < SAMPLES ? task.samples - begin : SAMPLES);
  float* const rows = task.out + begin * task.dimension;
  PHASE(thread) {
    double sum = 0.0;
    if (thread / CHAINS < samples) {
      const float* const row = rows + (u64)(thread / CHAINS) * task.dimension;
      for (u32 i = thread % CHAINS; i < task.dimension; i += CHAINS) {
        sum = __dadd_rn(sum, __dmul_rn((double)row[i], task.direction[i]));
      }
    }
    sums[thread] = sum;
  }
  BARRIER();
  // A sample's first place then holds how far it is moved along the direction.
  PHASE(thread) {
    if (thread < samples) {
      double sum = sums[thread * CHAINS];
      for (u32 chain = 1; chain < CHAINS; ++chain) sum = __dadd_rn(sum, sums[thread * CHAINS + chain]);
      const bool positive = begin + thread < task.positive;
      sums[thread * CHAINS] = __dsub_rn(positive ? task.offset : -task.offset, __dmul_rn(task.sigma, sum));
      task.labels[begin + thread] = positive ? 0 : 1;
    }
  }
  BARRIER();
  for (u32 sample = 0; sample < samples; ++sample) {
    const double shift = sums[sample * CHAINS];
    float* const row = rows + (u64)sample * task.dimension;
    PHASE(thread) {
      for (u32 i = thread; i < task.dimension; i += THREADS) {
        const double along = __dmul_rn(shift, task.direction[i]);
        row[i] = __double2float_rn(__dadd_rn(__dmul_rn(task.sigma, (double)row[i]), along));
      }
    }
  }
}

#ifdef __CUDACC_RTC__

extern "C" __global__ void __launch_bounds__(THREADS) nadgrid_initialise(const __grid_constant__ Initialise task) {
  __shared__ u32 words[WORDS];
  initialise(task, blockIdx.x, blockIdx.y, words);
}

extern "C" __global__ void __launch_bounds__(THREADS) nadgrid_copy(const __grid_constant__ Copy task) { copy(task); }

extern "C" __global__ void __launch_bounds__(THREADS) nadgrid_noise(const __grid_constant__ Noise task) {
  __shared__ u32 words[WORDS];
  noise(task, blockIdx.x, words);
}

extern "C" __global__ void __launch_bounds__(THREADS) nadgrid_place(const __grid_constant__ Place task) {
  __shared__ double sums[THREADS];
  place(task, blockIdx.x, sums);
}

#endif
