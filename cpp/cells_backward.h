// One function per cell, backward: from the gradients by h and c of L units, and from the record of the step, to the
// gradients by what the gates are functions of. Numbers of a unit lie `stride` apart: gates in their order, and d in that
// of DirectionBack.
#pragma once

#include "vec.h"

namespace {

// Derivatives by what a function was applied to, of its value.
template <class Real>
vec_of<Real> sigmoid_slope(vec_of<Real> s) { return s * (Real(1) - s); }
template <class Real>
vec_of<Real> tanh_slope(vec_of<Real> t) { return (Real(1) - t) * (Real(1) + t); }

template <class Real>
void rnn_backward(const Real* gates, const Real* dh, Real* d) {
    store(d, load(dh) * tanh_slope<Real>(load(gates)));
}

template <class Real>
void rnn_relu_backward(const Real* gates, const Real* dh, Real* d) {
    store(d, load(gates) <= Real(0) ? broadcast(Real(0)) : load(dh));
}

// dc becomes the gradient by the c before.
template <class Real>
void lstm_backward(const Real* gates, long stride, const Real* c, const Real* c_prev, const Real* dh, Real* dc, Real* d) {
    const auto i = load(gates), f = load(gates + stride), g = load(gates + 2 * stride), o = load(gates + 3 * stride);
    const auto out = tanh<Real>(load(c)).value();
    const auto dc_all = fma(load(dh) * o, tanh_slope<Real>(out), load(dc));
    store(d, dc_all * g * sigmoid_slope<Real>(i));
    store(d + stride, dc_all * load(c_prev) * sigmoid_slope<Real>(f));
    store(d + 2 * stride, dc_all * i * tanh_slope<Real>(g));
    store(d + 3 * stride, load(dh) * out * sigmoid_slope<Real>(o));
    store(dc, dc_all * f);
}

// dh becomes what reaches the h before without passing through R; d is of r, z, R_n h + b_n, n.
template <class Real>
void gru_backward(const Real* gates, long stride, const Real* h_prev, Real* dh, Real* d) {
    const auto r = load(gates), z = load(gates + stride), n = load(gates + 2 * stride);
    const auto dn = load(dh) * (Real(1) - z) * tanh_slope<Real>(n);
    store(d, dn * load(gates + 3 * stride) * sigmoid_slope<Real>(r));
    store(d + stride, load(dh) * (load(h_prev) - n) * sigmoid_slope<Real>(z));
    store(d + 2 * stride, dn * r);
    store(d + 3 * stride, dn);
    store(dh, load(dh) * z);
}

// A GRU that resets before the product, the candidate's half: d of z and n.
template <class Real>
void gru_candidate_backward(const Real* gates, long stride, const Real* h_prev, Real* dh, Real* d) {
    const auto z = load(gates + stride), n = load(gates + 2 * stride);
    store(d + stride, load(dh) * (load(h_prev) - n) * sigmoid_slope<Real>(z));
    store(d + 2 * stride, load(dh) * (Real(1) - z) * tanh_slope<Real>(n));
    store(dh, load(dh) * z);
}

// The other half: d of r, from the gradient by r h.
template <class Real>
void gru_reset_backward(const Real* gates, const Real* h_prev, const Real* d_reset_h, Real* dh, Real* d) {
    const auto r = load(gates);
    store(d, load(d_reset_h) * load(h_prev) * sigmoid_slope<Real>(r));
    store(dh, fma(load(d_reset_h), r, load(dh)));
}

}  // namespace
