// Matrix products.
#include "run/plan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "platform/denormals.h"
#include "platform/temporary.h"
#include "platform/threads.h"

namespace onward {

namespace {

constexpr Size gathered_at_once = 1 << 16;  // floats in the rows of a product
constexpr Size short_line = 4;  // rows that fill most of a tile of a product

// Copies n numbers and returns the end of the copy. For short runs, a loop is faster than a call of memcpy.
float* copied(const float* from, Size n, float* to) {
    if (n >= 16)
        std::memcpy(to, from, n * sizeof(float));
    else
        for (Size i = 0; i < n; i++) to[i] = from[i];
    return to + n;
}

size_t row_axes_of(const View& view, Size row_axes) {
    if (row_axes < 0 || row_axes > Size(view.shape.size()))
        throw std::out_of_range("a view has fewer axes than its rows");
    return size_t(row_axes);
}

// Packs a matrix (K, N) in panels with one gate; the last block is padded with zeros.
void pack(const float* matrix, const std::array<Size, 2>& strides, Size K, Size N, Size L, float* panels) {
    for (Size first = 0; first < N; first += L, panels += K * L) {
        const Size n = std::min(L, N - first);
        const float* const from = matrix + first * strides[1];
        if (n < L) std::fill_n(panels, K * L, 0.0f);
        if (strides[1] == 1) {
            for (Size k = 0; k < K; k++) copied(from + k * strides[0], n, panels + k * L);
        } else {
            for (Size lane = 0; lane < n; lane++)
                for (Size k = 0; k < K; k++) panels[k * L + lane] = from[k * strides[0] + lane * strides[1]];
        }
    }
}

}  // namespace

Plan::Rows::Rows(Memory& memory, const View& view, Size row_axes, Size K)
    : offsets(memory, view, 0, row_axes_of(view, row_axes)) {
    size_t last = view.shape.size();
    while (last > size_t(row_axes) && (view.strides[last - 1] == length || view.shape[last - 1] == 1))
        length *= view.shape[--last];
    const Offsets found(memory, view, row_axes, last);
    if (Size size; __builtin_mul_overflow(found.count, length, &size) || size != K)
        throw std::out_of_range("the rows of a product do not match its weights");
    pieces = {found.list(memory), size_t(found.count)};
    in_place = length > 1 && (offsets.line >= short_line || offsets.line == offsets.count);
}

// out[row] = f(x[row] . panels + bias) for the rows [first, last). Rows of which enough are evenly spaced are read in
// place, unless they have several pieces and are to be quantized; others are gathered first, in groups that fill whole
// tiles of the product.
void Plan::multiply(const Panels<float>& panels, const float* x, const Rows& rows, Size first, Size last,
                    const std::optional<Activation<float>>& f, float* out, Size out_stride) const {
    const Size K = panels.K, units = panels.blocks * kernels.L;
    const bool in_place = rows.in_place && (rows.pieces.size() == 1 || !panels.quantized_size);
    const Size most = in_place ? rows_at_once : std::clamp(gathered_at_once / K / 24 * 24, Size(24), rows_at_once);
    const Size at_once = std::min(most, last - first);
    const Temporary<float> gathered(in_place ? 0 : at_once * K);
    const Temporary<int32_t> quantized(at_once * panels.quantized_size);
    const bool is_relu = f && f->function == Function::relu;  // the product itself makes negative results 0
    Offsets::Walk walk(rows.offsets, first);
    for (Size n; first < last; first += n) {
        n = std::min(at_once, last - first);
        Operand<float> a{x, rows.offsets.stride, Size(rows.pieces.size()), rows.pieces.data()};
        if (in_place) {
            n = std::min(n, walk.left);
            a.rows += walk.offset;
            walk.skip(n);
        } else {
            float* to = gathered.data();
            for (Size row = first, length; row < first + n; row += length) {
                length = std::min(first + n - row, walk.left);
                const float* from = x + walk.offset;
                for (Size i = 0; i < length; i++, from += a.stride)
                    for (const Size piece : rows.pieces) to = copied(from + piece, rows.length, to);
                walk.skip(length);
            }
            a = {gathered.data(), K};
        }
        if (is_relu) a.least = 0;
        kernels.product(panels, a, n, out + first * out_stride, out_stride,
                        panels.quantized_size ? quantized.data() : nullptr, {0, panels.blocks});
        const Size together = out_stride == units ? n : 1;
        for (Size row = first; f && !is_relu && row < first + n; row += together)
            kernels.activate(*f, together * units, out + row * out_stride, out + row * out_stride);
    }
}

void Plan::product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                   const View& y) {
    check_floats({&x, &y});
    const Panels<float>& panels = W.panels();
    const Rows rows(kept, x, row_axes, panels.K);
    if (y.shape.size() != 2 || y.shape[1] != W.O || y.strides[0] < 0 || (y.strides[1] != 1 && W.O > 1))
        throw std::out_of_range("the output of a product must have rows of its units");
    const Size y_stride = y.strides[0], count = rows.offsets.count, K = panels.K;
    const Size end = y.offset + (count - 1) * y_stride + panels.blocks * kernels.L;
    if (count != y.shape[0] || (count && end * Size(sizeof(float)) > space_sizes[y.space]))
        throw std::out_of_range("the rows of a product do not match its output");
    const Size work = count * K * W.O;
    add([this, &panels, x = Place(x), f, y = Place(y), rows, count, y_stride, work](std::byte* const* spaces) {
        const float* const from = at<float>(x, spaces);
        float* const to = at<float>(y, spaces);
        int parts = 1;
        const int useful = int(std::min({Size(num_threads()), ceil_div(count, rows_worth_a_thread),
                                         work / worth_threads + 1}));
        parallel(useful, [&](int n) { parts = n; }, [&](int part) {
            const FlushDenormals flush;
            multiply(panels, from, rows, count * part / parts, count * (part + 1) / parts, f, to, y_stride);
        }, work);
    });
}

