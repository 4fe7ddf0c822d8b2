// The cells: for each, the equations of a step and of its gradients, on vectors of L units.
//
// A forward function takes z = W x + b_W and u = R h + b_R, gate by gate, and computes the next state. An LSTM and a
// GRU have two halves; the first one leaves in z what the second one needs. If the step is recorded, z holds the sums
// z + u at the end. A backward function takes the record of the step and the gradient dh with respect to h, and
// computes the gradients d with respect to the sums. Vectors of d are `stride` apart.
#pragma once

#include "kernels/activations.h"
#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Direction;

// The activations of a cell without options, known at compile time.
template <class Real>
struct Standard {
    using vec = vec_of<Real>;
    static constexpr bool coupled = false;
    Standard(const Direction<Real>&, Size) {}
    Quotient<Real> gate(vec x) const { return sigmoid<Real>(x); }
    Quotient<Real> candidate(vec x) const { return tanh<Real>(x); }
    Quotient<Real> output(vec c) const { return tanh<Real>(c); }
    vec add_peephole(int, vec, vec x) const { return x; }
    vec bounded(vec c) const { return c; }
};

template <class Real>
struct StandardRelu : Standard<Real> {
    using Standard<Real>::Standard;
    Quotient<Real> candidate(vec_of<Real> x) const { return {relu<Real>(x), broadcast(Real(1))}; }
};

// The options of a direction, for the L units from `unit` on.
template <class Real>
struct Custom {
    using vec = vec_of<Real>;
    const onward::Options<Real>& options;
    const Real* const peephole;
    const bool coupled;
    Custom(const Direction<Real>& d, Size unit)
        : options(d.options), peephole(d.peephole.blocks ? (const Real*)d.peephole.weights + 3 * unit : nullptr),
          coupled(options.coupled) {}
    Quotient<Real> gate(vec x) const { return activate(options.gate, clipped(x)); }
    Quotient<Real> candidate(vec x) const { return activate(options.candidate, clipped(x)); }
    Quotient<Real> output(vec c) const { return activate(options.output, c); }
    vec bounded(vec c) const { return clip(c, -options.cell_clip, options.cell_clip); }
    // Adds the peephole connection from c to gate 0, 1 or 2 of i, f, o.
    vec add_peephole(int gate, vec c, vec x) const {
        return peephole ? fma(load(peephole + gate * Float<Real>::L), c, x) : x;
    }

private:
    vec clipped(vec x) const { return clip(x, -options.clip, options.clip); }
};

// The record of one step for L units, or for the remaining ones in the last block: the gates, followed by c (LSTM) or
// R_n h + b_n (GRU that resets after the product). A null pointer means that the step is not recorded.
template <class Real>
struct Record {
    Real* first;
    Size H, units;
    explicit operator bool() const { return first; }
    auto operator[](int k) const { return load_some(first + k * H, units); }
    void set(int k, auto numbers) const { store_some(first + k * H, numbers, units); }
};

// Derivatives of activations, as functions of their values.
template <class vec>
vec sigmoid_derivative(vec s) { return s * (1 - s); }
template <class vec>
vec tanh_derivative(vec t) { return (1 - t) * (1 + t); }

template <class Real, class Options>
void rnn(Options o, Real* z, const Real* u, Real* h, Record<Real> record) {
    const auto sum = load(z) + load(u), h_next = o.candidate(sum).value();
    store(h, h_next);
    if (record) store(z, sum), record.set(0, h_next);
}

template <class Real>
void rnn_backward(Record<const Real> record, vec_of<Real> dh, Real* d) {
    store(d, dh * tanh_derivative(record[0]));
}

template <class Real>
void rnn_relu_backward(Record<const Real> record, vec_of<Real> dh, Real* d) {
    store(d, record[0] <= Real(0) ? broadcast(Real(0)) : dh);
}

// The first half of an LSTM: c_next, and the sum of the output gate, which it leaves in z.
template <class Real, class Options>
void lstm_cell_state(Options o, Real* z, const Real* u, const Real* c, Real* c_next, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto c_prev = load(c);
    const auto sum_i = o.add_peephole(0, c_prev, load(z) + load(u));
    const auto sum_f = o.add_peephole(1, c_prev, load(z + L) + load(u + L));
    const auto sum_g = load(z + 2 * L) + load(u + 2 * L);
    const auto i = o.gate(sum_i), f = o.coupled ? one_minus(i) : o.gate(sum_f), g = o.candidate(sum_g);
    const auto c_new = o.bounded(fma(f.value(), c_prev, (i * g).value()));
    store(c_next, c_new);
    store(z + 3 * L, o.add_peephole(2, c_new, load(z + 3 * L) + load(u + 3 * L)));
    if (record) {
        store(z, sum_i), store(z + L, sum_f), store(z + 2 * L, sum_g);
        record.set(0, i.value()), record.set(1, f.value()), record.set(2, g.value()), record.set(4, c_new);
    }
}

