// Elementwise arithmetic on arrays, selected by operation.
#pragma once

#include "kernels/functions.h"
#include "kernels/kernels.h"
#include "kernels/losses.h"
#include "kernels/vec.h"

namespace {

using onward::Binary;
using onward::Unary;

// The first of two equal numbers, such as -0 and 0, as the activations that clip return it. NaN propagates from either
// side.
template <class Real>
vec_of<Real> larger(vec_of<Real> a, vec_of<Real> b) {
    return (flush<Real>(a) >= flush<Real>(b)) | (a != a) ? a : b;
}

template <class Real>
vec_of<Real> smaller(vec_of<Real> a, vec_of<Real> b) {
    return (flush<Real>(a) <= flush<Real>(b)) | (a != a) ? a : b;
}

// y[i] = f(x[i]), vector by vector; the last vector is padded with zeros.
template <class Real, class Function>
void map(Size n, const Real* x, Real* y, Function f) {
    constexpr int L = Float<Real>::L;
    for (Size i = 0; i < n; i += L) store_some(y + i, f(load_some(x + i, n - i)), n - i);
}

// y[i] = f(a[i], b[i]); an operand with step 0 is a single number.
template <class Real, class Function>
void map(Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y, Function f) {
    constexpr int L = Float<Real>::L;
    const vec_of<Real> first_a = n ? broadcast(*a) : vec_of<Real>{}, first_b = n ? broadcast(*b) : vec_of<Real>{};
    for (Size i = 0; i < n; i += L)
        store_some(y + i, f(a_step ? load_some(a + i, n - i) : first_a, b_step ? load_some(b + i, n - i) : first_b),
                   n - i);
}

// y[i] = sin(x[i] + quarters pi / 2).
template <class Real>
void sines(Size n, const Real* x, Real* y, int quarters) {
    constexpr int L = Float<Real>::L;
    typename Float<Real>::ivec large{};
    for (Size i = 0; i < n; i += L) {
        const vec_of<Real> v = load_some(x + i, n - i);
        large |= (v > Real(large_angle)) | (v < Real(-large_angle));
    }
    bool has_large = false;
    for (int lane = 0; lane < L; lane++) has_large |= large[lane] != 0;
    if (has_large) map(n, x, y, [=](vec_of<Real> v) { return sine<true>(v, quarters); });
    else map(n, x, y, [=](vec_of<Real> v) { return sine<false>(v, quarters); });
}

template <class Real>
void unary(Unary operation, Size n, const Real* x, Real* y) {
    using Vec = vec_of<Real>;
    switch (operation) {
        case Unary::absolute: return map(n, x, y, [](Vec v) { return -minus_abs<Real>(v); });
        case Unary::ceil: return map(n, x, y, ceil<Real>);
        case Unary::cosine: return sines(n, x, y, 1);
        case Unary::error_function: return map(n, x, y, error_function<Real>);
        case Unary::floor: return map(n, x, y, floor<Real>);
        case Unary::negative: return map(n, x, y, [](Vec v) { return -v; });
        case Unary::log: return map(n, x, y, [](Vec v) { return log<Real>(v); });
        case Unary::reciprocal: return map(n, x, y, [](Vec v) { return Real(1) / v; });
        case Unary::round: return map(n, x, y, rounded<Real>);
        case Unary::sign: return map(n, x, y, sign<Real>);
        case Unary::sine: return sines(n, x, y, 0);
        case Unary::sqrt: return map(n, x, y, [](Vec v) { return square_root(v); });
    }
}

template <class Real>
void binary(Binary operation, Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y) {
    using Vec = vec_of<Real>;
    switch (operation) {
        case Binary::add: return map(n, a, a_step, b, b_step, y, [](Vec u, Vec v) { return u + v; });
        case Binary::subtract: return map(n, a, a_step, b, b_step, y, [](Vec u, Vec v) { return u - v; });
        case Binary::multiply: return map(n, a, a_step, b, b_step, y, [](Vec u, Vec v) { return u * v; });
        case Binary::divide: return map(n, a, a_step, b, b_step, y, [](Vec u, Vec v) { return u / v; });
        case Binary::maximum: return map(n, a, a_step, b, b_step, y, larger<Real>);
        case Binary::minimum: return map(n, a, a_step, b, b_step, y, smaller<Real>);
    }
}

// Returns the maximum of n >= 1 numbers plus 0, which turns -0 into 0: which of them is found depends on the vector
// length. NaN if any of the numbers is NaN.
template <class Real>
Real maximum(Size n, const Real* x) {
    constexpr int L = Float<Real>::L;
    vec_of<Real> most = broadcast(x[0]);
    for (Size i = 0; i < n; i += L) most = larger<Real>(most, n - i < L ? broadcast(x[0]) : load_some(x + i, L));
    Real result = most[0];
    auto join = [&](Real other) { result = result > other || result != result ? result : other; };
    for (int l = 1; l < L; l++) join(most[l]);
    for (Size i = n / L * L; i < n; i++) join(x[i]);
    return flush<Real>(broadcast(result) + Real(0))[0];
}

}  // namespace
