// Quantization to bytes with a scale and a zero point, as in ONNX's DynamicQuantizeLinear.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/formats.h"

namespace {

using onward::Operand;
using onward::RowHeader;

// The least and the largest of n numbers and of those before; NaN propagates.
inline void widen_range(Size n, const float* x, f32v& low, f32v& high) {
    for (Size i = 0; i < n; i += Float<float>::L) {
        const f32v v = load_some(x + i, n - i);  // the lanes past the end are 0, which is in the range
        low = smaller<float>(v, low), high = larger<float>(v, high);
    }
}

inline void range(Size n, const float* x, float* least, float* largest) {
    f32v low{}, high{};
    widen_range(n, x, low, high);
    *least = low[0], *largest = high[0];
    for (int l = 1; l < Float<float>::L; l++) {
        *least = low[l] < *least || low[l] != low[l] ? low[l] : *least;
        *largest = high[l] > *largest || high[l] != high[l] ? high[l] : *largest;
    }
}

// Rounds x / scale, ties to even, to an integer from low to high; NaN gives low. The integer is in the low bits.
inline i32v quantized(f32v x, float scale, float low, float high) {
    const f32v quotient = x / scale;
    return (i32v)(at_most(quotient > low ? quotient : broadcast(low), high) + Float<float>::magic);
}

typedef uint8_t lane_bytes __attribute__((vector_size(Float<float>::L), may_alias, aligned(1)));

// Stores the low bytes of the first n lanes.
inline void store_bytes(uint8_t* y, i32v integers, Size n) {
    const lane_bytes bytes = __builtin_convertvector(integers, lane_bytes);
    if (n >= Float<float>::L) {
        *(lane_bytes*)y = bytes;
        return;
    }
#if defined(__AVX512F__)
    _mm_mask_storeu_epi8(y, __mmask16((1 << n) - 1), (__m128i)bytes);
#else
    __builtin_memcpy(y, &bytes, n);
#endif
}

inline void quantize(Size n, const float* x, float scale, int zero_point, int low, uint8_t* y) {
    const float least = float(low - zero_point), largest = least + 255;
    for (Size i = 0; i < n; i += Float<float>::L)
        store_bytes(y + i, quantized(load_some(x + i, n - i), scale, least, largest) + zero_point, n - i);
}

// Rounds to nearest, ties away from zero; for numbers that int32 represents.
inline i32v rounded_away(f32v x) {
    const f32v size = -minus_abs<float>(x), whole = floor<float>(size);
    const i32v steps = __builtin_convertvector(whole, i32v) - (size - whole >= 0.5f);  // -1 where it holds
    return x < 0.0f ? -steps : steps;
}

inline float quantize_one_row(Size n, const float* x, bool is_symmetric, uint8_t* y, int8_t* zero_point) {
    float low, high, scale, inverse, least = -127, zero = 0;
    range(n, x, &low, &high);
    if (is_symmetric) {
        const float size = -low > high || low != low ? -low : high, safe = size == 0 ? 127 : size;
        inverse = 127 / safe, scale = safe / 127;
    } else {
        const double step = low == high ? 1 : (double(high) - double(low)) / 255, from_low = -128 - low / step,
                     from_high = 127 - high / step;
        const double found = 128 - low / step < 127 + high / step ? from_low : from_high;
        const double clipped = found < -128 ? -128 : found > 127 ? 127 : found;
        if (low != high && found == found) zero = float(clipped < 0 ? -int(0.5 - clipped) : int(clipped + 0.5));
        scale = float(step), inverse = 1 / scale, least = -128;
    }
    *zero_point = int8_t(zero);
    for (Size i = 0; i < n; i += Float<float>::L) {
        const f32v steps = load_some(x + i, n - i) * inverse + zero;
        store_bytes(y + i, rounded_away(at_most(steps > least ? steps : broadcast(least), 127.0f)), n - i);
    }
    return scale;
}

// The range of the rows determines the scale and the zero point.
inline void quantize_rows(const Operand<float>& a, Size rows, Size K, int32_t* out, Size out_stride) {
    constexpr int L = Float<float>::L;
    float low = 0, high = 0;
    if (a.stride == K) {
        range(rows * K, a.rows, &low, &high);
    } else {
        f32v lows{}, highs{};
        for (Size row = 0; row < rows; row++) widen_range(K, a.rows + row * a.stride, lows, highs);
        alignas(vector_bytes) float both[2 * L];
        store(both, lows), store(both + L, highs);
        range(2 * L, both, &low, &high);
    }
    float scale = (high - low) / 255;
    if (scale == 0) scale = 1;
    const f32v zero = broadcast(0.0f), start = broadcast(-low / scale);
    const int zero_point = int(at_most(start > zero ? start : zero, 255.0f)[0] + Float<float>::magic) -
                           int(Float<float>::magic);
    const float least = float(-zero_point), largest = float(255 - zero_point);
    const int center = zero_point - 128, magic = ((i32v)broadcast(Float<float>::magic))[0];
    for (Size row = 0; row < rows; row++) {
        const float* const x = a.rows + row * a.stride;
        int32_t* const header = out + row * out_stride;
        uint8_t* const bytes = (uint8_t*)(header + Integer::header);
        i32v sums{};
        for (Size k = 0; k < K; k += L) {
            const i32v q = quantized(load_some(x + k, K - k), scale, least, largest) + center;
            sums += q - magic;
            const lane_bytes stored = __builtin_convertvector(q + offset, lane_bytes);
            if (K - k >= L)
                *(lane_bytes*)(bytes + k) = stored;
            else
                __builtin_memcpy(bytes + k, &stored, (K - k + 3) / 4 * 4);
        }
        int32_t sum = -int32_t((K + L - 1) / L * L - K) * center;  // the contribution of the lanes past the end
        for (int l = 0; l < L; l++) sum += sums[l];
        *(RowHeader*)header = {scale, center, sum};
    }
}

}  // namespace