// The second half: h = o tanh(c).
template <class Real, class Options>
void lstm_hidden_state(Options o, const Real* z, const Real* c, Real* h, Record<Real> record) {
    const auto out = o.gate(load(z + 3 * Float<Real>::L));
    store(h, (out * o.output(load(c))).value());
    if (record) record.set(3, out.value());
}

// On return, dc is the gradient with respect to c_prev. Returns o tanh(c), the input of a projection.
template <class Real>
vec_of<Real> lstm_backward(Record<const Real> record, vec_of<Real> c_prev, vec_of<Real> dh, Real* dc, Real* d,
                           Size stride) {
    const auto i = record[0], f = record[1], g = record[2], o = record[3], out = tanh<Real>(record[4]).value();
    const auto dc_all = fma(dh * o, tanh_derivative(out), load(dc));
    store(d, dc_all * g * sigmoid_derivative(i));
    store(d + stride, dc_all * c_prev * sigmoid_derivative(f));
    store(d + 2 * stride, dc_all * i * tanh_derivative(g));
    store(d + 3 * stride, dh * out * sigmoid_derivative(o));
    store(dc, dc_all * f);
    return o * out;
}

// The first half of a GRU that resets after the product: r multiplies R_n h + b_n, which is recorded too.
template <class Real, class Options>
void gru_sums(Options o, Real* z, const Real* u, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto sum_r = load(z) + load(u), r = o.gate(sum_r).value();
    store(z + L, load(z + L) + load(u + L));
    store(z + 2 * L, fma(r, load(u + 2 * L), load(z + 2 * L)));
    if (record) store(z, sum_r), record.set(0, r), record.set(3, load(u + 2 * L));
}

// The second half: the update gate interpolates between n and h.
template <class Real, class Options>
void gru_hidden_state(Options o, const Real* z, const Real* h, Real* h_next, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto update = o.gate(load(z + L)).value(), n = o.candidate(load(z + 2 * L)).value();
    store(h_next, fma(update, load(h) - n, n));
    if (record) record.set(1, update), record.set(2, n);
}

// On return, dh_direct is the gradient with respect to h_prev that does not pass through R. The vectors of d belong to
// R_n h + b_n, r, z, n.
template <class Real>
void gru_backward(Record<const Real> record, vec_of<Real> h_prev, vec_of<Real> dh, Real* dh_direct, Real* d,
                  Size stride) {
    const auto r = record[0], z = record[1], n = record[2], dn = dh * (1 - z) * tanh_derivative(n);
    store(d, dn * r);
    store(d + stride, dn * record[3] * sigmoid_derivative(r));
    store(d + 2 * stride, dh * (h_prev - n) * sigmoid_derivative(z));
    store(d + 3 * stride, dn);
    store(dh_direct, dh * z);
}

// A GRU that resets before the product, first half: r h, the input of the second product, and the update gate.
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

// Second half: u is R_n (r h) + b_n, and h_next holds the update gate.
template <class Real, class Options>
void gru_candidate(Options o, Real* z, const Real* u, const Real* h, Real* h_next, Record<Real> record) {
    constexpr int L = Float<Real>::L;
    const auto sum_n = load(z + 2 * L) + load(u);
    const auto n = o.candidate(sum_n).value();
    store(h_next, fma(load(h_next), load(h) - n, n));
    if (record) store(z + 2 * L, sum_n), record.set(2, n);
}

// First half backward: the gradients with respect to z and n.
template <class Real>
void gru_candidate_backward(Record<const Real> record, vec_of<Real> h_prev, vec_of<Real> dh, Real* dh_direct, Real* d,
                            Size stride) {
    const auto z = record[1], n = record[2];
    store(d + stride, dh * (h_prev - n) * sigmoid_derivative(z));
    store(d + 2 * stride, dh * (1 - z) * tanh_derivative(n));
    store(dh_direct, dh * z);
}

// Second half backward: the gradient with respect to r, from d_reset, that with respect to r h. Returns r h.
template <class Real>
vec_of<Real> gru_reset_backward(Record<const Real> record, vec_of<Real> h_prev, vec_of<Real> d_reset, Real* dh_direct,
                                Real* d) {
    const auto r = record[0];
    store(d, d_reset * h_prev * sigmoid_derivative(r));
    store(dh_direct, fma(d_reset, r, load(dh_direct)));
    return r * h_prev;
}

}  // namespace
