// Copies and transposes matrices in memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"

namespace onward {

typedef uint32_t FourNumbers __attribute__((vector_size(16), aligned(4), may_alias));

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
void transpose(const Kernels<float>& kernels, const T* from, Size from_step, Size n, Size m, T* to, Size to_step) {
    if constexpr (sizeof(T) == 4) {
        const auto* const numbers = (const uint32_t*)from;
        Size i = 0, j = 0;
        if (m == 2 && from_step == 2) i = separate(numbers, n, (uint32_t*)to, (uint32_t*)to + to_step);
        else if (n == 2 && to_step == 2) j = join(numbers, numbers + from_step, m, (uint32_t*)to);
        kernels.transpose((const float*)from + i * from_step + j, from_step, n - i, m - j,
                          (float*)to + j * to_step + i, to_step);
    } else {
        constexpr Size side = 4, together = 32;  // together: rows that stay in the cache
        for (Size first = 0; first < n; first += together)
            for (Size j = 0; j < m; j += side)
                for (Size i = first; i < std::min(n, first + together); i++)
                    for (Size k = j; k < std::min(m, j + side); k++) to[k * to_step + i] = from[i * from_step + k];
    }
}

// to[i * n_step + j * m_step] = from[i * from_step + j] for i < n and j < m.
inline void scatter(const Kernels<float>& kernels, const float* from, Size from_step, Size n, Size m, float* to,
                    Size n_step, Size m_step) {
    if (n_step == 1) return transpose(kernels, from, from_step, n, m, to, m_step);
    for (Size i = 0; i < n; i++)
        for (Size j = 0; j < m; j++) to[i * n_step + j * m_step] = from[i * from_step + j];
}

// Copies n numbers and returns the end of the copy. For short runs, a loop is faster than a call of memcpy.
inline float* copied(const float* from, Size n, float* to) {
    if (n >= 16)
        std::memcpy(to, from, n * sizeof(float));
    else
        for (Size i = 0; i < n; i++) to[i] = from[i];
    return to + n;
}

// The distances of the rows and the columns of a matrix.
using Steps = std::array<Size, 2>;

// Copies a matrix (M, N) to rows that are `step` apart.
inline void copy_matrix(const Kernels<float>& kernels, const float* from, const Steps& steps, Size M, Size N,
                        float* to, Size step) {
    if (steps[1] == 1) {
        for (Size row = 0; row < M; row++) copied(from + row * steps[0], N, to + row * step);
    } else if (steps[0] == 1) {
        transpose(kernels, from, steps[1], N, M, to, step);
    } else {
        for (Size column = 0; column < N; column++)
            for (Size row = 0; row < M; row++) to[row * step + column] = from[row * steps[0] + column * steps[1]];
    }
}

}  // namespace onward
