// Matrix products.
#include "run/plan.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "platform/temporary.h"
#include "run/steps/parts.h"
#include "run/steps/transpose.h"

namespace onward {

namespace {

constexpr Size gathered_at_once = 1 << 16;  // floats in the rows of a product
constexpr Size pooled_at_once = 1 << 13;  // floats in the products whose maxima are computed together
constexpr Size most_pooled = 128, least_pooled = 24;  // rows of them
constexpr Size short_line = 4;  // rows that fill most of a tile of a product

size_t row_axes_of(const View& view, Size row_axes) {
    if (row_axes < 0 || row_axes > Size(view.shape.size()))
        throw std::out_of_range("a view has fewer axes than its rows");
    return size_t(row_axes);
}

// Whether n > 0 numbers are all +0.
bool are_zeros(const float* x, Size n) {
    return std::bit_cast<uint32_t>(*x) == 0 && std::memcmp(x, x + 1, size_t(n - 1) * sizeof(float)) == 0;
}

bool has_negative_zero(const float* x, Size n) {
    uint32_t found = 0;
    for (Size i = 0; i < n; i++) found |= std::bit_cast<uint32_t>(x[i]) == 0x80000000;
    return found;
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

Plan::Rows::Rows(Memory& memory, const View& view, Size row_axes, const Dense<float>& W)
    : Rows(memory, view, row_axes, W.panels().K) {
    skips_zeros = in_place && pieces.size() > 1 && !W.panels().quantized_size && offsets.stride > 0 &&
                  offsets.stride <= length && W.is_finite();
}

// Copies n rows, piece by piece. Single elements of rows that are adjacent form a matrix, which is transposed.
void Plan::Rows::gather(const Kernels<float>& kernels, const float* x, Offsets::Walk& walk, Size n, float* to) const {
    const Size stride = offsets.stride;
    for (Size count; n > 0; n -= count, walk.skip(count)) {
        count = std::min(n, walk.left);
        const float* from = x + walk.offset;
        if (length == 1 && stride == 1 && count > 1) {
            const Size columns = Size(pieces.size());
            for (Size first = 0, last; first < columns; first = last) {  // pieces that are evenly spaced
                const Size step = first + 1 < columns ? pieces[first + 1] - pieces[first] : 0;
                for (last = first + 1; last < columns && pieces[last] - pieces[last - 1] == step;) last++;
                transpose(kernels, from + pieces[first], step, last - first, count, to + first, columns);
            }
            to += count * columns;
        } else {
            for (Size i = 0; i < count; i++, from += stride)
                for (const Size piece : pieces) to = copied(from + piece, length, to);
        }
    }
}

void Plan::Rows::gather_columns(const Kernels<float>& kernels, const float* x, Offsets::Walk& walk, Size n, float* to,
                                Size step) const {
    for (Size count; n > 0; n -= count, to += count, walk.skip(count)) {
        count = std::min(n, walk.left);
        float* row = to;
        for (const Size piece : pieces) {
            transpose(kernels, x + walk.offset + piece, offsets.stride, count, length, row, step);
            row += length * step;
        }
    }
}

// A term of zero changes a sum of finite weights at most from -0 to +0, and so do several of them for the sums that
// follow. A result other than -0 is therefore that of all pieces.
bool Plan::multiply_without_zeros(const Panels<float>& panels, const Operand<float>& a, Size rows, float* out,
                                  Size out_stride) const {
    auto is_zero = [&](Size piece) { return are_zeros(a.rows + a.offsets[piece], (rows - 1) * a.stride + a.length); };
    Size first = 0, last = a.pieces;
    while (last - first > 1 && is_zero(first)) first++;
    while (last - first > 1 && is_zero(last - 1)) last--;
    if (last - first == a.pieces) return false;
    Panels<float> part = panels;
    part.weights = (const std::byte*)panels.weights + panels.block_bytes / panels.K * a.length * first;
    Operand<float> others = a;
    others.offsets += first, others.pieces = last - first;
    kernels.product(part, others, rows, out, out_stride, nullptr, {0, panels.blocks});
    for (Size row = 0; row < rows; row++)
        if (has_negative_zero(out + (a.places ? a.places[row] : row * out_stride), panels.blocks * kernels.L))
            return false;
    return true;
}

// out[row] = f(x[row] . panels + bias) for the rows [first, last). Rows of which enough are evenly spaced are read in
// place, unless they have several pieces and are to be quantized; others are gathered first, in groups that fill whole
// tiles of the product.
void Plan::multiply(const Panels<float>& panels, const float* x, const Rows& rows, Size first, Size last,
                    const std::optional<Activation<float>>& f, const Results& to) const {
    const Size K = panels.K, units = panels.blocks * kernels.L;
    const bool in_place = rows.in_place && (rows.pieces.size() == 1 || !panels.quantized_size);
    const Size groups = std::clamp(gathered_at_once / K / 24 * 24, Size(24), rows_at_once);
    const Size at_once = std::min(in_place ? rows_at_once : groups, last - first);
    // The memory of results that go anywhere does not depend on the sizes of a call.
    const Temporary<float> gathered(to.units ? groups * K : in_place ? 0 : at_once * K);
    const Temporary<float> sums(to.units ? rows_at_once * units : 0);
    const Temporary<int32_t> quantized(at_once * panels.quantized_size);
    const bool is_relu = f && f->function == Function::relu;  // the product itself makes negative results 0
    const bool is_even = to.units || to.rows.line == to.rows.count;
    const Size stride = to.units ? units : to.rows.stride, together = is_even && stride == units ? at_once : 1;
    Offsets::Walk walk(rows.offsets, first), results(to.rows, first);
    for (Size n; first < last; first += n) {
        n = std::min(at_once, last - first);
        Operand<float> a{x, rows.offsets.stride, Size(rows.pieces.size()), rows.pieces.data()};
        if (in_place) {
            n = std::min(n, walk.left);
            a.rows += walk.offset, a.length = rows.length;
            walk.skip(n);
        } else {
            rows.gather(kernels, x, walk, n, gathered.data());
            a = {gathered.data(), K};
        }
        if (is_relu) a.least = 0;
        if (!is_even) a.places = to.rows.some(first, n, nullptr);
        float* const out = to.units ? sums.data() : is_even ? to.y + (first - to.first) * stride : to.y;
        if (!rows.skips_zeros || !multiply_without_zeros(panels, a, n, out, stride))
            kernels.product(panels, a, n, out, stride, panels.quantized_size ? quantized.data() : nullptr,
                            {0, panels.blocks});
        for (Size row = 0; f && !is_relu && row < n; row += together) {
            float* const y = out + (is_even ? row * stride : a.places[row]);
            kernels.activate(*f, std::min(together, n) * units, y, y);
        }
        for (Size row = 0, count; to.units && row < n; row += count, results.skip(count)) {
            count = std::min(n - row, results.left);
            scatter(kernels, out + row * units, units, count, to.units, to.y + results.offset, to.rows.stride,
                    to.stride);
        }
    }
}

void Plan::product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                   const View& y) {
    check_floats({&x, &y});
    const Panels<float>& panels = W.panels();
    const Rows rows(kept, x, row_axes, W);
    if (y.shape.size() < 2 || y.shape.back() != W.O || (y.strides.back() != 1 && W.O > 1))
        throw std::out_of_range("the output of a product must have rows of its units");
    Offsets to(kept, y, 0, y.shape.size() - 1);
    to.keep(kept);
    const Size count = rows.offsets.count, K = panels.K;
    Size end = y.offset + panels.blocks * kernels.L;
    for (size_t axis = 0; axis + 1 < y.shape.size(); axis++)
        end += std::max<Size>(0, (y.shape[axis] - 1) * y.strides[axis]);
    if (count != to.count || (count && end * Size(sizeof(float)) > space_sizes[y.space]))
        throw std::out_of_range("the rows of a product do not match its output");
    const Size work = count * K * W.O;
    add([this, &panels, x = Place(x), f, y = Place(y), rows, count, to, work](std::byte* const* spaces) {
        const float* const from = at<float>(x, spaces);
        float* const out = at<float>(y, spaces);
        in_parts(count, ceil_div(count, rows_worth_a_thread), work, [&](Size first, Size last) {
            multiply(panels, from, rows, first, last, f, {out, to});
        });
    });
}

// Computes as many rows at a time as stay in the first-level cache, whole lines if they fit. Taps that fill the space
// between the rows are rows of the product.
void Plan::pooled_product(const Dense<float>& W, const View& x, Size row_axes, Size tap_axes,
                          const std::optional<Activation<float>>& f, const View& y) {
    check_floats({&x, &y});
    const size_t first_tap = row_axes_of(x, row_axes), left = x.shape.size() - first_tap;
    const size_t last_tap = first_tap + std::min(size_t(tap_axes), left);
    const Panels<float>& panels = W.panels();
    const Size O = W.O, units = panels.blocks * kernels.L;
    if (row_axes < 1 || tap_axes < 1 || tap_axes > Size(left) || y.shape.size() != first_tap + 1 ||
        y.shape.back() != O || (y.strides.back() != 1 && O > 1) ||
        !std::equal(y.shape.begin(), y.shape.end() - 1, x.shape.begin()))
        throw std::out_of_range("the views of a pooled product have the wrong shapes or strides");
    Offsets to(kept, y, 0, first_tap);
    to.keep(kept);
    View products = x;
    const Size inner = x.shape[last_tap - 1], step = x.strides[last_tap - 1];
    const Size all = Offsets(kept, x, 0, last_tap).count;  // products; throws if there are too many
    const bool is_dense = inner > 1 && x.strides[first_tap - 1] == inner * step;
    const Size among = is_dense ? inner : 1;  // products of a row that follow each other
    if (is_dense) products.shape[first_tap - 1] *= inner, products.strides[first_tap - 1] = step;
    const Offsets found(kept, x, first_tap, last_tap - is_dense);
    products.shape.drop(first_tap, last_tap), products.strides.drop(first_tap, last_tap);
    const Rows rows(kept, products, row_axes, W);
    const Size count = to.count, line = std::max(Size(1), rows.offsets.line / among), taps = found.count * among;
    if (taps < 1 || rows.offsets.count != count * among)
        throw std::out_of_range("the rows of a pooled product do not match its output");
    Size* const in_sums = kept.take<Size>(taps);
    const Size work = all * panels.K * O;
    Size at_once = std::clamp(pooled_at_once / (taps * units), least_pooled, most_pooled);
    at_once = line <= at_once ? at_once / line * line : ceil_div(line, ceil_div(line, at_once));
    const View sums{0, 0, {found.count, at_once, among, units}, {at_once * among * units, among * units, units, 1}};
    const Offsets together(kept, sums, 1, 3);
    const Size *const tap_offsets = found.list(kept), *const places = Offsets(kept, sums, 1, 2).list(kept);
    for (Size tap = 0; tap < taps; tap++) in_sums[tap] = (tap / among * at_once * among + tap % among) * units;
    add([=, this, &panels, x = Place(x), y = Place(y)](std::byte* const* spaces) {
        const float* const from = at<float>(x, spaces);
        const Size groups = ceil_div(count, at_once);
        in_parts(groups, groups, work, [&](Size group, Size end) {
            const Temporary<float> memory(taps * at_once * units);
            for (; group < end; group++) {
                const Size first = group * at_once, n = std::min(at_once, count - first);
                for (Size tap = 0; tap < found.count; tap++)
                    multiply(panels, from + tap_offsets[tap], rows, first * among, (first + n) * among, f,
                             {memory.data() + tap * at_once * among * units, together, 0, 1, first * among});
                Size buffer[most_pooled];
                kernels.window(Window::maximum, {memory.data(), at<float>(y, spaces), places, to.some(first, n, buffer),
                                                 among * units, n, O, in_sums, taps});
            }
        });
    });
}

void Plan::dense(const Dense<double>& W, const View& x, const View& y) {
    check(x, DType::float64), check(y, DType::float64);
    const Size rows = elements(x.shape) / W.I;
    if (elements(x.shape) != rows * W.I || elements(y.shape) != rows * W.O || !is_contiguous(x) || !is_contiguous(y))
        throw std::invalid_argument("the views of a matrix do not match its weights");
    add([=, &W, x = Place(x), y = Place(y)](std::byte* const* spaces) {
        Interrupt interrupt;
        W.forward(at<double>(x, spaces), rows, at<double>(y, spaces), interrupt);
        interrupt.throw_if_happened();
    });
}

}  // namespace onward
