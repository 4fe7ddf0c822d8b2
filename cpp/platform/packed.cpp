// Packs weights into panels, and transposes them for the backward pass.
#include "platform/packed.h"

#include <cstring>
#include <numeric>

namespace onward {

namespace {

// Each unit stores `terms` consecutive k together. Copies a square of k and units at a time, which stays in cache.
template <Size terms, class Number>
Buffer<std::byte> packed_weights(const Number* matrix, Size G, Size N, Size K, Size L) {
    constexpr Size side = 16;
    const Size blocks = ceil_div(N, L), steps = ceil_div(K, terms), block = steps * G * L * terms;
    Buffer<std::byte> memory(blocks * block * Size(sizeof(Number)));
    Number* const weights = (Number*)memory.data();
    for (Size first = 0; first < N; first += L) {
        const Size last = std::min(first + L, N);
        Number* const panel = weights + first / L * block;
        if (last < first + L || K % terms) std::fill_n(panel, block, Number{});
        for (Size g = 0; g < G; g++)
            for (Size k = 0; k < K; k += side)
                for (Size n = first, end = std::min(k + side, K); n < last; n++)
                    for (Size i = k; i < end; i++)
                        panel[((i / terms * G + g) * L + n - first) * terms + i % terms] = matrix[(g * N + n) * K + i];
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
            weights_memory = packed_weights<1>((const Real*)matrix.numbers + start * K, G, N, K, L);
            break;
        case Format::float16:
            this->block_bytes = K * G * L * Size(sizeof(Half));
            weights_memory = packed_weights<1>((const Half*)matrix.numbers + start * K, G, N, K, L);
            break;
        case Format::int8:
        case Format::integer:
        case Format::dynamic:
            this->block_bytes = ceil_div(K, 4) * 4 * G * L;
            weights_memory = packed_weights<4>((const int8_t*)matrix.numbers + start * K, G, N, K, L);
            this->quantized_size = (matrix.zero_points ? Size(sizeof(RowHeader) / 4) : 1) + ceil_div(K, 4);
            break;
    }
    constants_memory = Buffer<Real>::zeros(this->blocks * kinds * G * L);
    for (Size g = 0; g < G; g++)
        for (Size n = 0; n < N; n++) {
            Real* const unit = constants_memory.data() + (n / L * kinds * G + g) * L + n % L;
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
    this->constants = constants_memory.data();
}

template <class Real>
Packed<Real> Packed<Real>::transposed(const Real* matrix, const std::vector<int>& gates, Size H, Size N, Size L) {
    Packed panels;
    const Size padded = ceil_div(H, L) * L;
    panels.G = 1, panels.K = Size(gates.size()) * padded, panels.blocks = ceil_div(N, L);
    panels.block_bytes = panels.K * L * Size(sizeof(Real));
    panels.weights_memory = Buffer<std::byte>::zeros(panels.blocks * panels.block_bytes);
    panels.constants_memory = Buffer<Real>::zeros(panels.blocks * L);
    panels.weights = panels.weights_memory.data();
    panels.constants = panels.constants_memory.data();
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
