// Packs weights into panels, and transposes them for the backward pass.
#include "platform/packed.h"

#include <cstdint>
#include <cstring>
#include <numeric>

namespace onward {

namespace {

constexpr Size most_lanes = 16;  // of any instruction set

WeightMemory zeros(Size bytes) {
    WeightMemory memory{size_t(bytes)};
    std::memset(memory.data(), 0, size_t(bytes));
    return memory;
}

// Transposes a square of `side` rows and columns, which stays in cache.
template <class Number>
void transpose(const Number* x, Size x_stride, Number* y, Size y_stride, Size side) {
    for (Size n = 0; n < side; n++)
        for (Size k = 0; k < side; k++) y[k * y_stride + n] = x[n * x_stride + k];
}

// In squares of four floats, for which GCC does not find the shuffles by itself.
template <>
void transpose(const float* x, Size x_stride, float* y, Size y_stride, Size side) {
    typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
    for (Size n = 0; n < side; n += 4)
        for (Size k = 0; k < side; k += 4) {
            auto row = [&](Size i) { return *(const Four*)(x + (n + i) * x_stride + k); };
            auto column = [&](Size i) -> Four& { return *(Four*)(y + (k + i) * y_stride + n); };
            const Four a = row(0), b = row(1), c = row(2), d = row(3);
            const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const Four AB = __builtin_shufflevector(a, b, 2, 6, 3, 7), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            column(0) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            column(1) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            column(2) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
            column(3) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
        }
}

// Each unit stores `terms` consecutive k together. Copies a square of k and units at a time, which stays in cache.
template <Size terms, class Number>
WeightMemory packed_weights(const Number* matrix, Size taps, Size G, Size N, Size K, Size L) {
    if constexpr (terms > 1 && terms * sizeof(Number) == sizeof(float))  // the terms move together
        if (taps == 1 && K % terms == 0 && std::uintptr_t(matrix) % alignof(float) == 0)
            return packed_weights<1>((const float*)matrix, taps, G, N, K / terms, L);
    const Size blocks = ceil_div(N, L), steps = ceil_div(K, terms), block = steps * G * L * terms;
    WeightMemory memory(size_t(blocks * block) * sizeof(Number));
    Number* const weights = (Number*)memory.data();
    auto place = [&](Size column) { return taps == 1 ? column : column % taps * (K / taps) + column / taps; };
    for (Size first = 0; first < N; first += L) {
        const Size last = std::min(first + L, N);
        Number* const panel = weights + first / L * block;
        if (last < first + L || K % terms) std::fill_n(panel, block, Number{});
        for (Size k = 0; k < K; k += L)
            for (Size g = 0; g < G; g++) {
                const Number* const rows = matrix + (g * N + first) * K;
                const Size end = std::min(k + L, K);
                if (terms == 1 && end == k + L && last == first + L) {
                    if (taps == 1) {
                        transpose(rows + k, K, panel + (k * G + g) * L, G * L, L);
                        continue;
                    }
                    alignas(64) Number square[most_lanes * most_lanes];
                    transpose(rows + k, K, square, L, L);
                    for (Size i = 0; i < L; i++) std::copy_n(square + i * L, L, panel + (place(k + i) * G + g) * L);
                    continue;
                }
                for (Size i = k; i < end; i++) {
                    const Size to = place(i);
                    for (Size n = 0; n < last - first; n++)
                        panel[((to / terms * G + g) * L + n) * terms + to % terms] = rows[n * K + i];
                }
            }
    }
    return memory;
}

}  // namespace

template <class Real>
Packed<Real>::Packed(const Matrix<Real>& matrix, const Real* bias, Size first, Size G, Size N, Size K, Size L)
    : Panels<Real>{G, K, ceil_div(N, L), matrix.format} {
    const Size start = first * N, kinds = matrix.zero_points ? 5 : matrix.format == Format::int8 ? 3 : 1;
    switch (matrix.format) {
        case Format::native:
            this->block_bytes = K * G * L * Size(sizeof(Real));
            weights_memory = packed_weights<1>((const Real*)matrix.numbers + start * K, matrix.taps, G, N, K, L);
            break;
        case Format::float16:
            this->block_bytes = K * G * L * Size(sizeof(Half));
            weights_memory = packed_weights<1>((const Half*)matrix.numbers + start * K, matrix.taps, G, N, K, L);
            break;
        case Format::int8:
        case Format::integer:
        case Format::dynamic:
            this->block_bytes = ceil_div(K, 4) * 4 * G * L;
            weights_memory = packed_weights<4>((const int8_t*)matrix.numbers + start * K, matrix.taps, G, N, K, L);
            this->quantized_size = (matrix.zero_points ? Size(sizeof(RowHeader) / 4) : 1) + ceil_div(K, 4);
            break;
    }
    constants_memory = zeros(this->blocks * kinds * G * L * Size(sizeof(Real)));
    Real* const numbers = (Real*)constants_memory.data();
    for (Size g = 0; g < G; g++)
        for (Size n = 0; n < N; n++) {
            Real* const unit = numbers + (n / L * kinds * G + g) * L + n % L;
            if (bias) *unit = bias[start + g * N + n];
            if (kinds == 1) continue;
            const int8_t* const row = (const int8_t*)matrix.numbers + (start + g * N + n) * K;
            const int32_t sum = std::accumulate(row, row + K, int32_t(0));
            if (matrix.scale) unit[G * L] = matrix.scale[start + g * N + n];
            std::memcpy(unit + 2 * G * L, &sum, sizeof sum);
            if (!matrix.zero_points) continue;
            const int32_t zero_point = matrix.zero_points[start + g * N + n];
            const int32_t centered = int32_t(sum - K * zero_point);
            std::memcpy(unit + 3 * G * L, &centered, sizeof centered);
            std::memcpy(unit + 4 * G * L, &zero_point, sizeof zero_point);
        }
    this->weights = weights_memory.data();
    this->constants = numbers;
}

template <class Real>
Packed<Real> Packed<Real>::transposed(const Real* matrix, const std::vector<int>& gates, Size H, Size N, Size L) {
    Packed panels;
    const Size padded = ceil_div(H, L) * L;
    panels.G = 1, panels.K = Size(gates.size()) * padded, panels.blocks = ceil_div(N, L);
    panels.block_bytes = panels.K * L * Size(sizeof(Real));
    panels.weights_memory = zeros(panels.blocks * panels.block_bytes);
    panels.constants_memory = zeros(panels.blocks * L * Size(sizeof(Real)));
    panels.weights = panels.weights_memory.data();
    panels.constants = (const Real*)panels.constants_memory.data();
    Real* k = (Real*)panels.weights;
    for (const int gate : gates) {
        for (Size h = 0; h < H; h++)
            for (Size n = 0; n < N; n += L)
                std::memcpy(k + h * L + n * panels.K, matrix + (gate * H + h) * N + n,
                            std::min(L, N - n) * sizeof(Real));
        k += padded * L;
    }
    return panels;
}

template struct Packed<float>;
template struct Packed<double>;

}  // namespace onward
