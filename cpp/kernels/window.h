// Sliding windows over rows of channels: pooling, and convolutions in which each channel has its own kernel.
#pragma once

#include <type_traits>

#include "kernels/elementwise.h"
#include "kernels/fixed_point.h"
#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::ByteWindows;
using onward::Window;
using onward::Windows;

constexpr Size rows_of_windows = small_tiles ? 2 : 4;  // whose chains of additions run side by side

// y[row][c] = start(c) combined with the elements of channel c in the window, from tap `first` on, one after the other,
// plus 0, which turns denormals and -0 into 0: a maximum may return either.
template <Size rows, Size first, class Real, class Count, class Start, class Combine>
void window_tile(const Windows<Real>& w, Size row, Size c, Count n, Start start, Combine combine) {
    const Real* const x = w.x + row * w.stride + c;
    vec_of<Real> total[rows];
#pragma GCC unroll 4
    for (Size r = 0; r < rows; r++) total[r] = start(x + r * w.stride, c, n);
    for (Size tap = first; tap < w.taps; tap++) {
        const Real* const from = x + w.offsets[tap];
#pragma GCC unroll 4
        for (Size r = 0; r < rows; r++)
            total[r] = combine(total[r], load_some(from + r * w.stride, n), tap, c, n);
    }
#pragma GCC unroll 4
    for (Size r = 0; r < rows; r++) store_some(w.y + (row + r) * w.y_stride + c, total[r] + Real(0), n);
}

template <Size first, class Real, class Start, class Combine>
void for_windows(const Windows<Real>& w, Start start, Combine combine) {
    constexpr Size L = Float<Real>::L;
    auto tiles = [&]<Size rows>(Size row) {
        Size c = 0;
        for (; c + L <= w.channels; c += L)
            window_tile<rows, first>(w, row, c, std::integral_constant<Size, L>(), start, combine);
        if (c < w.channels) window_tile<rows, first>(w, row, c, w.channels - c, start, combine);
    };
    Size row = 0;
    for (; row + rows_of_windows <= w.rows; row += rows_of_windows) tiles.template operator()<rows_of_windows>(row);
    for (; row < w.rows; row++) tiles.template operator()<1>(row);
}

template <class Real>
void window(Window operation, const Windows<Real>& w) {
    using Vec = vec_of<Real>;
    auto element = [&](const Real* x, Size, Size n) { return load_some(x + w.offsets[0], n); };
    auto bias = [&](const Real*, Size c, Size n) { return w.bias ? load_some(w.bias + c, n) : Vec{}; };
    switch (operation) {
        case Window::maximum:
            return for_windows<1>(w, element, [](Vec a, Vec b, auto...) { return b != b ? b : at_least(a, b); });
        case Window::sum:
            return for_windows<0>(w, bias, [](Vec a, Vec b, auto...) { return a + b; });
        case Window::weighted_sum:
            return for_windows<0>(w, bias, [&](Vec a, Vec b, Size tap, Size c, Size n) {
                return fma(b, load_some(w.weights + tap * w.channels + c, n), a);
            });
    }
}

// The first n bytes at an unaligned address as integers; the other lanes are those of 0.
inline i32v widened(const uint8_t* p, Size n, lane_bytes flip) {
    lane_bytes bytes{};
    if (n >= Float<float>::L) bytes = *(const lane_bytes*)p;
    else __builtin_memcpy(&bytes, p, n);
    return __builtin_convertvector(bytes ^ flip, i32v);
}

// sum + a b for integers of at most 16 bits, of which those of b are not negative.
inline i32v multiply_add(i32v sum, i32v a, i32v b) {
#if defined(__AVX512VNNI__)
    return (i32v)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512F__)
    return sum + (i32v)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return sum + (i32v)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return sum + a * b;
#endif
}

template <Size rows, bool is_whole, class Store>
void byte_window_tile(const ByteWindows& w, Size row, Size c, i32v start, Store store) {
    const Size n = is_whole ? Float<float>::L : w.channels - c;
    const lane_bytes flip = lane_bytes{} + w.flip;
    const uint8_t* x[rows];
    i32v total[rows];
#pragma GCC unroll 4
    for (Size r = 0; r < rows; r++) x[r] = w.x + w.places[row + r] + c, total[r] = start;
    for (Size tap = 0; tap < w.taps; tap++) {
        const i32v weights = integers_at(w.weights + tap * w.channels + c, n);
#pragma GCC unroll 4
        for (Size r = 0; r < rows; r++)
            total[r] = multiply_add(total[r], weights, widened(x[r] + w.offsets[tap], n, flip));
    }
#pragma GCC unroll 4
    for (Size r = 0; r < rows; r++) store(total[r], row + r);
}

template <bool is_whole>
void byte_rows(const ByteWindows& w, Size c, const IntegerResult& out, const Limits& limits) {
    const Stored stored(out, c);
    auto store = [&](i32v sum, Size row) { stored(sum, row, limits); };
    i32v start{};
    for (Size tap = 0; tap < w.taps; tap++)
        start -= integers_at(w.weights + tap * w.channels + c, w.channels - c) * w.zero_point;
    Size row = 0;
    for (; row + rows_of_windows <= w.rows; row += rows_of_windows)
        byte_window_tile<rows_of_windows, is_whole>(w, row, c, start, store);
    for (; row < w.rows; row++) byte_window_tile<1, is_whole>(w, row, c, start, store);
}

inline void byte_windows(const ByteWindows& w, const IntegerResult& out) {
    const Limits limits(out.rescaling ? *out.rescaling : Rescaling{});
    Size c = 0;
    for (; c + Float<float>::L <= w.channels; c += Float<float>::L) byte_rows<true>(w, c, out, limits);
    if (c < w.channels) byte_rows<false>(w, c, out, limits);
}

}  // namespace
