// One function per cell: from z = W x + b_W and u = R h + b_R of L units, gate by gate, to their next state.
#pragma once

#include "vec.h"

namespace {

template <class Real>
vec_of<Real> relu(vec_of<Real> x) {
    return at_least(x, Real(0));
}

template <class Real>
void lstm(const Real* z, const Real* u, Real* c, Real* h) {
    constexpr int L = Float<Real>::L;
    const auto i = sigmoid<Real>(load(z) + load(u));
    const auto f = sigmoid<Real>(load(z + L) + load(u + L));
    const auto g = tanh<Real>(load(z + 2 * L) + load(u + 2 * L));
    const auto o = sigmoid<Real>(load(z + 3 * L) + load(u + 3 * L));
    const auto c_next = fma(f.value(), load(c), (i * g).value());
    store(c, c_next);
    store(h, (o * tanh<Real>(c_next)).value());
}

template <class Real>
void gru(const Real* z, const Real* u, const Real* h, Real* h_next) {
    constexpr int L = Float<Real>::L;
    const auto r = sigmoid<Real>(load(z) + load(u)).value();
    const auto update = sigmoid<Real>(load(z + L) + load(u + L)).value();
    const auto n = tanh<Real>(fma(r, load(u + 2 * L), load(z + 2 * L))).value();
    store(h_next, fma(update, load(h) - n, n));
}

// A GRU that resets before the product, first half: r h for the product, and the update gate.
template <class Real>
void gru_reset(const Real* z, const Real* u, const Real* h, Real* reset_h, Real* update) {
    constexpr int L = Float<Real>::L;
    store(reset_h, sigmoid<Real>(load(z) + load(u)).value() * load(h));
    store(update, sigmoid<Real>(load(z + L) + load(u + L)).value());
}

// Second half: u is R_n (r h) + b_n; h_next holds the update gate.
template <class Real>
void gru_candidate(const Real* z, const Real* u, const Real* h, Real* h_next) {
    constexpr int L = Float<Real>::L;
    const auto n = tanh<Real>(load(z + 2 * L) + load(u)).value();
    store(h_next, fma(load(h_next), load(h) - n, n));
}

}  // namespace
