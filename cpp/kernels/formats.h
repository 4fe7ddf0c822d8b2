// The storage formats of weights: how a micro-kernel loads weights and rows and adds their products to a sum.
//
// Each format defines `Weight`, the weights of one unit that are loaded together, `Term`, the elements of a row that
// are multiplied by them, `terms`, how many k each of these spans, and `constants`, the number of constants per unit.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Panels;

// Weights in the precision of the computation: one fma per term.
template <class Number>
struct Native {
    using Real = Number;
    using Weight = Number;
    using Term = Number;
    using Sum = vec_of<Real>;
    static constexpr int terms = 1, constants = 1;
    static constexpr bool has_least = true;
    static Sum start(const Real* bias, Size) { return load(bias); }
    static Sum weight(const Weight* w) { return load(w); }
    static Sum term(const Term* a) { return broadcast(*a); }
    static Sum add(Sum sum, Sum w, Sum a) { return fma(w, a, sum); }
    static const Term* row(const Real* a) { return a; }
    static vec_of<Real> finish(Sum sum, const Real*, Size, const Real*) { return sum; }
};

// Weights in float16, widened to float32, which is exact.
struct Float16 : Native<float> {
    using Weight = onward::Half;
    static Sum weight(const Weight* w) { return widen(w); }
};

// ---- int8 -----------------------------------------------------------------------------------------------------------

// Bytes: vectors of four signed bytes per lane. dot(sum, w, a) adds the four products of each lane to the sum.
#if defined(__AVX512VNNI__)
// VNNI multiplies signed by unsigned bytes. Rows are stored as q + 128, and the sum starts at -128 times the sum of the
// weights.
constexpr int offset = 128;
using Bytes = i32v;
inline Bytes bytes_of(i32v v) { return v; }
inline i32v dot(i32v sum, Bytes w, Bytes a) {
    return (i32v)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w);
}
#elif defined(__AVX512F__) || defined(__AVX2__)
// Even and odd bytes, widened to 16 bits; the sum of two products fits in 32 bits.
constexpr int offset = 0;
typedef int16_t i16v __attribute__((vector_size(vector_bytes), may_alias));
struct Bytes {
    i16v even, odd;
};
inline Bytes bytes_of(i32v v) { return {((i16v)v << 8) >> 8, (i16v)v >> 8}; }
#if defined(__AVX512F__)
inline i32v multiply(i16v a, i16v b) { return (i32v)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#else
inline i32v multiply(i16v a, i16v b) { return (i32v)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#endif
inline i32v dot(i32v sum, Bytes w, Bytes a) { return sum + multiply(w.even, a.even) + multiply(w.odd, a.odd); }
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr int offset = 0;
using Bytes = i32v;
inline Bytes bytes_of(i32v v) { return v; }
inline i32v dot(i32v sum, Bytes w, Bytes a) { return (i32v)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)a); }
#else
constexpr int offset = 0;
using Bytes = i32v;
inline Bytes bytes_of(i32v v) { return v; }
inline i32v dot(i32v sum, Bytes w, Bytes a) {
    for (int shift = 24; shift >= 0; shift -= 8) sum += ((w << shift) >> 24) * ((a << shift) >> 24);
    return sum;
}
#endif

// Weights and rows in int8, four k at a time, summed in int32, which is exact. The constants of a unit are its bias,
// its scale and the sum of its weights. The scale of a row precedes its bytes.
struct Int8 {
    using Real = float;
    using Weight = int32_t;
    using Term = int32_t;
    using Sum = i32v;
    static constexpr int terms = 4, constants = 3;
    static constexpr bool has_least = true;
    static Sum start(const Real* constants, Size stride) { return *(const i32v*)(constants + 2 * stride) * -offset; }
    static Bytes weight(const Weight* w) { return bytes_of(*(const i32v*)w); }
    static Bytes term(const Term* a) { return bytes_of(*a - i32v{}); }
    static Sum add(Sum sum, Bytes w, Bytes a) { return dot(sum, w, a); }
    static const Term* row(const Real* a) { return (const Term*)a + 1; }
    static f32v finish(Sum sum, const Real* constants, Size stride, const Real* row_scale) {
        return fma(__builtin_convertvector(sum, f32v), load(constants + stride) * *row_scale, load(constants));
    }
};

