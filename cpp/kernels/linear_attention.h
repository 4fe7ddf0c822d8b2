// A token of linear attention: vectors hold values of one key.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::LinearToken;

// V vectors of values, of which the last one may have fewer than L. The token is a copy: as far as the compiler knows,
// the stores could change another one. Each number is rounded as the products and the elementwise steps of a loop round
// it, so that a loop over tokens has the same bits.
template <class Real, int V>
void attend_values(const LinearToken<Real> t, Size first) {
    using Vec = vec_of<Real>;
    constexpr int L = Float<Real>::L;
    const Size n = V > 1 ? L : t.values - first;
    auto before = [&](Size key, int v) -> Vec { return load_some(t.before + key * t.values + first + v * L, n); };
    auto decayed = [&](Size key, int v) {
        const Vec row = before(key, v);
        return t.decay ? flush<Real>(row * broadcast(t.decay[key * t.decay_step])) : row;
    };
    Vec added[V], sum[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) added[v] = load_some(t.v + first + v * L, n), sum[v] = broadcast(Real(0));
    if (t.beta) {
        const bool decays_sum = t.decay && !t.decay_step;  // instead of each row
        for (Size key = 0; key < t.keys; key++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++)
                sum[v] = fma(broadcast(t.k[key]), decays_sum ? before(key, v) : decayed(key, v), sum[v]);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            const Vec recalled = decays_sum ? flush<Real>(sum[v]) * broadcast(*t.decay) : sum[v];
            added[v] = flush<Real>(flush<Real>(added[v] - flush<Real>(recalled)) * broadcast(*t.beta));
            sum[v] = broadcast(Real(0));
        }
    }
    for (Size key = 0; key < t.keys; key++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            const Vec row = flush<Real>(flush<Real>(added[v] * broadcast(t.k[key])) + decayed(key, v));
            store_bits(t.after + key * t.values + first + v * L, row, n);
            sum[v] = fma(broadcast(t.q[key]), row, sum[v]);
        }
    for (Size query = 0;;) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            store_some(t.y + query * t.values + first + v * L, broadcast(t.scale) * sum[v], n);
        if (++query == t.queries) return;
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) sum[v] = broadcast(Real(0));
        for (Size key = 0; key < t.keys; key++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) {
                const vec_of<Real> row = load_some(t.after + key * t.values + first + v * L, n);
                sum[v] = fma(broadcast(t.q[query * t.keys + key]), row, sum[v]);
            }
    }
}

template <class Real>
void linear_attention(const LinearToken<Real>& token) {
    constexpr int L = Float<Real>::L;
    Size first = 0;
    for (; first + 4 * L <= token.values; first += 4 * L) attend_values<Real, 4>(token, first);
    for (; first < token.values; first += L) attend_values<Real, 1>(token, first);
}

}  // namespace
