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

// The bits of 2 / pi after the point, behind a word of zeros.
constexpr uint64_t two_over_pi[] = {
    0x0000000000000000, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
    0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484, 0xe99c7026b45f7e41,
    0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab};

// x = n pi/2 + r with |r| <= pi/4, for 2^50 < x < infinity: returns r and adds n modulo 4 to `quarters`.
// With x = m 2^e, bits of 2/pi that add multiples of 4 to x 2/pi are skipped, and the next 192 give r to its last bit.
// Source: Payne and Hanek 1983.
[[gnu::noinline]] double reduce_large(double x, int64_t& quarters) {
    typedef unsigned __int128 Wide;
    uint64_t bits, words[3];
    __builtin_memcpy(&bits, &x, sizeof x);
    const uint64_t m = (bits & 0xfffffffffffff) | 0x10000000000000;
    const int first = int(bits >> 52) - 1023 - 52 - 1 + 63, shift = first % 64;  // e - 1, behind the zeros
    for (int i = 0; i < 3; i++) {
        const uint64_t* word = two_over_pi + first / 64 + i;
        words[i] = shift ? word[0] << shift | word[1] >> (64 - shift) : word[0];
    }
    const Wide low = Wide(m) * words[2], middle = Wide(m) * words[1] + uint64_t(low >> 64);
    const uint64_t high = m * words[0] + uint64_t(middle >> 64);
    Wide fraction = Wide(high << 2 | uint64_t(middle) >> 62) << 64 | (uint64_t(middle) << 2 | uint64_t(low) >> 62);
    const bool above_half = fraction >> 127;
    quarters += int64_t(high >> 62) + above_half;
    if (above_half) fraction = -fraction;
    int exponent = 0;
    for (; fraction && !(fraction >> 127); fraction <<= 1) exponent++;
    const double r = double(uint64_t(fraction >> 64)) * 0x1p-64 * 0x1.921fb54442d18p0;
    const double scale = __builtin_ldexp(1.0, -exponent);
    return above_half ? -(r * scale) : r * scale;
}

constexpr double large_angle = 0x1p50;  // beyond it, angles are reduced one by one

// sin(x + quarters pi / 2). x = n pi/2 + r with |r| <= pi/4.
template <bool has_large>
f64v sine(f64v x, int quarters) {
    constexpr double limit = large_angle, half_pi_hi = 0x1.921fb54442d18p0, half_pi_lo = 0x1.1a62633145c07p-54;
    constexpr double sine_q[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800};
    constexpr double cosine_q[] = {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600,
                                   -1.0 / 87178291200};
    i64v turned = i64v{} + quarters;
    for (int lane = 0; has_large && lane < Float<double>::L; lane++)
        if (__builtin_fabs(x[lane]) > limit && x[lane] - x[lane] == 0) {  // finite
            int64_t quadrants = 0;
            const double r = reduce_large(__builtin_fabs(x[lane]), quadrants);
            turned[lane] += x[lane] < 0 ? -quadrants : quadrants;
            x[lane] = x[lane] < 0 ? -r : r;
        }
    const f64v clipped = at_most(at_least(x, -limit), limit);
    const f64v shifted = fma(clipped, broadcast(0x1.45f306dc9c883p-1), broadcast(Float<double>::magic));
    const f64v n = shifted - Float<double>::magic;
    const f64v r = fma(n, broadcast(-half_pi_lo), fma(n, broadcast(-half_pi_hi), clipped)), w = r * r;
    const i64v quadrant = (i64v)shifted + turned;
    const f64v one = broadcast(1.0), cosine = fma(w, polynomial(cosine_q, w), one);
    const f64v y = (quadrant & 1) != 0 ? cosine : r * fma(w, polynomial(sine_q, w), one);
    return ((quadrant & 2) != 0 ? -y : y) + x * 0.0;  // NaN for infinity
}

// For float32 numbers: computed in float64 and rounded.
template <bool has_large>
f32v sine(f32v x, int quarters) {
    typedef float half __attribute__((vector_size(vector_bytes / 2), may_alias));
    half parts[2];
    __builtin_memcpy(parts, &x, sizeof x);
    for (half& part : parts)
        part = __builtin_convertvector(sine<has_large>(__builtin_convertvector(part, f64v), quarters), half);
    __builtin_memcpy(&x, parts, sizeof x);
    return x;
}

}  // namespace
