// Integers times fixed-point factors: a multiplier of 31 fractional bits and a shift, as in gemmlowp.
#pragma once

#include "kernels/bytes.h"
#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::IntegerResult;
using onward::Rescaling;

constexpr int32_t least_int = -2147483647 - 1, largest_int = 2147483647;

inline i32v integers_at(const int32_t* p, Size n) { return (i32v)load_some((const float*)p, n); }
inline i32v clipped(i32v x, i32v low, i32v high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

// The products of the even lanes.
inline u64v even_products(i32v a, i32v b) {
#if defined(__AVX512F__)
    return (u64v)_mm512_mul_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (u64v)_mm256_mul_epi32((__m256i)a, (__m256i)b);
#else
    u64v products{};
    for (int l = 0; l < Float<float>::L; l += 2) products[l / 2] = uint64_t(int64_t(a[l]) * b[l]);
    return products;
#endif
}

// The upper half of 2 a b, rounded to nearest, ties up; the square of -2^31 saturates.
inline i32v high_product(i32v a, i32v b) {
#if defined(__aarch64__)
    return (i32v)vqrdmulhq_s32((int32x4_t)a, (int32x4_t)b);
#else
    constexpr uint64_t half = uint64_t(1) << 30, upper = uint64_t(0xffffffff) << 32;
    const u64v even = (even_products(a, b) + half) >> 31;
    const u64v odd = (even_products((i32v)((u64v)a >> 32), (i32v)((u64v)b >> 32)) + half) << 1;
    const i32v product = (i32v)((even & ~upper) | (odd & upper));
    return (a == least_int) & (b == least_int) ? largest_int - i32v{} : product;
#endif
}

// The factors of a vector. Calling them multiplies x, in two roundings: by the multiplier, and to the right.
#if defined(__AVX512F__)
// Both roundings are one shift of the 64 bits of a product, to which both halves are added, and from which one unit of
// the first rounding is subtracted if it is negative: ties of the second rounding are those away from zero.
class Factors {
public:
    Factors() = default;
    Factors(i32v multiplier, i32v shift) : multiplier((__m512i)multiplier) {
        const i32v none{}, most = none + 31, to_right = clipped(none - clipped(shift, none - 31, none), none, most);
        left = (__m512i)clipped(shift, none, most);
        saturates = (multiplier == least_int) & (to_right == 0);
        has_left = _mm512_test_epi32_mask(left, left), may_saturate = _mm512_movepi32_mask((__m512i)saturates);
        auto half = [&](Half& side, u64v right) {
            const u64v unit = u64v{} + (uint64_t(1) << 31), is_rounded = right > 0;
            side.right = (__m512i)(right + 31);
            side.added = (__m512i)(((u64v{} + 1) << 30) + (((unit << right) >> 1) & is_rounded));
            side.unit = (__m512i)(unit & is_rounded);
        };
        half(even, (u64v)to_right & 0xffffffff), half(odd, (u64v)to_right >> 32);
    }
    i32v operator()(i32v x) const {
        const __m512i shifted = has_left ? _mm512_sllv_epi32((__m512i)x, left) : (__m512i)x;
        const __m512i first = rounded(_mm512_mul_epi32(shifted, multiplier), even);
        const __m512i second = rounded(_mm512_mul_epi32(_mm512_srli_epi64(shifted, 32),
                                                        _mm512_srli_epi64(multiplier, 32)), odd);
        const i32v found = (i32v)_mm512_mask_shuffle_epi32(first, 0xaaaa, second, _MM_PERM_CCAA);
        if (!may_saturate) return found;
        return ((i32v)shifted == least_int) & saturates ? largest_int - i32v{} : found;
    }

private:
    struct Half {
        __m512i added, unit, right;
    };
    static __m512i rounded(__m512i product, const Half& half) {
        const __m512i sum = _mm512_add_epi64(product, half.added);
        return _mm512_srav_epi64(_mm512_mask_sub_epi64(sum, _mm512_movepi64_mask(product), sum, half.unit), half.right);
    }

    __m512i multiplier, left;
    Half even, odd;
    i32v saturates;
    bool has_left, may_saturate;
};
#else
class Factors {
public:
    Factors() = default;
    Factors(i32v multiplier, i32v shift) : multiplier(multiplier) {
        const i32v none{}, most = none + 31, to_right = clipped(none - clipped(shift, none - 31, none), none, most);
        left = (u32v)clipped(shift, none, most);
        right = to_right;
        rest = (i32v)((u32v(none + 1) << (u32v)to_right) - 1);
        half = rest >> 1;
    }
    i32v operator()(i32v x) const {
        const i32v product = high_product((i32v)((u32v)x << left), multiplier);
        // comparisons are -1 where they hold
        return (product >> right) - ((product & rest) > half - (product < 0));
    }

private:
    i32v multiplier, right, rest, half;
    u32v left;
};
#endif

// Adds the zero point and clips, in the other order: sums beyond int32 are beyond the limits, too.
class Limits {
public:
    explicit Limits(const Rescaling& s) {
        const int64_t least = int64_t(s.low) - s.zero_point, most = int64_t(s.high) - s.zero_point;
        if (most < least_int || least > largest_int)  // no int32 plus the zero point lies within the limits
            zero_point += most < least_int ? s.high : s.low;
        else
            zero_point += s.zero_point, low += int32_t(least < least_int ? least_int : least),
                high += int32_t(most > largest_int ? largest_int : most);
    }
    i32v operator()(i32v x) const { return clipped(x, low, high) + zero_point; }

private:
    i32v zero_point{}, low{}, high{};
};

inline Factors factors_at(const Rescaling& s, Size i, Size n) {
    auto at = [&](const int32_t* numbers, Size step) {
        return step ? integers_at(numbers + i, n) : i32v{} + *numbers;
    };
    return {at(s.multiplier, s.multiplier_step), at(s.shift, s.shift_step)};
}

inline void rescale(Size n, const int32_t* x, const Rescaling& s, void* y) {
    constexpr int L = Float<float>::L;
    const bool is_one = !s.multiplier_step && !s.shift_step;
    const Limits limits(s);
    Factors factors = factors_at(s, 0, n);
    for (Size i = 0; i < n; i += L) {
        if (!is_one && i) factors = factors_at(s, i, n - i);
        const i32v found = limits(factors(integers_at(x + i, n - i)));
        if (s.to_bytes)
            store_bytes((uint8_t*)y + i, found, n - i);
        else
            store_bits((float*)y + i, (f32v)found, n - i);
    }
}

// Stores sums of a block of units in the form that a result has.
class Stored {
public:
    Stored() = default;
    Stored(const IntegerResult& out, Size unit)
        : to(&out), unit(unit), n(out.units - unit),
          bias(out.integer_bias ? integers_at(out.integer_bias + unit, n) : i32v{}),
          factors(out.rescaling ? factors_at(*out.rescaling, unit, n) : Factors(i32v{}, i32v{})) {}
    void operator()(i32v sum, Size row, const Limits& limits) const {
        const IntegerResult& out = *to;
        const Size at = (out.places ? out.places[row] : row * out.stride) + unit;
        sum += bias;
        if (out.rescaling) sum = limits(factors(sum));
        if (out.bytes) return store_bytes(out.bytes + at, sum, n);
        if (out.integers) return store_bits((float*)out.integers + at, (f32v)sum, n);
        f32v y = __builtin_convertvector(sum, f32v);
        if (out.row_scale) y *= out.row_scale[row];
        if (out.scale) y *= out.has_scale_per_unit ? load_some(out.scale + unit, n) : broadcast(*out.scale);
        if (out.bias) y += load_some(out.bias + unit, n);
        store_some(out.floats + at, y, n);
    }

private:
    const IntegerResult* to;
    Size unit, n;
    i32v bias;
    Factors factors;
};

}  // namespace
