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

constexpr Size rows_of_windows = small_tiles ? 2 : 5;  // whose chains of additions run side by side

// Calls tile<rows>() for as many of the rows as there is a tile for, and returns their number. There are tiles of 4 and
// 1 rows; common operations also have one of 5 if the registers suffice.
template <bool is_common, Size most = is_common || small_tiles ? rows_of_windows : 4, class Tile>
Size with_rows(Size rows, const Tile& tile) {
    if constexpr (most > 1)
        if (rows < most) return with_rows<is_common, most == 5 ? 4 : 1>(rows, tile);
    tile.template operator()<most>();
    return most;
}

// Calls tile<rows>(row) for groups of windows that are `stride` numbers apart.
template <bool is_common, class Windows, class Tile>
void for_groups(const Windows& w, const Tile& tile) {
    for (Size row = 0, n; row < w.rows; row += n) {
        n = 1;
        while (n < rows_of_windows && row + n < w.rows && w.places[row + n] - w.places[row + n - 1] == w.stride) n++;
        n = with_rows<is_common>(n, [&]<Size rows>() { tile.template operator()<rows>(row); });
    }
}

// Calls combine(r, element, tap) for the elements of a group of windows, from tap `first` on; at(offset) loads one. If
// the taps are as far apart as the windows, an element of one window is that of the window before.
template <Size rows, Size first, class Vec, class Windows, class At, class Combine>
inline void for_taps(const Windows& w, At at, Combine combine) {
    Vec elements[rows];
    for (Size tap = first; tap < w.taps; tap++) {
        const Size offset = w.offsets[tap];
        if (rows > 1 && !small_tiles && tap > first && offset - w.offsets[tap - 1] == w.stride) {
#pragma GCC unroll 8
            for (Size r = 0; r + 1 < rows; r++) elements[r] = elements[r + 1];
        } else {
#pragma GCC unroll 8
            for (Size r = 0; r + 1 < rows; r++) elements[r] = at(offset + r * w.stride);
        }
        elements[rows - 1] = at(offset + (rows - 1) * w.stride);
#pragma GCC unroll 8
        for (Size r = 0; r < rows; r++) combine(r, elements[r], tap);
    }
}

// y[row][c] = start(c) combined with the elements of channel c in the window, from tap `first` on, one after the other,
// plus 0, which turns denormals and -0 into 0: a maximum may return either.
template <Size rows, Size first, class Real, class Count, class Start, class Combine>
void window_tile(const Windows<Real>& w, Size row, Size c, Count n, Start start, Combine combine) {
    const Real* const x = w.x + w.places[row] + c;
    vec_of<Real> total[rows];
#pragma GCC unroll 8
    for (Size r = 0; r < rows; r++) total[r] = start(x + r * w.stride, c, n);
    for_taps<rows, first, vec_of<Real>>(w, [&](Size offset) { return load_some(x + offset, n); },
                                        [&](Size r, vec_of<Real> element, Size tap) {
                                            total[r] = combine(total[r], element, tap, c, n);
                                        });
#pragma GCC unroll 8
    for (Size r = 0; r < rows; r++) store_some(w.y + w.y_places[row + r] + c, total[r] + Real(0), n);
}

template <Size first, class Real, class Start, class Combine>
void for_windows(const Windows<Real>& w, Start start, Combine combine) {
    constexpr Size L = Float<Real>::L;
    const Size left = w.channels % L, whole = w.channels - left;
    if (whole)
        for_groups<std::is_same_v<Real, float> && vector_registers == 32>(w, [&]<Size rows>(Size row) {
            for (Size c = 0; c < whole; c += L)
                window_tile<rows, first>(w, row, c, std::integral_constant<Size, L>(), start, combine);
        });
    if (left)
        for_groups<false>(
            w, [&]<Size rows>(Size row) { window_tile<rows, first>(w, row, whole, left, start, combine); });
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
    const uint8_t* const x = w.x + w.places[row] + c;
    i32v total[rows];
#pragma GCC unroll 8
    for (Size r = 0; r < rows; r++) total[r] = start;
    for_taps<rows, 0, i32v>(w, [&](Size offset) { return widened(x + offset, n, flip); },
                            [&](Size r, i32v element, Size tap) {
                                const i32v weights = integers_at(w.weights + tap * w.channels + c, n);
                                total[r] = multiply_add(total[r], weights, element);
                            });
#pragma GCC unroll 8
    for (Size r = 0; r < rows; r++) store(total[r], row + r);
}

template <bool is_whole>
void byte_rows(const ByteWindows& w, Size c, const IntegerResult& out, const Limits& limits) {
    const Stored stored(out, c);
    auto store = [&](i32v sum, Size row) { stored(sum, row, limits); };
    i32v start{};
    for (Size tap = 0; tap < w.taps; tap++)
        start -= integers_at(w.weights + tap * w.channels + c, w.channels - c) * w.zero_point;
    for_groups<is_whole && vector_registers == 32>(
        w, [&]<Size rows>(Size row) { byte_window_tile<rows, is_whole>(w, row, c, start, store); });
}

inline void byte_windows(const ByteWindows& w, const IntegerResult& out) {
    const Limits limits(out.rescaling ? *out.rescaling : Rescaling{});
    Size c = 0;
    for (; c + Float<float>::L <= w.channels; c += Float<float>::L) byte_rows<true>(w, c, out, limits);
    if (c < w.channels) byte_rows<false>(w, c, out, limits);
}

}  // namespace
