// Strided, typed views of the memory of a plan, and loops over their elements.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace onward {

enum class Reduction { sum, maximum };

enum class Comparison { equal, not_equal, less, less_or_equal };

enum class DType { float32, float64, int32, int64, int8, uint8, boolean };

constexpr Size size_of(DType dtype) {
    switch (dtype) {
        case DType::int8:
        case DType::uint8:
        case DType::boolean: return 1;
        case DType::float32:
        case DType::int32: return 4;
        case DType::float64:
        case DType::int64: return 8;
    }
    return 0;
}

// Calls f with a value of the C++ type of a dtype. A boolean is stored as a byte, 0 or 1.
template <class Function>
auto with_type(DType dtype, Function f) {
    switch (dtype) {
        case DType::float64: return f(double());
        case DType::int32: return f(int32_t());
        case DType::int64: return f(int64_t());
        case DType::int8: return f(int8_t());
        case DType::uint8:
        case DType::boolean: return f(uint8_t());
        case DType::float32: break;
    }
    return f(float());
}

// An array in one of a plan's spaces: 0 is the arena, 1 holds the constants; the inputs and then the outputs of a call
// follow. Offset and strides count elements.
struct View {
    Size space = 0, offset = 0;
    std::vector<Size> shape, strides;
    DType dtype = DType::float32;
};

inline bool is_empty(const View& view) { return std::count(view.shape.begin(), view.shape.end(), 0) > 0; }

inline Size elements(const std::vector<Size>& shape) {
    return std::accumulate(shape.begin(), shape.end(), Size(1), std::multiplies());
}

inline bool is_contiguous(const View& view) {
    Size stride = 1;
    for (size_t axis = view.shape.size(); axis-- > 0; stride *= view.shape[axis])
        if (view.shape[axis] != 1 && view.strides[axis] != stride) return false;
    return true;
}

template <class T>
T* at(const View& view, std::byte* const* spaces) {
    return (T*)spaces[view.space] + view.offset;
}

// The offsets of all elements of the axes [first, last).
std::vector<Size> offsets_of(const View& view, size_t first, size_t last);

// Iterates over the elements of N views of one shape, merging axes where the strides allow it.
template <int N>
class Loops {
public:
    // Follows the memory order of the last view and broadcasts the others to its shape: a leading axis that a view
    // lacks, or an axis of size 1, has stride 0. Throws std::invalid_argument if their shapes do not permit that.
    explicit Loops(const std::array<const View*, N>& views);
    // Calls body(pointers, n, steps) for each run of the innermost loop. The pointers have type T*; steps count
    // elements.
    template <class T, class Body>
    void run(std::byte* const* spaces, const Body& body) const;

private:
    std::array<Size, N> space, offset, inner_steps{};
    std::vector<std::pair<Size, std::array<Size, N>>> outer;  // sizes and strides in bytes
    Size inner = 1;
};

template <int N>
Loops<N>::Loops(const std::array<const View*, N>& views) {
    const View& last = *views[N - 1];
    const size_t axes = last.shape.size();
    std::array<std::vector<Size>, N> strides;
    std::array<Size, N> sizes;
    for (int i = 0; i < N; i++) {
        const View& view = *views[i];
        sizes[i] = size_of(view.dtype);
        space[i] = view.space, offset[i] = view.offset * sizes[i];
        strides[i].assign(axes, 0);
        if (view.shape.size() > axes) throw std::invalid_argument("an operand of a step has too many axes");
        for (size_t axis = 0, missing = axes - view.shape.size(); axis < view.shape.size(); axis++) {
            if (view.shape[axis] == 1) continue;
            if (view.shape[axis] != last.shape[missing + axis])
                throw std::invalid_argument("an operand of a step does not broadcast to its result");
            strides[i][missing + axis] = view.strides[axis];
        }
    }
    std::vector<size_t> order;
    for (size_t axis = 0; axis < axes; axis++)
        if (last.shape[axis] != 1) order.push_back(axis);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return std::abs(strides[N - 1][a]) > std::abs(strides[N - 1][b]);
    });
    for (const size_t axis : order) {
        std::array<Size, N> own;
        for (int i = 0; i < N; i++) own[i] = strides[i][axis];
        const Size n = last.shape[axis];
        bool merges = !outer.empty();
        for (int i = 0; merges && i < N; i++) merges = outer.back().second[i] == own[i] * n;
        if (merges)
            outer.back() = {outer.back().first * n, own};
        else
            outer.push_back({n, own});
    }
    if (is_empty(last)) {
        inner = 0, outer.clear();
    } else if (!outer.empty()) {
        inner = outer.back().first, inner_steps = outer.back().second;
        outer.pop_back();
    }
    for (auto& [n, own] : outer)
        for (int i = 0; i < N; i++) own[i] *= sizes[i];
}

template <int N>
template <class T, class Body>
void Loops<N>::run(std::byte* const* spaces, const Body& body) const {
    if (inner == 0) return;
    std::array<std::byte*, N> p;
    for (int i = 0; i < N; i++) p[i] = spaces[space[i]] + offset[i];
    auto call = [&] {
        std::array<T*, N> typed;
        for (int i = 0; i < N; i++) typed[i] = (T*)p[i];
        body(typed, inner, inner_steps);
    };
    if (outer.empty()) return call();
    Size counts[16] = {};
    for (const int depth = int(outer.size());;) {
        call();
        int axis = depth - 1;
        for (; axis >= 0; axis--) {
            const auto& [n, strides] = outer[axis];
            for (int i = 0; i < N; i++) p[i] += strides[i];
            if (++counts[axis] < n) break;
            for (int i = 0; i < N; i++) p[i] -= n * strides[i];
            counts[axis] = 0;
        }
        if (axis < 0) return;
    }
}

constexpr Size block = 512;  // floats of a strided run gathered at once

// Calls f(n, operands, y) for the runs of one loop. An operand that is neither contiguous nor a single number, and a y
// that is not contiguous, are copied through a small buffer.
template <size_t N, class Function>
void with_contiguous(const std::array<float*, N + 1>& p, Size n, const std::array<Size, N + 1>& steps, Function f) {
    float gathered[N + 1][block];
    if (std::all_of(steps.begin(), steps.end() - 1, [](Size step) { return step == 0 || step == 1; }) &&
        (steps[N] == 1 || n == 1)) {
        std::array<const float*, N> operands;
        std::array<Size, N> operand_steps;
        for (size_t i = 0; i < N; i++) operands[i] = p[i], operand_steps[i] = steps[i];
        return f(n, operands, operand_steps, p[N]);
    }
    for (Size first = 0; first < n; first += block) {
        const Size count = std::min(block, n - first);
        std::array<const float*, N> operands;
        std::array<Size, N> operand_steps;
        for (size_t i = 0; i < N; i++) {
            for (Size k = 0; k < count; k++) gathered[i][k] = p[i][(first + k) * steps[i]];
            operands[i] = gathered[i], operand_steps[i] = 1;
        }
        float* const y = p[N] + first * steps[N];
        for (Size k = 0; k < count; k++) gathered[N][k] = y[k * steps[N]];
        f(count, operands, operand_steps, gathered[N]);
        for (Size k = 0; k < count; k++) y[k * steps[N]] = gathered[N][k];
    }
}

}  // namespace onward
