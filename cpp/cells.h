// One function per cell: from z = W x + b_W and u = R h + b_R of L units, gate by gate, to their next state.
//
// Where `gates` is not null, a step is recorded: the cell leaves there its gates, and in z the sums that they are
// functions of.
#pragma once

#include "vec.h"

namespace {

template <class Real>
vec_of<Real> relu(vec_of<Real> x) {
    return at_least(x, Real(0));
}

template <class Real>
void rnn_tanh(Real* z, const Real* u, Real* h, Real* gates) {
    const auto sum = load(z) + load(u), h_next = tanh<Real>(sum).value();
    store(h, h_next);
    if (gates) store(z, sum), store(gates, h_next);
}

template <class Real>
void rnn_relu(Real* z, const Real* u, Real* h, Real* gates) {
    const auto sum = load(z) + load(u), h_next = relu<Real>(sum);
    store(h, h_next);
    if (gates) store(z, sum), store(gates, h_next);
}

template <class Real>
void lstm(Real* z, const Real* u, Real* c, Real* h, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_i = load(z) + load(u), sum_f = load(z + L) + load(u + L);
    const auto sum_g = load(z + 2 * L) + load(u + 2 * L), sum_o = load(z + 3 * L) + load(u + 3 * L);
    const auto i = sigmoid<Real>(sum_i), f = sigmoid<Real>(sum_f), g = tanh<Real>(sum_g), o = sigmoid<Real>(sum_o);
    const auto c_next = fma(f.value(), load(c), (i * g).value());
    store(c, c_next);
    store(h, (o * tanh<Real>(c_next)).value());
    if (gates) {
        store(z, sum_i), store(z + L, sum_f), store(z + 2 * L, sum_g), store(z + 3 * L, sum_o);
        store(gates, i.value()), store(gates + L, f.value());
        store(gates + 2 * L, g.value()), store(gates + 3 * L, o.value());
    }
}

// Recorded too: R_n h + b_n, which r multiplies.
template <class Real>
void gru(Real* z, const Real* u, const Real* h, Real* h_next, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), sum_z = load(z + L) + load(u + L);
    const auto r = sigmoid<Real>(sum_r).value(), update = sigmoid<Real>(sum_z).value();
    const auto sum_n = fma(r, load(u + 2 * L), load(z + 2 * L));
    const auto n = tanh<Real>(sum_n).value();
    store(h_next, fma(update, load(h) - n, n));
    if (gates) {
        store(z, sum_r), store(z + L, sum_z), store(z + 2 * L, sum_n);
        store(gates, r), store(gates + L, update), store(gates + 2 * L, n), store(gates + 3 * L, load(u + 2 * L));
    }
}

// A GRU that resets before the product, first half: r h for the product, and the update gate.
template <class Real>
void gru_reset(Real* z, const Real* u, const Real* h, Real* reset_h, Real* update, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), sum_z = load(z + L) + load(u + L);
    const auto r = sigmoid<Real>(sum_r).value();
    store(reset_h, r * load(h));
    store(update, sigmoid<Real>(sum_z).value());
    if (gates) {
        store(z, sum_r), store(z + L, sum_z);
        store(gates, r), store(gates + L, load(update));
    }
}

// Second half: u is R_n (r h) + b_n; h_next holds the update gate.
template <class Real>
void gru_candidate(Real* z, const Real* u, const Real* h, Real* h_next, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_n = load(z + 2 * L) + load(u);
    const auto n = tanh<Real>(sum_n).value();
    store(h_next, fma(load(h_next), load(h) - n, n));
    if (gates) store(z + 2 * L, sum_n), store(gates + 2 * L, n);
}

}  // namespace
