// How weights stand in panels, as themselves, as halves or as bytes: what each loads, and how it adds a term to a sum.
//
// A format says: `Weight`, what a panel holds for one unit; `Term`, what a row gives to be multiplied with it; `terms`,
// how many k stand in each; `constants`, how many vectors of a panel stand beside each unit's weights.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Panels;

// Weights and rows in the precision that is computed in, one fma a term.
template <class Number>
struct Native {
    using Real = Number;
    using Weight = Number;
    using Term = Number;
    using Sum = vec_of<Real>;
    static constexpr int terms = 1, constants = 1;
    static Sum start(const Real* bias, Size) { return load(bias); }
    static Sum weight(const Weight* w) { return load(w); }
    static Sum term(const Term* a) { return broadcast(*a); }
    static Sum add(Sum sum, Sum w, Sum a) { return fma(w, a, sum); }
    static const Term* row(const Real* a) { return a; }
    static vec_of<Real> finish(Sum sum, const Real*, Size, const Real*) { return sum; }
};

// Weights as halves, widened, which is exact; all else as above.
struct Float16 : Native<float> {
    using Weight = onward::Half;
    static Sum weight(const Weight* w) { return widen(w); }
};

// ---- Bytes ----------------------------------------------------------------------------------------------------------

// Vectors of four signed bytes a lane, and dot(sum, w, a), which adds the sum of their products to each lane of a sum.
#if defined(__AVX512VNNI__)
// VNNI multiplies signed by unsigned bytes: those of rows are q + 128 for the integers q, and 128 times the sum of the
// weights is taken off at the start.
constexpr int offset = 128;
using Bytes = i32v;
inline Bytes bytes_of(i32v v) { return v; }
inline i32v dot(i32v sum, Bytes w, Bytes a) {
    return (i32v)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w);
}
#elif defined(__AVX512F__) || defined(__AVX2__)
// Bytes in even and in odd places, each widened to 16 bits: sums of two products fit 32 bits.
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

// Weights and rows as bytes, four k at once, summed in int32, which is exact. A unit's constants are its bias, its
// scale and the sum of its weights; a row's scale stands before its bytes.
struct Int8 {
    using Real = float;
    using Weight = int32_t;
    using Term = int32_t;
    using Sum = i32v;
    static constexpr int terms = 4, constants = 3;
    static Sum start(const Real* constants, Size stride) { return *(const i32v*)(constants + 2 * stride) * -offset; }
    static Bytes weight(const Weight* w) { return bytes_of(*(const i32v*)w); }
    static Bytes term(const Term* a) { return bytes_of(*a - i32v{}); }
    static Sum add(Sum sum, Bytes w, Bytes a) { return dot(sum, w, a); }
    static const Term* row(const Real* a) { return (const Term*)a + 1; }
    static f32v finish(Sum sum, const Real* constants, Size stride, const Real* row_scale) {
        return fma(__builtin_convertvector(sum, f32v), load(constants + stride) * *row_scale, load(constants));
    }
};

// A row in 255 steps, as large as its largest number needs: a scale, then K bytes, rounded to the nearest, ties to
// even. A row with a NaN or an infinity in it gets the scale NaN.
inline void quantize_row(const float* a, Size K, int32_t* out) {
    constexpr int L = Float<float>::L, infinity = 0x7f800000;
    typedef f32v unaligned __attribute__((aligned(4)));
    typedef uint8_t bytes __attribute__((vector_size(L), may_alias, aligned(1)));
    const Size whole = K / L * L;
    alignas(vector_bytes) float rest[L] = {};
    __builtin_memcpy(rest, a + whole, (K - whole) * sizeof(float));

    // Magnitudes are ordered as their bits are, and NaN stands above all.
    auto magnitude = [](f32v x) { return (i32v)x & 0x7fffffff; };
    i32v largest = magnitude(load((const float*)rest));
    for (Size k = 0; k < whole; k += L) {
        const i32v next = magnitude(*(const unaligned*)(a + k));
        largest = next > largest ? next : largest;
    }
    int32_t most = 0;
    for (int l = 0; l < L; l++) most = largest[l] > most ? largest[l] : most;

    float max;
    __builtin_memcpy(&max, &most, sizeof max);
    const bool some = max > 1e-30f && most < infinity;  // below it, 127 / max might overflow
    const float scale = some ? max / 127 : most < infinity ? 0 : __builtin_nanf("");
    const f32v inverse = broadcast(some ? 127 / max : 0.0f);
    __builtin_memcpy(out, &scale, sizeof scale);
    uint8_t* const q = (uint8_t*)(out + 1);
    // The integer stands in the low bits.
    auto rounded = [&](f32v x) {
        return __builtin_convertvector((i32v)fma(x, inverse, broadcast(Float<float>::magic)) + offset, bytes);
    };
    for (Size k = 0; k < whole; k += L) *(bytes*)(q + k) = rounded(*(const unaligned*)(a + k));
    const bytes last = rounded(load((const float*)rest));
    __builtin_memcpy(q + whole, &last, (K - whole + 3) / 4 * 4);
}

}  // namespace
