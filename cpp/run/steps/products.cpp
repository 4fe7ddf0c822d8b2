// Matrix products.
#include "run/plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "platform/denormals.h"
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

}  // namespace

Plan::Rows::Rows(const View& view, Size row_axes) : offsets(offsets_of(view, 0, row_axes)) {
    size_t last = view.shape.size();
    while (last > size_t(row_axes) && (view.strides[last - 1] == length || view.shape[last - 1] == 1))
        length *= view.shape[--last];
    pieces = offsets_of(view, row_axes, last);
    stride = offsets.size() > 1 ? offsets[1] - offsets[0] : Size(pieces.size()) * length;
    line = Size(offsets.size());
    for (size_t row = 1; row < offsets.size(); row++)
        if (row % line && offsets[row] - offsets[row - 1] != stride) line = std::gcd(line, Size(row));
    in_place = length > 1 && (line >= short_line || line == Size(offsets.size()));
}

// out[row] = f(x[row] . panels + bias) for the rows [first, last). Rows of which enough are evenly spaced are read in
// place; others are gathered first, in groups that fill whole tiles of the product.
void Plan::multiply(const Panels<float>& panels, const float* x, const Rows& rows, Size first, Size last,
                    const std::optional<Activation<float>>& f, float* out, Size out_stride) const {
    const Size K = panels.K, units = panels.blocks * kernels.L;
    const Size at_once = rows.in_place ? rows_at_once
                                       : std::clamp(gathered_at_once / K / 24 * 24, Size(24), rows_at_once);
    thread_local std::vector<float> gathered;
    for (Size n; first < last; first += n) {
        n = std::min(at_once, last - first);
        Operand<float> a{x + rows.offsets[first], rows.stride, Size(rows.pieces.size()), rows.pieces.data()};
        if (rows.in_place) {
            n = std::min(n, rows.line - first % rows.line);
        } else {
            if (gathered.size() < size_t(n * K)) gathered.resize(n * K);
            float* to = gathered.data();
            for (Size row = first; row < first + n; row++)
                for (const Size piece : rows.pieces) to = copied(x + rows.offsets[row] + piece, rows.length, to);
            a = {gathered.data(), K};
        }
        kernels.product(panels, a, n, out + first * out_stride, out_stride, nullptr, {0, panels.blocks});
        const Size together = out_stride == units ? n : 1;
        for (Size row = first; f && row < first + n; row += together)
            kernels.activate(*f, together * units, out + row * out_stride, out + row * out_stride);
    }
}

void Plan::product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                   const View& y) {
    check_floats({&x, &y});
    const Rows rows(x, row_axes);
    const Panels<float>& panels = W.panels();
    const Size y_stride = y.strides[0], count = Size(rows.offsets.size()), K = panels.K;
    const Size end = y.offset + (count - 1) * y_stride + panels.blocks * kernels.L;
    if (rows.pieces.size() * rows.length != size_t(K) || count != y.shape[0] ||
        (count && end * Size(sizeof(float)) > space_sizes[y.space]))
        throw std::out_of_range("the rows of a product do not match its weights or its output");
    const Size work = count * K * W.O;
    steps.push_back([this, &panels, x, f, y, rows, count, y_stride, work](std::byte* const* spaces) {
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

void Plan::matmul(const View& a, const View& b, const View& y) {
    check_floats({&a, &b, &y});
    // For each k, one loop over the other axes computes y[m, :] += a[m, k] b[k, :].
    const size_t axes = y.shape.size();
    const Size K = a.shape.back();
    View a_k = a, b_k = b;
    const Size a_stride = a.strides.back(), b_stride = b.strides[b.shape.size() - 2];
    a_k.shape.back() = 1, b_k.shape[b.shape.size() - 2] = 1;
    if (axes < 2) throw std::out_of_range("matmul needs at least two axes");
    steps.push_back([this, K, a_stride, b_stride, zero = Loops<1>({&y}), loops = Loops<3>({&a_k, &b_k, &y})](
                        std::byte* const* spaces) {
        zero.run<float>(spaces, [](const auto& p, Size n, const auto& step) {
            for (Size i = 0; i < n; i++) p[0][i * step[0]] = 0;
        });
        loops.run<float>(spaces, [&](const auto& p, Size n, const auto& step) {
            for (Size k = 0; k < K; k++) {
                const std::array<float*, 3> own{p[0] + k * a_stride, p[1] + k * b_stride, p[2]};
                with_contiguous<2>(own, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                    kernels.multiply_add(count, operands[0], operand_steps[0], operands[1], operand_steps[1], out);
                });
            }
        });
    });
}

}  // namespace onward
