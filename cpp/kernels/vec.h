// Vectors of L lanes: load, store, broadcast, fma, and exp, sigmoid and tanh built on them.
//
// All functions consist of IEEE operations, which every instruction set rounds identically, so that all builds give the
// same bits.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#elif defined(ONWARD_SLOW_FMA)
#include <emmintrin.h>
#endif

namespace {

using onward::Size;

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16, vector_registers = 32;
#else
constexpr int vector_bytes = 16, vector_registers = 16;
#endif

// Whether tiles of a few rows are as fast as larger ones, and code must be small.
#if defined(__wasm__) || defined(ONWARD_SLOW_FMA)
constexpr bool small_tiles = true;
#else
constexpr bool small_tiles = false;
#endif

typedef float f32v __attribute__((vector_size(vector_bytes), may_alias));
typedef double f64v __attribute__((vector_size(vector_bytes), may_alias));
typedef int32_t i32v __attribute__((vector_size(vector_bytes), may_alias));
typedef int64_t i64v __attribute__((vector_size(vector_bytes), may_alias));
typedef uint32_t u32v __attribute__((vector_size(vector_bytes), may_alias));
typedef uint64_t u64v __attribute__((vector_size(vector_bytes), may_alias));

// The vectors and constants of a precision.
//   magic     adding it to x rounds x to an integer, which is then in the low bits
//   ln2_hi    ends in zeros, so that n ln2_hi is exact
//   exp_q     expm1(r) = r + r^2 q(r) on |r| <= ln(2)/2, fitted for the smallest relative error
//   exp_zero  here the scale 2^n of exp(x) is 0; smaller x are clipped to it
//   exp_max   up to here, the scale 2^n of exp(x) is finite
//   exp_inf   above it, exp(x) overflows
//   atanh_q   atanh(s) = s + s^3 q(s^2) on |s| <= 1/3, fitted likewise
//   normal_q  q(t) of gelu on |t| <= 1
//   max       the largest finite number
//   tiny      the smallest number that is not subnormal
template <class Real>
struct Float;

template <>
struct Float<float> {
    typedef f32v vec;
    typedef i32v ivec;
    typedef u32v uvec;
    static constexpr int L = vector_bytes / 4, mantissa_bits = 23, exponent_bias = 127;
    static constexpr float magic = 0x1.8p23f, log2e = 0x1.715476p0f;
    static constexpr float ln2_hi = 0x1.62e4p-1f, ln2_lo = 0x1.7f7d1cp-20f;
    static constexpr float exp_q[] = {0x1p-1f, 0x1.5554b0p-3f, 0x1.5554dap-5f, 0x1.1227acp-7f, 0x1.6d5d76p-10f};
    static constexpr float exp_zero = -88, exp_max = 88.25f, exp_inf = 0x1.62e42ep6f;
    static constexpr float atanh_q[] = {0x1.555556p-2f, 0x1.9998d4p-3f, 0x1.24c926p-3f, 0x1.bc8cf8p-4f, 0x1.dba26p-4f};
    static constexpr float normal_q[] = {0x1.82b4bcp-1f,  -0x1.373e32p-1f, 0x1.8c6dbep-2f, -0x1.7e01b8p-3f,
                                         0x1.eec4f4p-5f,  -0x1.ec5254p-8f, -0x1.c81fe6p-9f, 0x1.99eff6p-10f,
                                         0x1.184a9ep-13f, -0x1.49ecd6p-13f, -0x1.d0af12p-20f};
    static constexpr float max = 0x1.fffffep127f, tiny = 0x1p-126f;
};

template <>
struct Float<double> {
    typedef f64v vec;
    typedef i64v ivec;
    typedef u64v uvec;
    static constexpr int L = vector_bytes / 8, mantissa_bits = 52, exponent_bias = 1023;
    static constexpr double magic = 0x1.8p52, log2e = 0x1.71547652b82fep0;
    static constexpr double ln2_hi = 0x1.62e42feep-1, ln2_lo = 0x1.a39ef35793c76p-33;
    static constexpr double exp_q[] = {0x1p-1, 0x1.5555555555559p-3, 0x1.5555555555557p-5, 0x1.111111110f649p-7,
                                       0x1.6c16c16c156eap-10, 0x1.a01a01b00ad4ap-13, 0x1.a01a01ab68879p-16,
                                       0x1.71ddf7f8b37d2p-19, 0x1.27e4d04d0c2eap-22, 0x1.af5f58fd39a91p-26,
                                       0x1.1f85af58ddec4p-29};
    static constexpr double exp_zero = -709, exp_max = 709.25, exp_inf = 0x1.62e42fefa39efp9;
    static constexpr double atanh_q[] = {0x1.5555555555555p-2, 0x1.999999999999cp-3, 0x1.2492492491fe8p-3,
                                         0x1.c71c71c77e0f7p-4, 0x1.745d1724e5b21p-4, 0x1.3b13b7c41e111p-4,
                                         0x1.11103f2bddc9fp-4, 0x1.e2046677f3c39p-5, 0x1.ad46f379b316dp-5,
                                         0x1.9739afdde0110p-5, 0x1.0371f75936f6fp-5, 0x1.37efaea22dc4bp-4};
    static constexpr double normal_q[] = {
        0x1.82b4bb8c94dcdp-1,  -0x1.373e3a893c28cp-1,  0x1.8c6dbf2cfc388p-2,  -0x1.7dff2bff68080p-3,
        0x1.eec4cc3e39776p-5,  -0x1.ee2761054501fp-8,  -0x1.c81719be71757p-9, 0x1.ab825feed60c0p-10,
        0x1.17a4a08efb4f6p-13, -0x1.e4a43156c4564p-13, -0x1.000b3fd28b8a4p-19, 0x1.26d18d992c1ccp-15,
        0x1.7fa62c0d145c8p-21, -0x1.8d6480ccf6ccap-18, -0x1.4f852d0cd4c1ep-21, 0x1.1316b229f3154p-20,
        0x1.1c4173fea8cfep-22, -0x1.571caa0900ce5p-23, -0x1.525f7cf095528p-24, 0x1.3292d28468146p-26,
        0x1.14091d7a7c750p-26, -0x1.42e7f2a5e9142p-31, -0x1.d02cb8b1aece5p-30, -0x1.07d58223a74e6p-33};
    static constexpr double max = 0x1.fffffffffffffp1023, tiny = 0x1p-1022;
};

template <class Real>
using vec_of = typename Float<Real>::vec;

inline f32v broadcast(float s) { return s - f32v{}; }
inline f64v broadcast(double s) { return s - f64v{}; }

// Keeps a vector in a register. GCC would load it again for each use, which is slow while it is still on its way from
// the second-level cache.
template <class Vector>
inline void keep_in_register([[maybe_unused]] Vector& x) {
#if defined(__x86_64__)
    if constexpr (sizeof x == vector_bytes) asm("" : "+v"(x));
#endif
}

template <class Real>
inline vec_of<Real> load(const Real* p) {
    return *(const vec_of<Real>*)p;
}

// x with subnormal numbers replaced by 0. Most processors do that to every result (platform/denormals.h); others do it
// where numbers are stored, and where a subnormal number is multiplied by a large one.
template <class Real>
inline vec_of<Real> flush(vec_of<Real> x) {
#if defined(__SSE2__) || defined(__aarch64__)
    return x;
#else
    using I = typename Float<Real>::ivec;
    const I sign = (I)broadcast(Real(-0.0)), magnitude = (I)x & ~sign;
    return magnitude < (I)broadcast(Float<Real>::tiny) ? (vec_of<Real>)((I)x & sign) : x;
#endif
}

template <class Real>
inline void store(Real* p, vec_of<Real> v) {
    *(vec_of<Real>*)p = flush<Real>(v);
}

// Loads or stores the first n lanes at an unaligned address. Loading sets the other lanes to 0.
template <class Real>
inline vec_of<Real> load_some(const Real* p, Size n) {
    typedef vec_of<Real> anywhere __attribute__((aligned(sizeof(Real))));
    if (n >= Float<Real>::L) return *(const anywhere*)p;
#if defined(__AVX512F__)
    if constexpr (sizeof(Real) == 4) return (f32v)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
#endif
    alignas(vector_bytes) Real part[Float<Real>::L] = {};
    __builtin_memcpy(part, p, n * sizeof(Real));
    return load((const Real*)part);
}

// Stores the first n lanes as they are, which may be integers.
template <class Real>
inline void store_bits(Real* p, vec_of<Real> v, Size n) {
    typedef vec_of<Real> anywhere __attribute__((aligned(sizeof(Real))));
    if (n >= Float<Real>::L) {
        *(anywhere*)p = v;
        return;
    }
#if defined(__AVX512F__)
    if constexpr (sizeof(Real) == 4) return _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
#endif
    alignas(vector_bytes) Real part[Float<Real>::L];
    *(vec_of<Real>*)part = v;
    __builtin_memcpy(p, part, n * sizeof(Real));
}

template <class Real>
inline void store_some(Real* p, vec_of<Real> v, Size n) {
    store_bits(p, flush<Real>(v), n);
}

// b where a < b (or a > b), otherwise a, also where either is NaN. May turn denormals into zeros.
#if defined(__AVX512F__)
inline f32v at_least(f32v a, f32v b) { return (f32v)_mm512_max_ps((__m512)b, (__m512)a); }
inline f32v at_most(f32v a, f32v b) { return (f32v)_mm512_min_ps((__m512)b, (__m512)a); }
#elif defined(__AVX2__)
inline f32v at_least(f32v a, f32v b) { return (f32v)_mm256_max_ps((__m256)b, (__m256)a); }
inline f32v at_most(f32v a, f32v b) { return (f32v)_mm256_min_ps((__m256)b, (__m256)a); }
#elif defined(__wasm_simd128__)
inline f32v at_least(f32v a, f32v b) { return (f32v)wasm_f32x4_pmax((v128_t)a, (v128_t)b); }
inline f32v at_most(f32v a, f32v b) { return (f32v)wasm_f32x4_pmin((v128_t)a, (v128_t)b); }
#else
inline f32v at_least(f32v a, f32v b) { return a < b ? b : a; }
inline f32v at_most(f32v a, f32v b) { return a > b ? b : a; }
#endif
inline f64v at_least(f64v a, f64v b) { return a < b ? b : a; }
inline f64v at_most(f64v a, f64v b) { return a > b ? b : a; }
template <class V, class Real>
inline V at_least(V x, Real low) { return at_least(x, broadcast(low)); }
template <class V, class Real>
inline V at_most(V x, Real high) { return at_most(x, broadcast(high)); }

// a b + c, rounded once.
#if defined(__AVX512F__)
inline f32v fma(f32v a, f32v b, f32v c) { return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline f64v fma(f64v a, f64v b, f64v c) { return (f64v)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__AVX2__)
inline f32v fma(f32v a, f32v b, f32v c) { return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
inline f64v fma(f64v a, f64v b, f64v c) { return (f64v)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__aarch64__)
inline f32v fma(f32v a, f32v b, f32v c) { return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
inline f64v fma(f64v a, f64v b, f64v c) { return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#elif defined(__wasm_relaxed_simd__)
// onward.js runs this build only where it has found that the browser rounds once, as processors with an fma do.
inline f32v fma(f32v a, f32v b, f32v c) { return (f32v)wasm_f32x4_relaxed_madd((v128_t)a, (v128_t)b, (v128_t)c); }
inline f64v fma(f64v a, f64v b, f64v c) {
    return f64v{__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
}
#elif defined(__wasm_simd128__) || defined(ONWARD_SLOW_FMA)
#ifdef __wasm_simd128__
inline f64v low_half(f32v x) { return (f64v)wasm_f64x2_promote_low_f32x4((v128_t)x); }
inline f32v rounded(f64v x) { return (f32v)wasm_f32x4_demote_f64x2_zero((v128_t)x); }
inline bool any(i32v x) { return wasm_v128_any_true((v128_t)x); }
#else
inline f64v low_half(f32v x) { return (f64v)_mm_cvtps_pd((__m128)x); }
inline f32v rounded(f64v x) { return (f32v)_mm_cvtpd_ps((__m128d)x); }
inline bool any(i32v x) { return _mm_movemask_ps((__m128)x) != 0; }
#endif
// In double, the product of two float32 numbers is exact, and only its sum with c is rounded. Rounding that sum to
// float32 differs from rounding once only if the sum lies halfway between two float32 numbers and was inexact: then
// the rounding error of the sum decides.
[[gnu::noinline]] inline f64v break_ties(f64v sum, f64v product, f64v c) {
    const f64v rest = sum - product, error = (product - (sum - rest)) + (c - rest);
    const i64v towards_error = ((i64v)error ^ (i64v)sum) < 0 ? i64v{} - 1 : i64v{} + 1;
    const i64v halfway = ((i64v)sum & 0x1fffffff) == 0x10000000;
    return (f64v)((i64v)sum + (halfway & (error != 0.0) & towards_error));
}
inline f32v fma(f32v a, f32v b, f32v c) {
    auto high_half = [](f32v x) { return low_half(__builtin_shufflevector(x, x, 2, 3, 2, 3)); };
    const f64v product_low = low_half(a) * low_half(b), product_high = high_half(a) * high_half(b);
    const f64v c_low = low_half(c), c_high = high_half(c);
    f64v sum_low = product_low + c_low, sum_high = product_high + c_high;
    const i32v low_bits = __builtin_shufflevector((i32v)sum_low, (i32v)sum_high, 0, 2, 4, 6);
    if (__builtin_expect(any((low_bits & 0x1fffffff) == 0x10000000), 0)) {
        sum_low = break_ties(sum_low, product_low, c_low);
        sum_high = break_ties(sum_high, product_high, c_high);
    }
    return __builtin_shufflevector(rounded(sum_low), rounded(sum_high), 0, 1, 4, 5);
}
inline f64v fma(f64v a, f64v b, f64v c) {
    return f64v{__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
}
#else
inline f32v fma(f32v a, f32v b, f32v c) {
    f32v sum{};
    for (int l = 0; l < Float<float>::L; l++) sum[l] = __builtin_fmaf(a[l], b[l], c[l]);
    return sum;
}
inline f64v fma(f64v a, f64v b, f64v c) {
    f64v sum{};
    for (int l = 0; l < Float<double>::L; l++) sum[l] = __builtin_fma(a[l], b[l], c[l]);
    return sum;
}
#endif

#if defined(__AVX512F__)
inline f32v square_root(f32v x) { return (f32v)_mm512_sqrt_ps((__m512)x); }
inline f64v square_root(f64v x) { return (f64v)_mm512_sqrt_pd((__m512d)x); }
#elif defined(__AVX2__)
inline f32v square_root(f32v x) { return (f32v)_mm256_sqrt_ps((__m256)x); }
inline f64v square_root(f64v x) { return (f64v)_mm256_sqrt_pd((__m256d)x); }
#elif defined(__aarch64__)
inline f32v square_root(f32v x) { return (f32v)vsqrtq_f32((float32x4_t)x); }
inline f64v square_root(f64v x) { return (f64v)vsqrtq_f64((float64x2_t)x); }
#else
inline f32v square_root(f32v x) {
    for (int l = 0; l < Float<float>::L; l++) x[l] = __builtin_sqrtf(x[l]);
    return x;
}
inline f64v square_root(f64v x) {
    for (int l = 0; l < Float<double>::L; l++) x[l] = __builtin_sqrt(x[l]);
    return x;
}
#endif

// float16 to float32, which is exact.
#if defined(__AVX512F__)
inline f32v widen(const onward::Half* p) { return (f32v)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
#elif defined(__AVX2__)
inline f32v widen(const onward::Half* p) { return (f32v)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
#elif defined(__aarch64__)
inline f32v widen(const onward::Half* p) { return (f32v)vcvt_f32_f16(vld1_f16((const float16_t*)p)); }
#else
inline f32v widen(const onward::Half* p) {
    typedef uint16_t halves __attribute__((vector_size(vector_bytes / 2), may_alias));
    const i32v bits = __builtin_convertvector(*(const halves*)p, i32v), magnitude = bits & 0x7fff;
    const i32v exponent = magnitude >> 10;
    const i32v normal = (magnitude << 13) + ((exponent == 31 ? 224 : 112 - i32v{}) << 23);
    const f32v subnormal = __builtin_convertvector(magnitude, f32v) * 0x1p-24f;
    return (f32v)((exponent == 0 ? (i32v)subnormal : normal) | (bits & 0x8000) << 16);
}
#endif

// -|x|
template <class Real>
inline vec_of<Real> minus_abs(vec_of<Real> x) {
    using I = typename Float<Real>::ivec;
    return (vec_of<Real>)((I)x | (I)broadcast(Real(-0.0)));
}

// coefficients[0] + coefficients[1] x + ...
template <class Real, int terms>
inline vec_of<Real> polynomial(const Real (&coefficients)[terms], vec_of<Real> x) {
    vec_of<Real> sum = broadcast(coefficients[terms - 1]);
#pragma GCC unroll 32
    for (int i = terms - 2; i >= 0; i--) sum = fma(sum, x, broadcast(coefficients[i]));
    return sum;
}

// x = n ln2 + r: returns expm1(r) and scale = 2^n. For x from exp_zero to exp_max.
template <class Real>
inline vec_of<Real> expm1_reduced(vec_of<Real> x, vec_of<Real>& scale) {
    using F = Float<Real>;
    constexpr Real magic = F::magic + F::exponent_bias;  // leaves the exponent of 2^n in the low bits
    const vec_of<Real> shifted = fma(x, broadcast(F::log2e), broadcast(magic)), n = shifted - magic;
    const vec_of<Real> r_hi = fma(n, broadcast(-F::ln2_hi), x), r_lo = n * -F::ln2_lo, r = r_hi + r_lo;
    const vec_of<Real> q = polynomial(F::exp_q, r);
    scale = (vec_of<Real>)((typename F::ivec)shifted << F::mantissa_bits);
    return r_hi + fma(r * r, q, r_lo);
}

// exp over the whole range. Subnormal results become 0.
template <class Real>
inline vec_of<Real> exp(vec_of<Real> x) {
    using F = Float<Real>;
    // Above exp_max, 2^n would overflow before exp(x) does, so this computes 2 exp(x - ln2).
    const vec_of<Real> high = x > F::exp_max ? x - F::ln2_hi : x;
    vec_of<Real> scale;
    const vec_of<Real> p = expm1_reduced<Real>(at_most(at_least(high, F::exp_zero), F::exp_max), scale);
    const vec_of<Real> y = fma(p, scale, scale);
    const vec_of<Real> doubled = fma(y, broadcast(-F::ln2_lo), y) * Real(2);
    return x > F::exp_inf ? broadcast(Real(1) / Real(0)) : x > F::exp_max ? doubled : y;
}

// exp(x) - 1 for x <= 0; unspecified elsewhere.
template <class Real>
inline vec_of<Real> expm1_negative(vec_of<Real> x) {
    vec_of<Real> scale;
    const vec_of<Real> p = expm1_reduced<Real>(at_least(x, Float<Real>::exp_zero), scale);
    return fma(p, scale, scale - Real(1));
}

// An unevaluated quotient, so that a product of gates takes one division.
template <class Real>
struct Quotient {
    vec_of<Real> numerator, denominator;
    vec_of<Real> value() const { return numerator / denominator; }
};

template <class Real>
inline Quotient<Real> operator*(Quotient<Real> a, Quotient<Real> b) {
    return {a.numerator * b.numerator, a.denominator * b.denominator};
}

template <class Real>
inline Quotient<Real> one_minus(Quotient<Real> q) {
    return {Real(1) - q.value(), broadcast(Real(1))};
}

// sigmoid and tanh only compute exp of numbers <= 0, so that denominators lie in [1, 2] and nothing overflows.

// sigmoid(x) = 1 / (1 + e) with e = exp(-|x|), and e / (1 + e) where x < 0.
template <class Real>
inline Quotient<Real> sigmoid(vec_of<Real> x) {
    vec_of<Real> scale;
    const vec_of<Real> p = expm1_reduced<Real>(at_least(minus_abs<Real>(x), Float<Real>::exp_zero), scale);
    const vec_of<Real> e = fma(p, scale, scale);
    return {x < Real(0) ? e : broadcast(Real(1)), e + Real(1)};
}

// tanh(x) = -m / (m + 2) with m = expm1(-2|x|), and the sign of x. It is accurate near 0.
template <class Real>
inline Quotient<Real> tanh(vec_of<Real> x) {
    using I = typename Float<Real>::ivec;
    const I sign = (I)broadcast(Real(-0.0));
    const vec_of<Real> m = expm1_negative<Real>(minus_abs<Real>(x) * Real(2));
    return {(vec_of<Real>)(((I)m & ~sign) | ((I)x & sign)), m + Real(2)};
}

}  // namespace
