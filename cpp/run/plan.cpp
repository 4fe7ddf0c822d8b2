// The steps of a plan: loops over views around the kernels.
#include "run/plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/interrupt.h"
#include "platform/threads.h"

namespace onward {

namespace {

constexpr Size gathered_at_once = 1 << 16;  // floats in the rows of a product
constexpr Size short_line = 6;  // rows that fill a tile of a product
constexpr Size block = 512;  // floats of a strided run gathered at once

float* at(const View& view, float* const* spaces) { return spaces[view.space] + view.offset; }

// Returns the strides of a view broadcast to `axes` axes.
std::vector<Size> broadcast_strides(const View& view, size_t axes) {
    std::vector<Size> strides(axes, 0);
    const size_t missing = axes - view.shape.size();
    for (size_t axis = 0; axis < view.shape.size(); axis++)
        if (view.shape[axis] != 1) strides[missing + axis] = view.strides[axis];
    return strides;
}

bool is_empty(const View& view) { return std::count(view.shape.begin(), view.shape.end(), 0) > 0; }

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

// Copies n numbers and returns the end of the copy. For short runs, a loop is faster than a call of memcpy.
float* copied(const float* from, Size n, float* to) {
    if (n >= 16)
        std::memcpy(to, from, n * sizeof(float));
    else
        for (Size i = 0; i < n; i++) to[i] = from[i];
    return to + n;
}

// Returns the offsets of all elements of the axes [first, last).
std::vector<Size> offsets_of(const View& view, size_t first, size_t last) {
    std::vector<Size> offsets{0};
    for (size_t axis = first; axis < last; axis++) {
        std::vector<Size> next;
        next.reserve(offsets.size() * view.shape[axis]);
        for (const Size offset : offsets)
            for (Size i = 0; i < view.shape[axis]; i++) next.push_back(offset + i * view.strides[axis]);
        offsets = std::move(next);
    }
    return offsets;
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

template <int N>
Loops<N>::Loops(const std::array<const View*, N>& views) {
    const View& last = *views[N - 1];
    const size_t axes = last.shape.size();
    std::array<std::vector<Size>, N> strides;
    for (int i = 0; i < N; i++) {
        space[i] = views[i]->space, offset[i] = views[i]->offset;
        strides[i] = broadcast_strides(*views[i], axes);
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
}

template <int N>
template <class Body>
void Loops<N>::run(float* const* spaces, const Body& body) const {
    if (inner == 0) return;
    std::array<float*, N> p;
    for (int i = 0; i < N; i++) p[i] = spaces[space[i]] + offset[i];
    if (outer.empty()) return body(p, inner, inner_steps);
    Size counts[16] = {};
    for (const int depth = int(outer.size());;) {
        body(p, inner, inner_steps);
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

Plan::Plan(std::vector<Size> sizes) : kernels(onward::kernels<float>()), space_sizes(std::move(sizes)) {}

void Plan::check(const View& view) const {
    if (view.space < 0 || view.space >= Size(space_sizes.size()) || view.shape.size() != view.strides.size() ||
        view.shape.size() > 16)
        throw std::out_of_range("a view refers to a space that does not exist, or has too many axes");
    Size low = view.offset, high = view.offset;
    for (size_t axis = 0; axis < view.shape.size(); axis++) {
        if (view.shape[axis] < 0) throw std::out_of_range("a view has a negative size");
        const Size reach = (view.shape[axis] - 1) * view.strides[axis];
        (reach < 0 ? low : high) += reach;
    }
    if (!is_empty(view) && (low < 0 || high >= space_sizes[view.space]))
        throw std::out_of_range("a view exceeds its space");
}

void Plan::copy(const View& x, const View& y) {
    check(x), check(y);
    steps.push_back([loops = Loops<2>({&x, &y})](float* const* spaces) {
        loops.run(spaces, [](const std::array<float*, 2>& p, Size n, const std::array<Size, 2>& step) {
            if (step[0] == 1 && step[1] == 1)
                std::memcpy(p[1], p[0], n * sizeof(float));
            else
                for (Size i = 0; i < n; i++) p[1][i * step[1]] = p[0][i * step[0]];
        });
    });
}

void Plan::gather(const View& x, std::vector<Size> table, const View& y) {
    check(y);
    for (const Size offset : table)
        if (x.offset + offset < 0 || x.offset + offset >= space_sizes.at(x.space))
            throw std::out_of_range("a table of offsets exceeds its space");
    steps.push_back([x, y, table = std::move(table)](float* const* spaces) {
        const float* const from = at(x, spaces);
        float* const to = at(y, spaces);
        for (size_t i = 0; i < table.size(); i++) to[i] = from[table[i]];
    });
}

void Plan::fill(float value, const View& y) {
    check(y);
    steps.push_back([value, loops = Loops<1>({&y})](float* const* spaces) {
        loops.run(spaces, [&](const std::array<float*, 1>& p, Size n, const std::array<Size, 1>& step) {
            for (Size i = 0; i < n; i++) p[0][i * step[0]] = value;
        });
    });
}

void Plan::activate(Activation<float> function, const View& x, const View& y) {
    check(x), check(y);
    steps.push_back([this, function, loops = Loops<2>({&x, &y})](float* const* spaces) {
        loops.run(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<1>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                if (operand_steps[0] == 0) {
                    kernels.activate(function, 1, operands[0], out);
                    std::fill_n(out, count, *out);
                } else {
                    kernels.activate(function, count, operands[0], out);
                }
            });
        });
    });
}

void Plan::unary(Unary operation, const View& x, const View& y) {
    check(x), check(y);
    steps.push_back([this, operation, loops = Loops<2>({&x, &y})](float* const* spaces) {
        loops.run(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<1>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                if (operand_steps[0] == 0) {
                    kernels.unary(operation, 1, operands[0], out);
                    std::fill_n(out, count, *out);
                } else {
                    kernels.unary(operation, count, operands[0], out);
                }
            });
        });
    });
}

