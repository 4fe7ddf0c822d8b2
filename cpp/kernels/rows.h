// Softmax and standardization of one row, with the same bits on every instruction set.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/kernels.h"
#include "kernels/losses.h"
#include "kernels/vec.h"

namespace {

// y = exp(x - max x) / sum(exp(x - max x)), or its logarithm, which cannot overflow.
template <class Real>
void softmax(Size n, const Real* x, bool logarithm, Real* y) {
    if (!n) return;
    const vec_of<Real> peak = broadcast(maximum(n, x));
    map(n, x, y, [&](vec_of<Real> v) { return exp<Real>(v - peak); });
    const double total = ordered_sum(n, [=](Size i) { return double(y[i]); });
    if (logarithm) {
        const vec_of<Real> log_total = broadcast(Real(log<double>(broadcast(total))[0]));
        map(n, x, y, [&](vec_of<Real> v) { return v - peak - log_total; });
    } else {
        const vec_of<Real> divisor = broadcast(Real(total));
        map(n, (const Real*)y, y, [&](vec_of<Real> v) { return v / divisor; });
    }
}

// y = (x - mean) / sqrt(variance + epsilon), computed in float64, in which squares of float32 values cannot overflow;
// float64 values whose squares would overflow are scaled first.
template <class Real>
void standardize(Size n, const Real* x, Real epsilon, Real* y) {
    double scale = 1;
    if (sizeof(Real) == 8)
        for (Size i = 0; i < n; i++)
            if (x[i] > 0x1p400 || x[i] < -0x1p400) scale = 0x1p-600;
    const double count = double(n), mean = ordered_sum(n, [=](Size i) { return scale * double(x[i]); }) / count;
    const double variance = ordered_sum(n, [=](Size i) {
        const double centered = scale * double(x[i]) - mean;
        return centered * centered;
    }) / count;
    const double deviation = square_root(broadcast(variance + double(epsilon) * scale * scale))[0];
    for (Size i = 0; i < n; i++) y[i] = Real((scale * double(x[i]) - mean) / deviation);
}

}  // namespace
