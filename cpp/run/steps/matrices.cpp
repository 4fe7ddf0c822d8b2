// Products of matrices that are known only when they run.
#include "run/plan.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "platform/temporary.h"
#include "run/steps/filters.h"
#include "run/steps/parts.h"
#include "run/steps/transpose.h"

namespace onward {

namespace {

// Packs a matrix (K, N) in panels with one gate; the last block is padded with zeros.
void pack(const Kernels<float>& kernels, const float* matrix, const Steps& steps, Size K, Size N, float* panels) {
    const Size L = kernels.L;
    for (Size first = 0; first < N; first += L, panels += K * L) {
        const Size n = std::min(L, N - first);
        if (n < L) std::fill_n(panels, K * L, 0.0f);
        copy_matrix(kernels, matrix + first * steps[1], steps, K, n, panels, L);
    }
}

Steps steps_of(const View& view) { return {view.strides.end()[-2], view.strides.back()}; }

View transposed(View view) {
    std::swap(view.shape.end()[-2], view.shape.end()[-1]);
    std::swap(view.strides.end()[-2], view.strides.end()[-1]);
    return view;
}

// The time of a product of M rows and a matrix of N columns, which are the lanes of vectors: multiplying takes twice as
// long as packing.
Size cost(Size M, Size N, Size L) { return 2 * M * ceil_div(N, L) + N; }

constexpr Size most_filters = 4;
constexpr double most_packed = 1e15;  // numbers in a matrix: more than memory holds

// y (M, N) = a (M, K) b (K, N).
struct MatrixProduct {
    Size M, N, K;
    Steps a, b, y;

    Size rows() const { return std::min(M, rows_at_once); }
    Size memory(Size L) const { return ceil_div(N, L) * L * (K + 1 + rows()) + rows() * K; }

    // Without a matrix b, multiplies by that of the last call with this memory.
    void run(const Kernels<float>& kernels, const float* from, const float* by, float* to, float* memory) const {
        const Size L = kernels.L, blocks = ceil_div(N, L), units = blocks * L;
        float *const weights = memory, *const zeros = weights + units * K, *const out = zeros + units,
              *const gathered = out + rows() * units;
        if (by) pack(kernels, by, b, K, N, weights), std::fill_n(zeros, units, 0.0f);
        const Panels<float> panels{1, K, blocks, Format::native, weights, zeros, K * L * Size(sizeof(float))};
        const bool in_place = units == N && y[1] == 1;
        for (Size first = 0; first < M; first += rows(), from += rows() * a[0], to += rows() * y[0]) {
            const Size n = std::min(rows(), M - first);
            Operand<float> operand{from, a[0]};
            if (a[1] != 1) {
                copy_matrix(kernels, from, a, n, K, gathered, K);
                operand = {gathered, K};
            }
            kernels.product(panels, operand, n, in_place ? to : out, in_place ? y[0] : units, nullptr, {0, blocks});
            for (Size row = 0; row < n && !in_place; row++) {
                const float* const sums = out + row * units;
                float* const y_row = to + row * y[0];
                if (y[1] == 1 && N > 2 * L)
                    std::memcpy(y_row, sums, N * sizeof(float));
                else if (y[1] == 1)
                    for (Size unit = 0; unit < N; unit++) y_row[unit] = sums[unit];
                else
                    for (Size unit = 0; unit < N; unit++) y_row[unit * y[1]] = sums[unit];
            }
        }
    }

