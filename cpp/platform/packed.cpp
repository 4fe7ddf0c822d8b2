// Packs weights into panels, and transposes them for the backward pass.
#include "platform/packed.h"

#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "platform/threads.h"

namespace onward {

namespace {

constexpr Size most_lanes = 16;  // of any instruction set
constexpr int64_t work_of_byte = 4;  // packing it takes as long as so many multiply-adds

WeightMemory zeros(Size bytes) {
    WeightMemory memory{size_t(bytes)};
    std::memset(memory.data(), 0, size_t(bytes));
    return memory;
}

// A number in memory that may not be aligned, such as that of a file.
template <class Number>
Number number_at(const std::byte* x, Size place) {
    Number number;
    std::memcpy(&number, x + place * Size(sizeof number), sizeof number);
    return number;
}

// Transposes a square of `side` rows and columns, which stays in cache, in squares of four floats, for which GCC does
// not find the shuffles by itself.
void transpose(const std::byte* x, Size x_stride, float* y, Size y_stride, Size side) {
    typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
    typedef float Unaligned __attribute__((vector_size(16), aligned(1), may_alias));
    for (Size n = 0; n < side; n += 4)
        for (Size k = 0; k < side; k += 4) {
            auto row = [&](Size i) { return *(const Unaligned*)(x + ((n + i) * x_stride + k) * Size(sizeof(float))); };
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

// Packs the blocks from one to another. Each unit stores `terms` consecutive k together. Copies a square of k and units
// at a time, which stays in cache.
template <Size terms, class Number>
void pack(const std::byte* matrix, std::byte* packed, Size taps, Size G, Size N, Size K, Size L, Size from, Size to) {
    if constexpr (terms > 1 && terms * sizeof(Number) == sizeof(float))  // the terms move together
        if (taps == 1 && K % terms == 0) return pack<1, float>(matrix, packed, taps, G, N, K / terms, L, from, to);
    const Size size = ceil_div(K, terms) * G * L * terms;
    auto place = [&](Size column) { return taps == 1 ? column : column % taps * (K / taps) + column / taps; };
    for (Size block = from; block < to; block++) {
        const Size first = block * L, last = std::min(first + L, N);
        Number* const panel = (Number*)packed + block * size;
        if (last < first + L || K % terms) std::fill_n(panel, size, Number{});
        for (Size k = 0; k < K; k += L)
            for (Size g = 0; g < G; g++) {
                const std::byte* const rows = matrix + (g * N + first) * K * Size(sizeof(Number));
                const Size end = std::min(k + L, K);
                if constexpr (std::is_same_v<Number, float>)
                    if (end == k + L && last == first + L) {
                        const std::byte* const corner = rows + k * Size(sizeof(float));
                        if (taps == 1) {
                            transpose(corner, K, panel + (k * G + g) * L, G * L, L);
                            continue;
                        }
                        alignas(64) float square[most_lanes * most_lanes];
                        transpose(corner, K, square, L, L);
                        for (Size i = 0; i < L; i++) std::copy_n(square + i * L, L, panel + (place(k + i) * G + g) * L);
                        continue;
                    }
                for (Size i = k; i < end; i++) {
                    Number* const column = panel + (place(i) / terms * G + g) * L * terms + place(i) % terms;
                    for (Size n = 0; n < last - first; n++) column[n * terms] = number_at<Number>(rows, n * K + i);
                }
            }
    }
}

// Calls pack(from, to) for parts of so many blocks, on several threads if the work, in multiply-adds, is worth it.
void in_parts(Size blocks, int64_t work, const std::function<void(Size from, Size to)>& pack) {
    int parts = 1;
    const Size useful = work < worth_threads ? 1 : std::min(Size(num_threads()), blocks);
    parallel(int(useful), [&](int n) { parts = n; }, [&](int part) {
        pack(blocks * part / parts, blocks * (part + 1) / parts);
    }, work);
}

}  // namespace

std::byte* Growing::at_least(Size bytes) {
    if (bytes > size || !memory.data()) {
        const Size larger = std::max({bytes, size, Size(1)});
        memory = Buffer<std::byte>::zeros(larger), size = larger;
    }
    return memory.data();
}

template <class Real>
Packed<Real>::Packed(const Matrix<Real>& matrix, const Real* bias, Size first, Size G, Size N, Size K, Size L)
    : Panels<Real>{G, K, ceil_div(N, L), matrix.format} {
    const Size start = first * N, kinds = matrix.zero_points ? 5 : matrix.format == Format::int8 ? 3 : 1;
    const bool has_floats = matrix.format == Format::native, has_halves = matrix.format == Format::float16;
    const Size bytes = has_floats ? Size(sizeof(Real)) : has_halves ? Size(sizeof(Half)) : 1;
    const std::byte* const numbers = (const std::byte*)matrix.numbers + start * K * bytes;
    if (!has_floats && !has_halves)
        this->quantized_size = (matrix.zero_points ? Size(sizeof(RowHeader) / 4) : 1) + ceil_div(K, 4);
    this->block_bytes = (has_floats || has_halves ? K : ceil_div(K, 4) * 4) * G * L * bytes;
    weights_memory = WeightMemory(size_t(this->blocks * this->block_bytes));
    const auto pack_as = has_floats ? pack<1, Real> : has_halves ? pack<1, Half> : pack<4, int8_t>;
    in_parts(this->blocks, this->blocks * this->block_bytes * work_of_byte, [&](Size from, Size to) {
        pack_as(numbers, weights_memory.data(), matrix.taps, G, N, K, L, from, to);
    });
    constants_memory = zeros(this->blocks * kinds * G * L * Size(sizeof(Real)));
    Real* const constants = (Real*)constants_memory.data();
    for (Size g = 0; g < G; g++)
        for (Size n = 0; n < N; n++) {
            Real* const unit = constants + (n / L * kinds * G + g) * L + n % L;
            if (bias) *unit = bias[start + g * N + n];
            if (kinds == 1) continue;
            const int8_t* const row = (const int8_t*)numbers + (g * N + n) * K;
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
    this->constants = constants;
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