void Plan::binary(Binary operation, const View& a, const View& b, const View& y) {
    check(a), check(b), check(y);
    steps.push_back([this, operation, loops = Loops<3>({&a, &b, &y})](float* const* spaces) {
        loops.run(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<2>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                kernels.binary(operation, count, operands[0], operand_steps[0], operands[1], operand_steps[1], out);
            });
        });
    });
}

void Plan::multiply_add(const View& a, const View& b, const View& y) {
    check(a), check(b), check(y);
    steps.push_back([this, loops = Loops<3>({&a, &b, &y})](float* const* spaces) {
        loops.run(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<2>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                kernels.multiply_add(count, operands[0], operand_steps[0], operands[1], operand_steps[1], out);
            });
        });
    });
}

// A strided row is first copied to a buffer, so that the kernels add in the same order for every layout.
void Plan::reduce(Reduction operation, const View& x, const View& y) {
    check(x), check(y);
    View first = x;
    const Size n = x.shape.back(), stride = x.strides.back();
    first.shape.back() = 1;
    steps.push_back([this, operation, n, stride, loops = Loops<2>({&first, &y})](float* const* spaces) {
        std::vector<float> run;
        loops.run(spaces, [&](const auto& p, Size count, const auto& step) {
            for (Size i = 0; i < count; i++) {
                const float* from = p[0] + i * step[0];
                if (stride != 1) {
                    run.resize(n);
                    for (Size k = 0; k < n; k++) run[k] = from[k * stride];
                    from = run.data();
                }
                p[1][i * step[1]] =
                    operation == Reduction::sum ? float(kernels.sum(n, from)) : kernels.maximum(n, from);
            }
        });
    });
}

void Plan::softmax(bool logarithm, const View& x, const View& y) {
    each_row(x, y, [this, logarithm](Size n, const float* from, float* to) {
        kernels.softmax(n, from, logarithm, to);
    });
}

void Plan::standardize(float epsilon, const View& x, const View& y) {
    each_row(x, y, [this, epsilon](Size n, const float* from, float* to) {
        kernels.standardize(n, from, epsilon, to);
    });
}

template <class Function>
void Plan::each_row(const View& x, const View& y, Function function) {
    check(x), check(y);
    const Size n = x.shape.back();
    const Size rows = std::accumulate(x.shape.begin(), x.shape.end() - 1, Size(1), std::multiplies());
    steps.push_back([x, y, n, rows, function](float* const* spaces) {
        for (Size row = 0; row < rows; row++) function(n, at(x, spaces) + row * n, at(y, spaces) + row * n);
    });
}

