// Elementwise arithmetic and reductions over arrays, by the operation's name.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Binary;
using onward::Reduction;
using onward::Unary;

template <class Real>
vec_of<Real> larger(vec_of<Real> a, vec_of<Real> b) {
    return (a > b) | (a != a) ? a : b;  // NaN propagates from either side
}

template <class Real>
vec_of<Real> smaller(vec_of<Real> a, vec_of<Real> b) {
    return (a < b) | (a != a) ? a : b;
}

// Calls y[i] = f(x[i]) for vectors; f sees zeros past the end.
template <class Real, class Function>
void map(Size n, const Real* x, Real* y, Function f) {
    constexpr int L = Float<Real>::L;
    for (Size i = 0; i < n; i += L) store_some(y + i, f(load_some(x + i, n - i)), n - i);
}

// The same of two operands; one with a step of 0 is the same number throughout.
template <class Real, class Function>
void map(Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y, Function f) {
    constexpr int L = Float<Real>::L;
    const vec_of<Real> first_a = n ? broadcast(*a) : vec_of<Real>{}, first_b = n ? broadcast(*b) : vec_of<Real>{};
    for (Size i = 0; i < n; i += L)
        store_some(y + i, f(a_step ? load_some(a + i, n - i) : first_a, b_step ? load_some(b + i, n - i) : first_b),
                   n - i);
}

template <class Real>
void unary(Unary operation, Size n, const Real* x, Real* y) {
    using Vec = vec_of<Real>;
    switch (operation) {
        case Unary::absolute: return map(n, x, y, [](Vec v) { return -minus_abs<Real>(v); });
        case Unary::negative: return map(n, x, y, [](Vec v) { return -v; });
        case Unary::reciprocal: return map(n, x, y, [](Vec v) { return Real(1) / v; });
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

// y += a b
template <class Real>
void multiply_add(Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y) {
    constexpr int L = Float<Real>::L;
    const vec_of<Real> first_a = n ? broadcast(*a) : vec_of<Real>{}, first_b = n ? broadcast(*b) : vec_of<Real>{};
    for (Size i = 0; i < n; i += L)
        store_some(y + i, fma(a_step ? load_some(a + i, n - i) : first_a, b_step ? load_some(b + i, n - i) : first_b,
                              load_some(y + i, n - i)), n - i);
}

// Sixteen partial results, whatever the vector's width, then pairs of them: the same bits on every machine.
template <class Real>
Real reduce(Reduction operation, Size n, const Real* x) {
    constexpr int L = Float<Real>::L, lanes = 16, vectors = lanes / L > 0 ? lanes / L : 1;
    const bool sum = operation == Reduction::sum;
    alignas(vector_bytes) Real part[lanes];
    const Size whole = n / lanes * lanes;
    for (int l = 0; l < lanes; l++) part[l] = sum || !n ? Real(0) : x[0];
    if (sum || n)
        for (int v = 0; v < vectors; v++) {
            vec_of<Real> total = load((const Real*)part + v * L);
            for (Size i = 0; i < whole; i += lanes) {
                const vec_of<Real> next = load_some(x + i + v * L, L);
                total = sum ? total + next : larger<Real>(total, next);
            }
            store(part + v * L, total);
        }
    auto join = [&](Real a, Real b) { return sum ? a + b : (a > b) | (a != a) ? a : b; };
    for (Size i = whole; i < n; i++) part[i - whole] = join(part[i - whole], x[i]);
    for (int half = lanes / 2; half; half /= 2)
        for (int l = 0; l < half; l++) part[l] = join(part[l], part[l + half]);
    return part[0];
}

}  // namespace
