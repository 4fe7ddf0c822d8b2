// The activation functions on vectors, and their selection by name.
#pragma once

#include <limits>

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Activation;
using onward::Function;

// relu and relu6 return denormals as they are, like `larger` and `smaller`, which compare them as zeros. They compare x
// with a neighbor of the bound, because some compilers turn `x < 0 ? 0 : x` into a maximum, which flushes denormals.
template <class Real>
vec_of<Real> relu(vec_of<Real> x) {
    return x <= -Float<Real>::tiny ? broadcast(Real(0)) : x;
}

template <class Real>
vec_of<Real> relu6(vec_of<Real> x) {
    constexpr Real next = 6 + 4 * std::numeric_limits<Real>::epsilon();  // the least number above 6
    return x >= next ? broadcast(Real(6)) : relu<Real>(x);
}

template <class Real>
vec_of<Real> clip(vec_of<Real> x, Real low, Real high) {
    return at_most(at_least(x, low), high);
}

// softplus(x) = max(x, 0) + log(1 + e) with e = exp(-|x|), and log(1 + e) = 2 atanh(s) with s = e / (2 + e) <= 1/3.
template <class Real>
vec_of<Real> softplus(vec_of<Real> x) {
    using F = Float<Real>;
    const vec_of<Real> e = exp<Real>(minus_abs<Real>(x)), s = flush<Real>(e / (e + Real(2))), w = s * s;
    return relu<Real>(x) + Real(2) * fma(s * w, polynomial(F::atanh_q, w), s);
}

// silu, gelu and mish multiply x by a factor in [0, 1]. Where that factor is 0, they return 0, even for x = -infinity.
template <class Real>
vec_of<Real> silu(vec_of<Real> x) {
    const auto s = sigmoid<Real>(x);
    return at_least(x, Float<Real>::exp_zero) * s.numerator / s.denominator;
}

// gelu(x) = x Phi(x), where Phi is the normal distribution function. For u >= 0, Phi(-u) = exp(-u^2 / 2) q(t) / (u + 4)
// with t = (u - 4) / (u + 4). `rest` corrects for the rounding of u^2, which exp would magnify.
template <class Real>
vec_of<Real> gelu(vec_of<Real> x) {
    using F = Float<Real>;
    const vec_of<Real> u = at_most(-minus_abs<Real>(x), Real(40)), square = u * u, rest = fma(u, u, -square);
    const vec_of<Real> e = exp<Real>(square * Real(-0.5)), r = Real(1) / (u + Real(4));
    const vec_of<Real> q = polynomial(F::normal_q, fma(r, broadcast(Real(-8)), broadcast(Real(1))));
    const vec_of<Real> tail = flush<Real>(fma(e * Real(-0.5), rest, e) * q * r);
    return at_least(x, F::exp_zero) * (x > Real(0) ? Real(1) - tail : tail);
}

// mish(x) = x tanh(softplus(x)) = x n / (n + 2) with n = e (e + 2) and e = exp(x). For x > 0, numerator and denominator
// are multiplied by exp(-2x), so that neither overflows.
template <class Real>
vec_of<Real> mish(vec_of<Real> x) {
    const vec_of<Real> e = exp<Real>(minus_abs<Real>(x)), square = e * e;
    const vec_of<Real> numerator = x > Real(0) ? e * Real(2) + Real(1) : fma(e, broadcast(Real(2)), square);
    const vec_of<Real> two = x > Real(0) ? square * Real(2) : broadcast(Real(2));
    return at_least(x, Float<Real>::exp_zero) * (numerator / (numerator + two));
}

// Clips x, because infinity would give inf / inf.
template <class Real>
vec_of<Real> softsign(vec_of<Real> x) {
    const vec_of<Real> finite = clip(x, -Float<Real>::max, Float<Real>::max);
    return finite / (Real(1) - minus_abs<Real>(finite));
}

template <class Real>
vec_of<Real> evaluate(Activation<Real> f, vec_of<Real> x) {
    const vec_of<Real> alpha = broadcast(f.alpha), beta = broadcast(f.beta);
    switch (f.function) {
        case Function::affine: return fma(alpha, x, beta);
        case Function::elu: return beta * (x < Real(0) ? alpha * expm1_negative<Real>(x) : x);
        case Function::exponential: return exp<Real>(x);
        case Function::gelu: return gelu<Real>(x);
        case Function::hard_sigmoid:
        case Function::hard_swish: {
            const vec_of<Real> y = clip(fma(alpha, x, beta), Real(0), Real(1));
            return f.function == Function::hard_swish ? x * y : y;
        }
        case Function::leaky_relu: return x < Real(0) ? alpha * x : x;
        case Function::mish: return mish<Real>(x);
        case Function::relu: return relu<Real>(x);
        case Function::relu6: return relu6<Real>(x);
        case Function::scaled_tanh: return alpha * tanh<Real>(beta * x).value();
        case Function::sigmoid: return sigmoid<Real>(x).value();
        case Function::silu: return silu<Real>(x);
        case Function::softplus: return softplus<Real>(x);
        case Function::softsign: return softsign<Real>(x);
        case Function::tanh: return tanh<Real>(x).value();
        case Function::thresholded_relu: return x <= alpha ? broadcast(Real(0)) : x;
    }
    return x;
}

// Not inlined, because a cell calls it up to five times.
template <class Real>
[[gnu::noinline]] vec_of<Real> evaluate_rare(Activation<Real> f, vec_of<Real> x) {
    return evaluate(f, x);
}

// sigmoid and tanh are inlined. They return quotients, so that cells with options give the same bits as cells without.
template <class Real>
Quotient<Real> activate(Activation<Real> f, vec_of<Real> x) {
    if (f.function == Function::sigmoid) return sigmoid<Real>(x);
    if (f.function == Function::tanh) return tanh<Real>(x);
    return {evaluate_rare(f, x), broadcast(Real(1))};
}

}  // namespace
