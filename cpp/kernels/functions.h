// Rounding, the error function, sine and cosine on vectors, built from IEEE operations like those in vec.h.
#pragma once

#include "kernels/vec.h"

namespace {

// To the nearest integer, ties to even. Larger numbers are integers already.
template <class Real>
vec_of<Real> rounded(vec_of<Real> x) {
    using I = typename Float<Real>::ivec;
    const I sign = (I)x & (I)broadcast(Real(-0.0));
    const vec_of<Real> limit = broadcast(sizeof(Real) == 4 ? Real(0x1p23) : Real(0x1p52));
    const vec_of<Real> magnitude = -minus_abs<Real>(x);
    const vec_of<Real> whole = (magnitude + limit) - limit;
    return magnitude < limit ? (vec_of<Real>)((I)whole | sign) : x;
}

template <class Real>
vec_of<Real> floor(vec_of<Real> x) {
    const vec_of<Real> nearest = rounded<Real>(x);
    return nearest > x ? nearest - Real(1) : nearest;
}

template <class Real>
vec_of<Real> ceil(vec_of<Real> x) {
    return -floor<Real>(-x);
}

template <class Real>
vec_of<Real> sign(vec_of<Real> x) {
    return x > Real(0) ? broadcast(Real(1)) : x < Real(0) ? broadcast(Real(-1)) : x;
}

// The Taylor series of erf(sqrt(w)) / sqrt(w), precise for w <= 1.
template <class Real>
struct ErrorSeries {
    static constexpr int terms = sizeof(Real) == 4 ? 11 : 20;
    Real coefficients[terms];
    constexpr ErrorSeries() : coefficients() {
        double term = 1.1283791670955126;  // 2 / sqrt(pi)
        for (int n = 0; n < terms; term /= -++n) coefficients[n] = Real(term / (2 * n + 1));
    }
};

// erf(x) = 1 - 2 Phi(-sqrt(2) x) for x >= 1, where Phi is as in gelu.
template <class Real>
vec_of<Real> error_function(vec_of<Real> x) {
    using F = Float<Real>;
    using I = typename F::ivec;
    static constexpr ErrorSeries<Real> series;
    const vec_of<Real> near = x * polynomial(series.coefficients, at_most(x * x, Real(1)));
    const vec_of<Real> u = at_most(-minus_abs<Real>(x), Real(28)), square = u * u, rest = fma(u, u, -square);
    const vec_of<Real> root_2 = broadcast(Real(1.4142135623730951)), four = broadcast(Real(4));
    const vec_of<Real> e = exp<Real>(-square), r = Real(1) / fma(u, root_2, four);
    const vec_of<Real> q = polynomial(F::normal_q, fma(r, broadcast(Real(-8)), broadcast(Real(1))));
    const vec_of<Real> far = Real(1) - fma(-e, rest, e) * q * r * Real(2);
    const I sign = (I)x & (I)broadcast(Real(-0.0));
    return u < Real(1) ? near : u == u ? (vec_of<Real>)((I)far | sign) : x;
}

// sin(x + quarters pi / 2). x = n pi/2 + r with |r| <= pi/4, exact enough for |x| < 2^50; larger numbers are clipped.
inline f64v sine(f64v x, int quarters) {
    constexpr double limit = 0x1p50, half_pi_hi = 0x1.921fb54442d18p0, half_pi_lo = 0x1.1a62633145c07p-54;
    constexpr double sine_q[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800};
    constexpr double cosine_q[] = {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600,
                                   -1.0 / 87178291200};
    const f64v clipped = at_most(at_least(x, -limit), limit);
    const f64v shifted = fma(clipped, broadcast(0x1.45f306dc9c883p-1), broadcast(Float<double>::magic));
    const f64v n = shifted - Float<double>::magic;
    const f64v r = fma(n, broadcast(-half_pi_lo), fma(n, broadcast(-half_pi_hi), clipped)), w = r * r;
    const i64v quadrant = (i64v)shifted + quarters;
    const f64v one = broadcast(1.0), cosine = fma(w, polynomial(cosine_q, w), one);
    const f64v y = (quadrant & 1) != 0 ? cosine : r * fma(w, polynomial(sine_q, w), one);
    return ((quadrant & 2) != 0 ? -y : y) + x * 0.0;  // NaN for infinity
}

// Of float32 numbers, computed in float64 and rounded.
inline f32v sine(f32v x, int quarters) {
    typedef float half __attribute__((vector_size(vector_bytes / 2), may_alias));
    half parts[2];
    __builtin_memcpy(parts, &x, sizeof x);
    for (half& part : parts)
        part = __builtin_convertvector(sine(__builtin_convertvector(part, f64v), quarters), half);
    __builtin_memcpy(&x, parts, sizeof x);
    return x;
}

}  // namespace
