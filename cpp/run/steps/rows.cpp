// Steps over rows, the last axis: reductions, softmax and standardization.
#include "run/plan.h"

#include <functional>
#include <numeric>

namespace onward {

// A strided row is first copied to a buffer, so that the kernels add in the same order for every layout.
void Plan::reduce(Reduction operation, const View& x, const View& y) {
    check_floats({&x, &y});
    View first = x;
    const Size n = x.shape.back(), stride = x.strides.back();
    first.shape.back() = 1;
    steps.push_back([this, operation, n, stride, loops = Loops<2>({&first, &y})](std::byte* const* spaces) {
        std::vector<float> run;
        loops.run<float>(spaces, [&](const auto& p, Size count, const auto& step) {
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

template <class Function>
void Plan::each_row(const View& x, const View& y, Function function) {
    check_floats({&x, &y});
    const Size n = x.shape.back();
    const Size rows = std::accumulate(x.shape.begin(), x.shape.end() - 1, Size(1), std::multiplies());
    steps.push_back([x, y, n, rows, function](std::byte* const* spaces) {
        for (Size row = 0; row < rows; row++) function(n, at<float>(x, spaces) + row * n, at<float>(y, spaces) + row * n);
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

}  // namespace onward
