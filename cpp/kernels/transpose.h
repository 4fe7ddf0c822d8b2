// Transposes matrices of numbers of four bytes.
#pragma once

#include <utility>

#include "kernels/vec.h"

namespace {

// The numbers at even or at odd places of a and then b, within groups of four, or the groups of four at these places.
template <bool of_groups, bool is_odd, class Vec>
inline Vec every_second(Vec a, Vec b) {
    constexpr int side = sizeof(Vec) / sizeof(float), group = of_groups ? 4 : 1, together = of_groups ? side : 4;
    return [&]<int... lanes>(std::integer_sequence<int, lanes...>) {
        constexpr auto source = [](int lane) {
            const int place = lane % together / group * 2 + is_odd, both = place * group;
            const int inner = both % together + lane % group;
            return inner + lane / together * together + (both >= together ? side : 0);
        };
        return __builtin_shufflevector(a, b, source(lanes)...);
    }(std::make_integer_sequence<int, side>());
}

// Transposes a square whose rows are vectors.
template <int side>
inline void transpose_square(const float* from, Size from_step, float* to, Size to_step) {
    typedef float Vec __attribute__((vector_size(side * sizeof(float)), aligned(4), may_alias));
    Vec rows[side], halves[side];
#pragma GCC unroll 16
    for (int i = 0; i < side; i++) rows[i] = *(const Vec*)(from + i * from_step);
    auto halve = [&]<bool of_groups>(int first, int step, int n) {
#pragma GCC unroll 16
        for (int i = 0; i < n / 2; i++) {
            const Vec &a = rows[first + 2 * i * step], &b = rows[first + (2 * i + 1) * step];
            halves[i] = every_second<of_groups, false>(a, b), halves[i + n / 2] = every_second<of_groups, true>(a, b);
        }
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) rows[first + i * step] = halves[i];
    };
#pragma GCC unroll 16
    for (int first = 0; first < side; first += 4)
        halve.template operator()<false>(first, 1, 4), halve.template operator()<false>(first, 1, 4);
#pragma GCC unroll 16
    for (int first = 0; first < 4; first++)
#pragma GCC unroll 16
        for (int n = 4; n < side; n *= 2) halve.template operator()<true>(first, 4, side / 4);
#pragma GCC unroll 16
    for (int j = 0; j < side; j++) *(Vec*)(to + j * to_step) = rows[j];
}

// to[j * to_step + i] = from[i * from_step + j] for i < n and j < m, in squares, the rest in smaller ones.
template <int side = Float<float>::L>
void transpose(const float* from, Size from_step, Size n, Size m, float* to, Size to_step) {
    if constexpr (side < 4) {
        typedef uint32_t Any __attribute__((may_alias));
        for (Size j = 0; j < m; j++)
            for (Size i = 0; i < n; i++) ((Any*)to)[j * to_step + i] = ((const Any*)from)[i * from_step + j];
    } else {
        // Long rows are read to their ends, as many at a time as a line of the cache has numbers. If there are many of
        // them, blocks stay in the first-level cache instead.
        constexpr Size line = 16, block = 64;
        const Size rows = n / side * side, columns = m / side * side;
        const bool has_blocks = n > block && m > block;
        const Size height = has_blocks ? block : line, width = has_blocks ? block : m;
        auto end = [](Size first, Size size, Size all) { return first + size < all ? first + size : all; };
        for (Size row = 0; row < rows; row += height)
            for (Size column = 0; column < columns; column += width)
                for (Size j = column; j < end(column, width, columns); j += side)
                    for (Size i = row; i < end(row, height, rows); i += side)
                        transpose_square<side>(from + i * from_step + j, from_step, to + j * to_step + i, to_step);
        if (columns < m)
            transpose<side / 2>(from + columns, from_step, rows, m - columns, to + columns * to_step, to_step);
        if (rows < n) transpose<side / 2>(from + rows * from_step, from_step, n - rows, m, to + rows, to_step);
    }
}

}  // namespace
