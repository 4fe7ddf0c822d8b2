// Steps along one axis: reductions, softmax, standardization, running sums and products, and the largest elements.
#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "platform/temporary.h"
#include "run/plan.h"
#include "run/steps/elements.h"

namespace onward {

namespace {

constexpr Size short_row = 64;

// Puts the first k numbers in order at the beginning of 0 .. n-1. One function for all dtypes keeps the program small.
void sort_first(std::span<int64_t> numbers, Size k, const std::function<bool(int64_t, int64_t)>& precedes) {
    std::iota(numbers.begin(), numbers.end(), int64_t(0));
    std::partial_sort(numbers.begin(), numbers.begin() + k, numbers.end(),
                      [&](int64_t i, int64_t j) { return precedes(i, j); });
}

}  // namespace

// Rows are added in the same order for every layout, several at a time if they are short or strided. For a maximum, a
// strided row is first copied to a buffer.
void Plan::reduce(Reduction operation, const View& x, const View& y) {
    check_floats({&x, &y});
    if (x.shape.empty() || x.shape.back() == 0) throw std::invalid_argument("a reduction needs elements");
    View first = x;
    const Size n = x.shape.back(), stride = x.strides.back();
    first.shape.back() = 1;
    add([this, operation, n, stride, loops = Loops<2>(kept, {&first, &y})](std::byte* const* spaces) {
        const Temporary<float> run(stride == 1 ? 0 : n);
        loops.run<float>(spaces, [&](const auto& p, Size count, const auto& step) {
            if (operation == Reduction::sum && (stride != 1 || n < short_row))
                return kernels.row_sums(count, n, p[0], step[0], stride, p[1], step[1]);
            for (Size i = 0; i < count; i++) {
                const float* from = p[0] + i * step[0];
                if (stride != 1) {
                    for (Size k = 0; k < n; k++) run.data()[k] = from[k * stride];
                    from = run.data();
                }
                p[1][i * step[1]] =
                    operation == Reduction::sum ? float(kernels.sum(n, from)) : kernels.maximum(n, from);
            }
        });
    });
}

template <class Function>
void Plan::each_row(const View& x, const View& y, Function function) {
    check_floats({&x, &y});
    if (x.shape.empty() || is_empty(x) || x.shape != y.shape || !is_contiguous(x) || !is_contiguous(y))
        throw std::invalid_argument("a step on rows needs contiguous views of one shape");
    const Size n = x.shape.back(), rows = elements(x.shape) / n;
    add([x = Place(x), y = Place(y), n, rows, function](std::byte* const* spaces) {
        const float* const from = at<float>(x, spaces);
        float* const to = at<float>(y, spaces);
        for (Size row = 0; row < rows; row++) function(n, from + row * n, to + row * n);
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

void Plan::accumulate(Binary operation, const View& x, const View& y) {
    check(x), check(y, x.dtype);
    const Size n = x.shape.at(0), x_stride = x.strides[0], y_stride = y.strides.at(0);
    const bool adds = operation == Binary::add;
    if (n == 0 || y.shape != x.shape || !(adds || operation == Binary::multiply))
        throw std::invalid_argument("a running sum or product needs arrays of one shape");
    View x_0 = x, y_0 = y;
    x_0.shape[0] = y_0.shape[0] = 1;
    if (x.dtype != DType::float32 || x_stride == 1)  // vectors hold elements beside each other
        return with_type(x.dtype, [&]<class T>(T) {
            add([=, loops = Loops<2>(kept, {&x_0, &y_0})](std::byte* const* spaces) {
                loops.run<T>(spaces, [=](const auto& p, Size count, const auto& step) {
                    for (Size i = 0; i < count; i++) {
                        const T* const from = p[0] + i * step[0];
                        T* const to = p[1] + i * step[1];
                        T total = *to = *from;
                        for (Size t = 1; t < n; t++) {
                            const T next = from[t * x_stride];
                            to[t * y_stride] = total = adds ? sum(total, next) : multiplied(total, next);
                        }
                    }
                });
            });
        });
    add([this, operation, n, x_stride, y_stride, first = Loops<2>(kept, {&x_0, &y_0}),
         loops = Loops<3>(kept, {&y_0, &x_0, &y_0})](std::byte* const* spaces) {
        first.run<float>(spaces, [](const auto& p, Size count, const auto& step) {
            for (Size i = 0; i < count; i++) p[1][i * step[1]] = p[0][i * step[0]];
        });
        for (Size t = 1; t < n; t++)
            loops.run<float>(spaces, [&](const auto& p, Size count, const auto& step) {
                const std::array<float*, 3> own{p[0] + (t - 1) * y_stride, p[1] + t * x_stride, p[2] + t * y_stride};
                with_contiguous<2>(own, count, step, [=, this](Size m, auto operands, auto operand_steps, float* out) {
                    kernels.binary(operation, m, operands[0], operand_steps[0], operands[1], operand_steps[1], out);
                });
            });
    });
}

void Plan::top(bool largest, bool nan_first, const View& x, const View& values, const View& indices) {
    check(x), check(values, x.dtype), check(indices, DType::int64);
    if (x.shape.empty() || values.shape.empty() || is_empty(x) || is_empty(values) || !is_contiguous(x) ||
        !is_contiguous(values) || !is_contiguous(indices) || values.shape != indices.shape)
        throw std::invalid_argument("the largest elements need contiguous views");
    const Size n = x.shape.back(), k = values.shape.back(), rows = elements(x.shape) / n;
    if (k > n || rows != elements(values.shape) / k) throw std::invalid_argument("a row has too few elements");
    with_type(x.dtype, [&]<class T>(T) {
        add([=, x = Place(x), values = Place(values), indices = Place(indices)](std::byte* const* spaces) {
            const Temporary<int64_t> memory(n);
            const std::span order(memory.data(), size_t(n));
            for (Size row = 0; row < rows; row++) {
                const T* const from = at<T>(x, spaces) + row * n;
                auto precedes = [=](int64_t i, int64_t j) {
                    const T a = from[i], b = from[j];
                    if (a != a && b != b) return i < j;
                    if (a != a || b != b) return (a != a) == nan_first;
                    return a == b ? i < j : (a > b) == largest;
                };
                if (k == 1) {
                    order[0] = 0;
                    for (Size i = 1; i < n; i++)
                        if (precedes(i, order[0])) order[0] = i;
                } else {
                    sort_first(order, k, precedes);
                }
                for (Size i = 0; i < k; i++) {
                    at<T>(values, spaces)[row * k + i] = from[order[i]];
                    at<int64_t>(indices, spaces)[row * k + i] = order[i];
                }
            }
        });
    });
}

}  // namespace onward
