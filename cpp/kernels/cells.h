// Two functions per cell. Forward: from z = W x + b_W and u = R h + b_R of L units, gate by gate, to their next state.
// Backward: from the gradient dh by h, and from what was recorded of the step, to the gradients d by what the gates are
// functions of.
//
// Where a step is recorded, the forward function leaves in z the sums that the gates are functions of. Vectors of d are
// `stride` apart.
#pragma once

#include "kernels/activations.h"
#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Direction;

// What the equations leave open, for the L units from `unit` on: as everyone has it, known when this is compiled.
template <class Real>
struct Plain {
    using vec = vec_of<Real>;
    static constexpr bool coupled = false;
    Plain(const Direction<Real>&, Size) {}
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
    Chosen(const Direction<Real>& d, Size unit)
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

// The record of a step, of L units or, of the last block, as many as there are: their gates; then, of an LSTM, c, of a
// GRU that resets after the product, R_n h + b_n. No record where the pointer is null.
template <class Real>
struct Record {
    Real* first;
    Size H, units;
    explicit operator bool() const { return first; }
    auto operator[](int k) const { return load_some(first + k * H, units); }
    void set(int k, auto numbers) const { store_some(first + k * H, numbers, units); }
};

// Derivatives by what a function was applied to, of its value.
template <class vec>
vec sigmoid_slope(vec s) { return s * (1 - s); }
template <class vec>
vec tanh_slope(vec t) { return (1 - t) * (1 + t); }

template <class Real, class Options>
void rnn(Options o, Real* z, const Real* u, Real* h, Record<Real> record) {
    const auto sum = load(z) + load(u), h_next = o.candidate(sum).value();
    store(h, h_next);
    if (record) store(z, sum), record.set(0, h_next);
}

template <class Real>
void rnn_backward(Record<const Real> record, vec_of<Real> dh, Real* d) {
    store(d, dh * tanh_slope(record[0]));
}

template <class Real>
void rnn_relu_backward(Record<const Real> record, vec_of<Real> dh, Real* d) {
    store(d, record[0] <= Real(0) ? broadcast(Real(0)) : dh);
}

template <class Real, class Options>
void lstm(Options o, Real* z, const Real* u, Real* c, Real* h, Record<Real> record) {
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
    if (record) {
        store(z, sum_i), store(z + L, sum_f), store(z + 2 * L, sum_g), store(z + 3 * L, sum_o);
        record.set(0, i.value()), record.set(1, f.value());
        record.set(2, g.value()), record.set(3, out.value()), record.set(4, c_next);
    }
}

// dc becomes the gradient by the c before. Returns o tanh(c), which a projection sees.
template <class Real>
vec_of<Real> lstm_backward(Record<const Real> record, vec_of<Real> c_prev, vec_of<Real> dh, Real* dc, Real* d,
                           Size stride) {
    const auto i = record[0], f = record[1], g = record[2], o = record[3], out = tanh<Real>(record[4]).value();
    const auto dc_all = fma(dh * o, tanh_slope(out), load(dc));
    store(d, dc_all * g * sigmoid_slope(i));
    store(d + stride, dc_all * c_prev * sigmoid_slope(f));
    store(d + 2 * stride, dc_all * i * tanh_slope(g));
    store(d + 3 * stride, dh * out * sigmoid_slope(o));
    store(dc, dc_all * f);
    return o * out;
}

// Recorded too: R_n h + b_n, which r multiplies.
template <class Real, class Options>
void gru(Options o, Real* z, const Real* u, const Real* h, Real* h_next, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), sum_z = load(z + L) + load(u + L);
    const auto r = o.gate(sum_r).value(), update = o.gate(sum_z).value();
    const auto sum_n = fma(r, load(u + 2 * L), load(z + 2 * L));
    const auto n = o.candidate(sum_n).value();
    store(h_next, fma(update, load(h) - n, n));
    if (record) {
        store(z, sum_r), store(z + L, sum_z), store(z + 2 * L, sum_n);
        record.set(0, r), record.set(1, update), record.set(2, n), record.set(3, load(u + 2 * L));
    }
}

// past_R becomes what reaches the h before without passing through R; d is of R_n h + b_n, r, z, n.
template <class Real>
void gru_backward(Record<const Real> record, vec_of<Real> h_prev, vec_of<Real> dh, Real* past_R, Real* d, Size stride) {
    const auto r = record[0], z = record[1], n = record[2], dn = dh * (1 - z) * tanh_slope(n);
    store(d, dn * r);
    store(d + stride, dn * record[3] * sigmoid_slope(r));
    store(d + 2 * stride, dh * (h_prev - n) * sigmoid_slope(z));
    store(d + 3 * stride, dn);
    store(past_R, dh * z);
}

// A GRU that resets before the product, first half: r h for the product, and the update gate.
template <class Real, class Options>
void gru_reset(Options o, Real* z, const Real* u, const Real* h, Real* reset_h, Real* update, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), sum_z = load(z + L) + load(u + L);
    const auto r = o.gate(sum_r).value();
    store(reset_h, r * load(h));
    store(update, o.gate(sum_z).value());
    if (record) {
        store(z, sum_r), store(z + L, sum_z);
        record.set(0, r), record.set(1, load(update));
    }
}

// Second half: u is R_n (r h) + b_n; h_next holds the update gate.
template <class Real, class Options>
void gru_candidate(Options o, Real* z, const Real* u, const Real* h, Real* h_next, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto sum_n = load(z + 2 * L) + load(u);
    const auto n = o.candidate(sum_n).value();
    store(h_next, fma(load(h_next), load(h) - n, n));
    if (record) store(z + 2 * L, sum_n), record.set(2, n);
}

// The way back begins with the candidate: d of z and n.
template <class Real>
void gru_candidate_backward(Record<const Real> record, vec_of<Real> h_prev, vec_of<Real> dh, Real* past_R, Real* d,
                            Size stride) {
    const auto z = record[1], n = record[2];
    store(d + stride, dh * (h_prev - n) * sigmoid_slope(z));
    store(d + 2 * stride, dh * (1 - z) * tanh_slope(n));
    store(past_R, dh * z);
}

// And ends with d of r, from the gradient by r h. Returns r h, which R_n sees.
template <class Real>
vec_of<Real> gru_reset_backward(Record<const Real> record, vec_of<Real> h_prev, vec_of<Real> d_reset, Real* past_R,
                                Real* d) {
    const auto r = record[0];
    store(d, d_reset * h_prev * sigmoid_slope(r));
    store(past_R, fma(d_reset, r, load(past_R)));
    return r * h_prev;
}

}  // namespace