void Plan::product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                   const View& y) {
    check(x), check(y);
    const Rows rows(x, row_axes);
    const Panels<float>& panels = W.panels();
    const Size y_stride = y.strides[0], count = Size(rows.offsets.size()), K = panels.K;
    if (rows.pieces.size() * rows.length != size_t(K) || count != y.shape[0] ||
        (count && y.offset + (count - 1) * y_stride + panels.blocks * kernels.L > space_sizes[y.space]))
        throw std::out_of_range("the rows of a product do not match its weights or its output");
    const bool worth_threads = count * K * W.O >= 1'000'000;
    steps.push_back([this, &panels, x, f, y, rows, count, y_stride, worth_threads](float* const* spaces) {
        const float* const from = at(x, spaces);
        float* const to = at(y, spaces);
        int parts = 1;
        const int useful = worth_threads ? int(std::min<Size>(num_threads(), ceil_div(count, rows_worth_a_thread))) : 1;
        parallel(useful, [&](int n) { parts = n; }, [&](int part) {
            const FlushDenormals flush;
            multiply(panels, from, rows, count * part / parts, count * (part + 1) / parts, f, to, y_stride);
        });
    });
}

void Plan::matmul(const View& a, const View& b, const View& y) {
    check(a), check(b), check(y);
    // For each k, one loop over the other axes computes y[m, :] += a[m, k] b[k, :].
    const size_t axes = y.shape.size();
    const Size K = a.shape.back();
    View a_k = a, b_k = b;
    const Size a_stride = a.strides.back(), b_stride = b.strides[b.shape.size() - 2];
    a_k.shape.back() = 1, b_k.shape[b.shape.size() - 2] = 1;
    if (axes < 2) throw std::out_of_range("matmul needs at least two axes");
    steps.push_back([this, K, a_stride, b_stride, zero = Loops<1>({&y}), loops = Loops<3>({&a_k, &b_k, &y})](
                        float* const* spaces) {
        zero.run(spaces, [](const auto& p, Size n, const auto& step) {
            for (Size i = 0; i < n; i++) p[0][i * step[0]] = 0;
        });
        loops.run(spaces, [&](const auto& p, Size n, const auto& step) {
            for (Size k = 0; k < K; k++) {
                const std::array<float*, 3> own{p[0] + k * a_stride, p[1] + k * b_stride, p[2]};
                with_contiguous<2>(own, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                    kernels.multiply_add(count, operands[0], operand_steps[0], operands[1], operand_steps[1], out);
                });
            }
        });
    });
}

void Plan::recurrent(const Stack<float>& stack, const View& x, const View* h0, const View* c0, const View& y,
                     const View& h_n, const View* c_n) {
    for (const View* view : {&x, h0, c0, &y, &h_n, c_n})
        if (view) check(*view);
    struct Views {
        View x, h0, c0, y, h_n, c_n;
        bool has_h0, has_c0, has_c_n;
    };
    auto v = std::make_shared<Views>(Views{x, h0 ? *h0 : View{}, c0 ? *c0 : View{}, y, h_n, c_n ? *c_n : View{},
                                           h0 != nullptr, c0 != nullptr, c_n != nullptr});
    steps.push_back([&stack, v](float* const* spaces) {
        stack.forward({v->x.shape[0], v->x.shape[1], {at(v->x, spaces), v->x.strides[0], v->x.strides[1]},
                       {at(v->y, spaces), v->y.strides[0], v->y.strides[1]},
                       v->has_h0 ? at(v->h0, spaces) : nullptr, v->has_c0 ? at(v->c0, spaces) : nullptr, nullptr,
                       at(v->h_n, spaces), v->has_c_n ? at(v->c_n, spaces) : nullptr});
    });
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

void Plan::run(float* const* spaces, Size first, Size last) const {
    const FlushDenormals flush;
    Interrupt interrupt;
    for (Size step = first; step < last; step++) {
        if (step % 8 == 7 && interrupt.requested()) break;  // reading the clock takes as long as a small step
        steps[step](spaces);
    }
    interrupt.throw_if_happened();
}

}  // namespace onward