// Packs b, and multiplies rows of a by it as `product` does. Rows whose numbers are not adjacent are gathered first.
void Plan::matmul(const View& a, const View& b, const View& y) {
    check_floats({&a, &b, &y});
    const size_t axes = y.shape.size();
    if (axes < 2 || a.shape.size() < 2 || b.shape.size() < 2)
        throw std::out_of_range("a matrix product needs views with at least two axes");
    const Size M = y.shape[axes - 2], N = y.shape[axes - 1], K = a.shape.back();
    auto matrix = [](const View& view) { return std::array<Size, 2>{view.strides.end()[-2], view.strides.back()}; };
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
    add([this, M, N, K, a = Place(a), b = Place(b), y = Place(y), a_offsets = offsets(a, M, K),
         b_offsets = offsets(b, K, N), y_offsets = offsets(y, M, N), a_strides = matrix(a), b_strides = matrix(b),
         y_strides = matrix(y)](std::byte* const* spaces) {
        const Size L = kernels.L, blocks = ceil_div(N, L), units = blocks * L, at_once = std::min(M, rows_at_once);
        const Temporary<float> memory(units * (K + 1 + at_once) + at_once * K);
        float *const weights = memory.data(), *const zeros = weights + units * K, *const out = zeros + units,
              *const rows = out + at_once * units;
        std::fill_n(zeros, units, 0.0f);
        const Panels<float> panels{1, K, blocks, Format::native, weights, zeros, K * L * Size(sizeof(float))};
        for (Size i = 0; i < y_offsets.count; i++) {
            if (i == 0 || b_offsets[i] != b_offsets[i - 1])
                pack(at<float>(b, spaces) + b_offsets[i], b_strides, K, N, L, weights);
            for (Size first = 0; first < M; first += at_once) {
                const Size n = std::min(at_once, M - first);
                const float* from = at<float>(a, spaces) + a_offsets[i] + first * a_strides[0];
                Operand<float> operand{from, a_strides[0]};
                if (a_strides[1] != 1) {
                    for (Size row = 0; row < n; row++)
                        for (Size k = 0; k < K; k++) rows[row * K + k] = from[row * a_strides[0] + k * a_strides[1]];
                    operand = {rows, K};
                }
                kernels.product(panels, operand, n, out, units, nullptr, {0, blocks});
                float* const to = at<float>(y, spaces) + y_offsets[i] + first * y_strides[0];
                for (Size row = 0; row < n; row++)
                    for (Size unit = 0; unit < N; unit++)
                        to[row * y_strides[0] + unit * y_strides[1]] = out[row * units + unit];
            }
        }
    });
}

}  // namespace onward