    // For few rows of a. Reads b, whose rows start at these offsets, in place.
    void filter(const Kernels<float>& kernels, const float* from, const float* by, const Size* rows_of_b, float* to,
                float* memory) const {
        const bool in_place = M == 1 || a[0] == 1;
        for (Size k = 0; k < K && !in_place; k++)
            for (Size row = 0; row < M; row++) memory[k * M + row] = from[row * a[0] + k * a[1]];
        const float* const weights = in_place ? from : memory;
        const Size weight_stride = in_place ? a[1] : M;
        WindowVectors vectors(kernels, {by, to, y[0], K, M, rows_of_b, weights, weight_stride, 0, nullptr});
        vectors.add(0, 0, N), vectors.finish();
    }
};

// The multiply-adds of a product of so many rows, at most a number that fits.
Size work_of(Size rows, const MatrixProduct& product) {
    return Size(std::min(double(rows) * double(product.N) * double(product.K), most_packed));
}

// The offsets of the rows of b.
const Size* rows_of(Memory& memory, const MatrixProduct& product) {
    Size* const rows = memory.take<Size>(product.K);
    for (Size k = 0; k < product.K; k++) rows[k] = k * product.b[0];
    return rows;
}

}  // namespace

// y = a b for each of some matrices: packs b and multiplies rows of a by it, as `product` does. Rows whose numbers are
// not adjacent are gathered first.
void Plan::matmul(const View& a, const View& b, const View& y) {
    check_floats({&a, &b, &y});
    const size_t axes = y.shape.size();
    if (axes < 2 || a.shape.size() < 2 || b.shape.size() < 2)
        throw std::out_of_range("a matrix product needs views with at least two axes");
    const Size K = a.shape.back();
    const MatrixProduct product{y.shape[axes - 2], y.shape[axes - 1], K, steps_of(a), steps_of(b), steps_of(y)};
    const Size M = product.M, N = product.N;
    for (const Size size : {M, N})  // where strides are 0, sizes need no memory
        if ((double(size) + 1) * (double(K) + 1) > most_packed) throw std::bad_alloc();
    if (cost(N, M, kernels.L) < cost(M, N, kernels.L)) return matmul(transposed(b), transposed(a), transposed(y));
    // The offsets of all matrices of an operand, broadcast to those of y.
    auto offsets = [&](const View& operand, Size rows, Size columns) {
        if (operand.shape.size() > axes || operand.shape.end()[-2] != rows || operand.shape.back() != columns)
            throw std::out_of_range("the shapes of a matrix product do not match");
        View view{0, 0, y.shape, y.strides};
        for (size_t axis = 0, missing = axes - operand.shape.size(); axis + 2 < axes; axis++) {
            const Size size = axis < missing ? 1 : operand.shape[axis - missing];
            view.strides[axis] = size == 1 ? 0 : operand.strides[axis - missing];
            if (size != 1 && size != y.shape[axis]) throw std::out_of_range("matrices do not broadcast to a product");
        }
        return Offsets(kept, view, 0, axes - 2);
    };
    const Size* rows_of_b = nullptr;
    if (M <= most_filters && product.b[1] == 1 && product.y[1] == 1) rows_of_b = rows_of(kept, product);
    const Offsets of_y = offsets(y, M, N);
    const Size rows = of_y.count * M, work = work_of(rows, product);
    add([=, this, a = Place(a), b = Place(b), y = Place(y), a_offsets = offsets(a, M, K),
         b_offsets = offsets(b, K, N)](std::byte* const* spaces) {
        in_parts(rows, ceil_div(rows, rows_worth_a_thread), work, [&](Size row, Size end) {
            const Temporary<float> memory(rows_of_b ? M * K : product.memory(kernels.L));
            MatrixProduct part = product;
            for (const float* packed = nullptr; row < end; row += part.M) {
                const Size i = row / M;
                part.M = std::min(M - row % M, end - row);
                const float* const from = at<float>(a, spaces) + a_offsets[i] + row % M * product.a[0];
                const float* const by = at<float>(b, spaces) + b_offsets[i];
                float* const to = at<float>(y, spaces) + of_y[i] + row % M * product.y[0];
                if (rows_of_b)
                    part.filter(kernels, from, by, rows_of_b, to, memory.data());
                else
                    part.run(kernels, from, by == packed ? nullptr : by, to, memory.data());
                packed = by;
            }
        });
    });
}

// Multiplies the rows of each group by its matrix, as `matmul` does.
void Plan::grouped_matmul(const View& a, const View& b, const View& ends, const View& y, const char* name) {
    check_floats({&a, &b, &y}), check(ends, DType::int64);
    if (a.shape.size() != 2 || b.shape.size() != 3 || y.shape != Axes{a.shape[0], b.shape[2]} ||
        a.shape[1] != b.shape[1] || ends.shape != Axes{b.shape[0]} || !is_contiguous(y))
        throw std::out_of_range("the shapes of a product of groups do not match");
    if ((double(b.shape[1]) + 1) * (double(b.shape[2]) + 1) > most_packed) throw std::bad_alloc();
    const MatrixProduct all{y.shape[0], y.shape[1], b.shape[1], steps_of(a), steps_of(b), steps_of(y)};
    const Size* const rows_of_b = all.b[1] == 1 ? rows_of(kept, all) : nullptr;
    add([this, all, rows_of_b, G = b.shape[0], matrix_stride = b.strides[0], end_stride = ends.strides[0],
         a = Place(a), b = Place(b), ends = Place(ends), y = Place(y), name](std::byte* const* spaces) {
        const Temporary<int64_t> bounds(G + 1);  // others may change the ends meanwhile
        int64_t* const first_of = bounds.data();
        first_of[0] = 0;
        for (Size group = 0; group < G; group++) {
            first_of[group + 1] = at<int64_t>(ends, spaces)[group * end_stride];
            if (first_of[group + 1] < first_of[group] || first_of[group + 1] > all.M)
                throw BadValue(std::string(name) + ": the ends of groups do not ascend, or exceed the number of rows");
        }
        float* const to = at<float>(y, spaces);
        const Size last = first_of[G];
        std::fill_n(to + last * all.N, (all.M - last) * all.N, 0.0f);
        in_parts(G, G, work_of(last, all), [&](Size group, Size end_group) {
            const Temporary<float> memory(std::max(all.memory(kernels.L), most_filters * all.K));
            for (; group < end_group; group++) {
                const Size first = first_of[group];
                MatrixProduct product = all;
                product.M = first_of[group + 1] - first;
                const float* const from = at<float>(a, spaces) + first * all.a[0];
                const float* const by = at<float>(b, spaces) + group * matrix_stride;
                if (product.M && product.M <= most_filters && rows_of_b)
                    product.filter(kernels, from, by, rows_of_b, to + first * all.N, memory.data());
                else if (product.M)
                    product.run(kernels, from, by, to + first * all.N, memory.data());
            }
        });
    });
}

}  // namespace onward
