// One function per cell: from z = W x + b_W and u = R h + b_R of L units, gate by gate, to their next state.
//
// Where `gates` is not null, a step is recorded: the cell leaves there its gates, and in z the sums that they are
// functions of.
#pragma once

#include "activations.h"
#include "kernels.h"
#include "vec.h"

namespace {

using onward::Direction;

// What the equations leave open, for the L units from `unit` on: as everyone has it, known when this is compiled.
template <class Real>
struct Plain {
    using vec = vec_of<Real>;
    static constexpr bool coupled = false;
    Plain(const Direction<Real>&, long) {}
    Quotient<Real> gate(vec x) const { return sigmoid<Real>(x); }
    Quotient<Real> candidate(vec x) const { return tanh<Real>(x); }
    Quotient<Real> output(vec c) const { return tanh<Real>(c); }
    vec peep(int, vec, vec x) const { return x; }
};

template <class Real>
struct PlainRelu : Plain<Real> {
    using Plain<Real>::Plain;
    Quotient<Real> candidate(vec_of<Real> x) const { return {relu<Real>(x), broadcast(Real(1))}; }
};

// The same by the options of a direction, looked up once for L units.
template <class Real>
struct Chosen {
    using vec = vec_of<Real>;
    const onward::Options<Real>& options;
    const Real* const peephole;
    const bool coupled;
    Chosen(const Direction<Real>& d, long unit)
        : options(d.options), peephole(d.peephole.blocks ? (const Real*)d.peephole.weights + 3 * unit : nullptr),
          coupled(options.coupled) {}
    Quotient<Real> gate(vec x) const { return activate(options.gate, clipped(x)); }
    Quotient<Real> candidate(vec x) const { return activate(options.candidate, clipped(x)); }
    Quotient<Real> output(vec c) const { return activate(options.output, c); }
    // x, and what gate 0, 1 or 2 of i, f, o sees of c.
    vec peep(int gate, vec c, vec x) const { return peephole ? fma(load(peephole + gate * Float<Real>::L), c, x) : x; }

private:
    vec clipped(vec x) const { return clip(x, -options.clip, options.clip); }
};

template <class Real, class Options>
void rnn(Options o, Real* z, const Real* u, Real* h, Real* gates) {
    const auto sum = load(z) + load(u), h_next = o.candidate(sum).value();
    store(h, h_next);
    if (gates) store(z, sum), store(gates, h_next);
}

template <class Real, class Options>
void lstm(Options o, Real* z, const Real* u, Real* c, Real* h, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto c_prev = load(c);
    const auto sum_i = o.peep(0, c_prev, load(z) + load(u)), sum_f = o.peep(1, c_prev, load(z + L) + load(u + L));
    const auto sum_g = load(z + 2 * L) + load(u + 2 * L);
    const auto i = o.gate(sum_i), f = o.coupled ? one_minus(i) : o.gate(sum_f), g = o.candidate(sum_g);
    const auto c_next = fma(f.value(), c_prev, (i * g).value());
    const auto sum_o = o.peep(2, c_next, load(z + 3 * L) + load(u + 3 * L));
    const auto out = o.gate(sum_o);
    store(c, c_next);
    store(h, (out * o.output(c_next)).value());
    if (gates) {
        store(z, sum_i), store(z + L, sum_f), store(z + 2 * L, sum_g), store(z + 3 * L, sum_o);
        store(gates, i.value()), store(gates + L, f.value());
        store(gates + 2 * L, g.value()), store(gates + 3 * L, out.value());
    }
}

// Recorded too: R_n h + b_n, which r multiplies.
template <class Real, class Options>
void gru(Options o, Real* z, const Real* u, const Real* h, Real* h_next, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), sum_z = load(z + L) + load(u + L);
    const auto r = o.gate(sum_r).value(), update = o.gate(sum_z).value();
    const auto sum_n = fma(r, load(u + 2 * L), load(z + 2 * L));
    const auto n = o.candidate(sum_n).value();
    store(h_next, fma(update, load(h) - n, n));
    if (gates) {
        store(z, sum_r), store(z + L, sum_z), store(z + 2 * L, sum_n);
        store(gates, r), store(gates + L, update), store(gates + 2 * L, n), store(gates + 3 * L, load(u + 2 * L));
    }
}

// A GRU that resets before the product, first half: r h for the product, and the update gate.
template <class Real, class Options>
void gru_reset(Options o, Real* z, const Real* u, const Real* h, Real* reset_h, Real* update, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), sum_z = load(z + L) + load(u + L);
    const auto r = o.gate(sum_r).value();
    store(reset_h, r * load(h));
    store(update, o.gate(sum_z).value());
    if (gates) {
        store(z, sum_r), store(z + L, sum_z);
        store(gates, r), store(gates + L, load(update));
    }
}

// Second half: u is R_n (r h) + b_n; h_next holds the update gate.
template <class Real, class Options>
void gru_candidate(Options o, Real* z, const Real* u, const Real* h, Real* h_next, Real* gates) {
    constexpr int L = Float<Real>::L;
    const auto sum_n = load(z + 2 * L) + load(u);
    const auto n = o.candidate(sum_n).value();
    store(h_next, fma(load(h_next), load(h) - n, n));
    if (gates) store(z + 2 * L, sum_n), store(gates + 2 * L, n);
}

}  // namespace
