// Sums, logarithms and the cross entropy of a row, with the same bits on every instruction set.
#pragma once

#include "kernels/kernels.h"
#include <type_traits>

#include "kernels/vec.h"

namespace {

// log(m 2^n) = n ln2 + 2 atanh(s) with s = (m - 1) / (m + 1) and m from 1/sqrt(2) to sqrt(2). The result
// is NaN for negative numbers and -infinity for 0 and subnormal numbers.
template <class Real>
vec_of<Real> log(vec_of<Real> x) {
    using F = Float<Real>;
    using I = typename F::ivec;
    using U = typename F::uvec;  // differences of bits wrap: those of negative numbers and NaN mean nothing
    constexpr bool single = sizeof(Real) == 4;
    constexpr Real sqrt_half = Real(0x1.6a09e667f3bcdp-1), smallest = single ? Real(0x1p-126) : Real(0x1p-1022);
    const I exponent = (I)((U)x - (U)broadcast(sqrt_half)) >> F::mantissa_bits;
    const vec_of<Real> m = (vec_of<Real>)((U)x - ((U)exponent << F::mantissa_bits));
    const vec_of<Real> n = __builtin_convertvector(exponent, vec_of<Real>), f = m - Real(1);
    const vec_of<Real> s = f / (m + Real(1)), w = s * s;
    // 2 s = f - f s, which is more accurate than rounding s first
    const vec_of<Real> tail = fma(Real(2) * s * w, polynomial(F::atanh_q, w), n * F::ln2_lo - f * s);
    const vec_of<Real> y = fma(n, broadcast(F::ln2_hi), f + tail);
    const vec_of<Real> special = x < Real(0) ? broadcast(Real(__builtin_nan(""))) : broadcast(Real(-__builtin_inf()));
    return x >= smallest && x <= F::max ? y : x < smallest ? special : x;
}

// The sum of value(i) over i < n, added in an order that does not depend on the vector length.
template <class Value>
double ordered_sum(Size n, Value value) {
    constexpr int width = 16;
    double sums[width] = {};
    Size i = 0;
    for (; i + width <= n; i += width)
        for (int k = 0; k < width; k++) sums[k] += value(i + k);
    for (int k = 0; i + k < n; k++) sums[k] += value(i + k);
    for (int half = width / 2; half; half /= 2)
        for (int k = 0; k < half; k++) sums[k] += sums[k + half];
    return sums[0];
}

template <class Real>
double sum(Size n, const Real* x) {
    return ordered_sum(n, [=](Size i) { return double(x[i]); });
}

// Sums of short rows, or of rows whose numbers are not adjacent: 16 rows at a time, each in the order of `ordered_sum`.
template <class Real>
void row_sums(Size rows, Size n, const Real* x, Size row_stride, Size stride, Real* y, Size y_stride) {
    constexpr Size width = 16, together = 16;
    const Size used = n < width ? n : width;
    auto add_up = [&](auto count, auto distance, Size first) {
        double sums[width][together];
        const Real* const from = x + first * row_stride;
        for (Size k = 0; k < used; k++)
            for (Size r = 0; r < count; r++) sums[k][r] = 0.0 + double(from[r * distance + k * stride]);
        for (Size k = width; k < n; k++)
            for (Size r = 0; r < count; r++) sums[k % width][r] += double(from[r * distance + k * stride]);
        for (Size half = width / 2; half; half /= 2)  // the sums from `used` on are 0
            for (Size k = 0; k < half && k + half < used; k++)
                for (Size r = 0; r < count; r++) sums[k][r] += sums[k + half][r];
        for (Size r = 0; r < count; r++) y[(first + r) * y_stride] = Real(sums[0][r]);
    };
    Size first = 0;
    const std::integral_constant<Size, together> all;
    for (; first + together <= rows; first += together)
        if (row_stride == 1)
            add_up(all, std::integral_constant<Size, 1>(), first);
        else if (row_stride == 2)
            add_up(all, std::integral_constant<Size, 2>(), first);
        else
            add_up(all, row_stride, first);
    if (first < rows) add_up(rows - first, row_stride, first);
}

// The sum of (scale x)^2.
template <class Real>
double sum_of_squares(Size n, const Real* x, double scale) {
    return ordered_sum(n, [=](Size i) {
        const double scaled = scale * double(x[i]);
        return scaled * scaled;
    });
}

template <class Real>
Real largest(Size n, const Real* x) {
    constexpr int L = Float<Real>::L;
    Real largest = x[0];
    Size i = 0;
    if (n >= L) {
        vec_of<Real> lanes = load_some(x, L);
        for (i = L; i + L <= n; i += L) {
            const vec_of<Real> v = load_some(x + i, L);
            lanes = v > lanes ? v : lanes;
        }
        for (int k = 0; k < L; k++) largest = lanes[k] > largest ? lanes[k] : largest;
    }
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

// With q = (1 - smoothing) [k = target] + smoothing / C and p = softmax(y): returns -sum_k q_k log p_k, and fills dy
// with (p - q) / count.
template <class Real>
double cross_entropy(Size C, const Real* y, Size target, double smoothing, double count, Real* dy) {
    constexpr int L = Float<Real>::L;
    const Real peak = largest(C, y);
    for (Size k = 0; k < C; k += L) store_some(dy + k, exp<Real>(load_some(y + k, C - k) - peak), C - k);
    const double total = sum(C, dy);
    const Real uniform = Real(smoothing / double(C)), right = dy[target];
    auto gradient = [&](auto power, double q) { return (power / Real(total) - uniform - Real(q)) / Real(count); };
    for (Size k = 0; k < C; k += L) store_some(dy + k, gradient(load_some((const Real*)dy + k, C - k), 0), C - k);
    dy[target] = gradient(right, 1 - smoothing);
    double loss = log<double>(broadcast(total))[0] - (1 - smoothing) * (double(y[target]) - double(peak));
    if (smoothing) loss -= smoothing * (sum(C, y) / double(C) - double(peak));
    return loss;
}

}  // namespace