// As Int8, with zero points. Weights and rows are numbers from -128 to 127. The sum of (w - zero point of w) (a - zero
// point of a), as int32 in the bits of a float.
struct Integer : Int8 {
    static constexpr int constants = 5;
    static constexpr bool has_least = false;
    static constexpr Size header = sizeof(onward::RowHeader) / sizeof(int32_t);
    static const Term* row(const Real* a) { return (const Term*)a + header; }
    static i32v centered(Sum sum, const Real* constants, Size stride, const Real* row) {
        const auto& [scale, zero_point, row_sum] = *(const onward::RowHeader*)row;
        const i32v centered_sums = *(const i32v*)(constants + 3 * stride);
        sum -= zero_point * centered_sums;
        return row_sum == 0 ? sum : sum - row_sum * *(const i32v*)(constants + 4 * stride);
    }
    static f32v finish(Sum sum, const Real* constants, Size stride, const Real* row) {
        return (f32v)centered(sum, constants, stride, row);
    }
};

// As Integer, with the result scaled, plus the bias.
struct Dynamic : Integer {
    static f32v finish(Sum sum, const Real* constants, Size stride, const Real* row) {
        const f32v product = __builtin_convertvector(centered(sum, constants, stride, row), f32v);
        return product * (load(constants + stride) * *row) + load(constants);
    }
};

// Sets the integers of infinities, as if these were the largest floats.
[[gnu::cold, gnu::noinline]] inline void quantize_infinities(const float* a, Size K, uint8_t* q) {
    for (Size k = 0; k < K; k++)
        if (const int sign = __builtin_isinf_sign(a[k])) q[k] = uint8_t(127 * sign + offset);
}

// Quantizes a row to integers from -127 to 127, rounded to nearest, ties to even: a scale, then K bytes. The scale is
// NaN if the row contains a NaN. An infinity counts as the largest float.
inline void quantize_row(const float* a, Size K, int32_t* out) {
    constexpr int L = Float<float>::L, infinity = 0x7f800000;  // its bits; those of the largest float are one less
    typedef f32v unaligned __attribute__((aligned(4)));
    typedef uint8_t bytes __attribute__((vector_size(L), may_alias, aligned(1)));
    const Size whole = K / L * L;
    alignas(vector_bytes) float rest[L] = {};
    __builtin_memcpy(rest, a + whole, (K - whole) * sizeof(float));

    // Compared as integers, magnitudes keep their order, and NaN is the largest.
    auto magnitude = [](f32v x) { return (i32v)x & 0x7fffffff; };
    i32v largest = magnitude(load((const float*)rest));
    for (Size k = 0; k < whole; k += L) {
        const i32v next = magnitude(*(const unaligned*)(a + k));
        largest = next > largest ? next : largest;
    }
    int32_t most = 0;
    for (int l = 0; l < L; l++) most = largest[l] > most ? largest[l] : most;

    const bool is_infinite = most == infinity;
    if (is_infinite) [[unlikely]] most--;
    float max;
    __builtin_memcpy(&max, &most, sizeof max);
    const bool some = max > 1e-30f && most < infinity;  // below, 127 / max could overflow
    const float scale = some ? max / 127 : most < infinity ? 0 : __builtin_nanf("");
    const f32v inverse = broadcast(some ? 127 / max : 0.0f);
    __builtin_memcpy(out, &scale, sizeof scale);
    uint8_t* const q = (uint8_t*)(out + 1);
    // Adding `magic` leaves the integer in the low bits.
    auto rounded = [&](f32v x) {
        return __builtin_convertvector((i32v)fma(x, inverse, broadcast(Float<float>::magic)) + offset, bytes);
    };
    for (Size k = 0; k < whole; k += L) *(bytes*)(q + k) = rounded(*(const unaligned*)(a + k));
    const bytes last = rounded(load((const float*)rest));
    __builtin_memcpy(q + whole, &last, (K - whole + 3) / 4 * 4);
    if (is_infinite) quantize_infinities(a, K, q);
}

}  // namespace
