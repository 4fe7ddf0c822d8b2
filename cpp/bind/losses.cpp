// Losses and sums, for training.
#include "run/losses.h"

#include "bind/arrays.h"
#include "bind/module.h"
#include "platform/dispatch.h"

namespace python {

namespace {

// Calls function(kernels, n, x) for the n numbers of a contiguous array, without the GIL.
template <class Function>
double reduce(const In& x, Function function) {
    auto call = [&]<class Real>(Real) {
        const Real* const data = data_of<const Real>(x, "x", {-1});
        const Size n = Size(x.shape(0));
        const WithoutGil release;
        return function(onward::kernels<Real>(), n, data);
    };
    return is_float32(x) ? call(float()) : call(double());
}

template <class Real>
double cross_entropy(const In& y, const In& targets, double smoothing, const Out& dy) {
    const Real* const logits = data_of<const Real>(y, "y", {-1, -1});
    const Size rows = Size(y.shape(0)), C = Size(y.shape(1));
    const int64_t* const classes = data_of<const int64_t>(targets, "targets", {rows});
    Real* const gradient = data_of<Real>(dy, "dy", {rows, C});
    for (Size row = 0; row < rows; row++)
        if (classes[row] >= C) throw nb::value_error("a target is not among the classes");
    const WithoutGil release;
    return onward::cross_entropy(logits, rows, C, classes, smoothing, gradient);
}

}  // namespace

void bind_losses(nb::module_& m) {
    m.def("cross_entropy", [](const In& y, const In& targets, double smoothing, const Out& dy) {
        return is_float32(y) ? cross_entropy<float>(y, targets, smoothing, dy)
                             : cross_entropy<double>(y, targets, smoothing, dy);
    }, "y"_a.noconvert(), "targets"_a.noconvert(), "smoothing"_a, "dy"_a.noconvert(),
       "Returns the mean cross entropy of the logits y (N, C) and fills its gradient dy (N, C). Rows with a negative "
       "target do not count.");
    m.def("sum", [](const In& x) {
        return reduce(x, [](const auto& kernels, Size n, const auto* data) { return kernels.sum(n, data); });
    }, "x"_a.noconvert(), "Returns the sum of x (N,), added in float64 and always in the same order.");
    m.def("sum_of_squares", [](const In& x, double scale) {
        return reduce(x, [=](const auto& kernels, Size n, const auto* data) {
            return kernels.training.sum_of_squares(n, data, scale);
        });
    }, "x"_a.noconvert(), "scale"_a,
       "Returns the sum of (scale x)^2 of x (N,), added in float64 and always in the same order.");
}

}  // namespace python
