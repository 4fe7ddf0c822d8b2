// Transposes matrices in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace onward {

typedef uint32_t FourNumbers __attribute__((vector_size(16), aligned(4), may_alias));

// Transposes 4 x 4 numbers; address(i) is that of a row.
template <class Address>
inline void transpose_tile(const Address& address, uint32_t* to, Size to_step) {
    using Row = FourNumbers;
    auto row = [&](Size i) { return *(const Row*)address(i); };
    auto put = [&](Size i, const Row& row) { *(Row*)(to + i * to_step) = row; };
    const Row a = row(0), b = row(1), c = row(2), d = row(3);
    const Row ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Row cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    put(0, __builtin_shufflevector(ab, cd, 0, 1, 4, 5)), put(1, __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
    put(2, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    put(3, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

// Separates n pairs, or joins them, four at a time. Both return how many they have done.
inline Size separate(const uint32_t* pairs, Size n, uint32_t* first, uint32_t* second) {
    Size i = 0;
    for (; i + 4 <= n; i += 4) {
        const FourNumbers a = *(const FourNumbers*)(pairs + 2 * i), b = *(const FourNumbers*)(pairs + 2 * i + 4);
        *(FourNumbers*)(first + i) = __builtin_shufflevector(a, b, 0, 2, 4, 6);
        *(FourNumbers*)(second + i) = __builtin_shufflevector(a, b, 1, 3, 5, 7);
    }
    return i;
}
inline Size join(const uint32_t* first, const uint32_t* second, Size n, uint32_t* pairs) {
    Size i = 0;
    for (; i + 4 <= n; i += 4) {
        const FourNumbers a = *(const FourNumbers*)(first + i), b = *(const FourNumbers*)(second + i);
        *(FourNumbers*)(pairs + 2 * i) = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        *(FourNumbers*)(pairs + 2 * i + 4) = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    }
    return i;
}

// to[j * to_step + i] = from[i * from_step + j] for i < n and j < m.
template <class T>
void transpose(const T* from_numbers, Size from_step, Size n, Size m, T* to_numbers, Size to_step) {
    typedef T Any __attribute__((may_alias));
    const Any* const from = from_numbers;
    Any* const to = to_numbers;
    constexpr Size side = 4, together = 32, line = 16;  // together: rows that stay in the cache
    if (m < side || (n == 2 && to_step == 2)) {
        Size i = 0, j = 0;
        if constexpr (sizeof(T) == 4) {
            const auto* const numbers = (const uint32_t*)from;
            if (m == 2 && from_step == 2) i = separate(numbers, n, (uint32_t*)to, (uint32_t*)to + to_step);
            else if (n == 2 && to_step == 2) j = join(numbers, numbers + from_step, m, (uint32_t*)to);
        }
        for (const Size first = i; j < m; j++)
            for (i = first; i < n; i++) to[j * to_step + i] = from[i * from_step + j];
        return;
    }
    for (Size first = 0; first < n; first += together) {
        const Size last = std::min(n, first + together);
        for (Size j = 0; j < m; j += side) {
            Size i = first;
            if constexpr (sizeof(T) == 4)
                for (; j + side <= m && i + side <= last; i += side) {
                    if ((i - first) % line == 0)  // brings the lines of the next tiles into the cache
                        for (Size k = side; k < 2 * side; k++) __builtin_prefetch(to + (j + k) * to_step + i, 1);
                    transpose_tile([&](Size row) { return from + (i + row) * from_step + j; },
                                   (uint32_t*)(to + j * to_step + i), to_step);
                }
            for (; i < last; i++)
                for (Size k = j; k < std::min(m, j + side); k++) to[k * to_step + i] = from[i * from_step + k];
        }
    }
}

// Floats are moved as integers.
inline void transpose(const float* from, Size from_step, Size n, Size m, float* to, Size to_step) {
    transpose<uint32_t>((const uint32_t*)from, from_step, n, m, (uint32_t*)to, to_step);
}

// to[i * n_step + j * m_step] = from[i * from_step + j] for i < n and j < m.
inline void scatter(const float* from, Size from_step, Size n, Size m, float* to, Size n_step, Size m_step) {
    if (n_step == 1) return transpose(from, from_step, n, m, to, m_step);
    for (Size i = 0; i < n; i++)
        for (Size j = 0; j < m; j++) to[i * n_step + j * m_step] = from[i * from_step + j];
}

// to[j * places.size() + i] = from[places[i] + j] for j < m.
inline void transpose_pieces(const float* from, std::span<const Size> places, Size m, float* to) {
    const Size n = Size(places.size());
    Size j = 0;
    for (; j + 4 <= m; j += 4) {
        Size i = 0;
        for (; i + 4 <= n; i += 4)
            transpose_tile([&](Size row) { return from + places[i + row] + j; }, (uint32_t*)(to + j * n + i), n);
        for (; i < n; i++)
            for (Size k = j; k < j + 4; k++) to[k * n + i] = from[places[i] + k];
    }
    for (; j < m; j++)
        for (Size i = 0; i < n; i++) to[j * n + i] = from[places[i] + j];
}

}  // namespace onward
