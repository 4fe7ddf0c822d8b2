// Filters with few outputs: vectors hold adjacent windows instead of outputs.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Filters;

// M outputs of V vectors of windows, of which the last one may be incomplete.
template <class Real, int M, int V>
void filter_tile(const Filters<Real>& f, Size output, Size at) {
    constexpr int L = Float<Real>::L;
    const Size n = V > 1 ? L : f.n - at;
    vec_of<Real> sum[M][V];
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) sum[m][v] = broadcast(f.bias ? f.bias[output + m] : Real(0));
    for (Size term = 0; term < f.terms; term++) {
        const Real* const x = f.x + f.offsets[term] + at;
        const Real* const weights = f.weights + term * f.weight_stride + output;
        vec_of<Real> part[V];
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) part[v] = load_some(x + v * L, n);
#pragma GCC unroll 32
        for (int m = 0; m < M; m++) {
            const vec_of<Real> weight = broadcast(weights[m]);
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) sum[m][v] = fma(part[v], weight, sum[m][v]);
        }
    }
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++)
            store_some(f.y + (output + m) * f.y_stride + at + v * L, sum[m][v] + f.added, n);
}

template <class Real, int M>
void filter_outputs(const Filters<Real>& f, Size output, Size first, Size last) {
    constexpr int L = Float<Real>::L, V = M == 1 ? 8 : vector_registers == 32 ? 4 : 2;
    Size at = first;
    for (; at + V * L <= last; at += V * L) filter_tile<Real, M, V>(f, output, at);
    for (; at < last; at += L) filter_tile<Real, M, 1>(f, output, at);
}

// The windows that all outputs read lie in the first-level cache.
template <class Real>
void filter(const Filters<Real>& f) {
    constexpr Size together = 16 * Float<Real>::L;
    for (Size first = 0; first < f.n; first += together) {
        const Size last = f.n - first < together ? f.n : first + together;
        Size output = 0;
        for (; output + 4 <= f.outputs; output += 4) filter_outputs<Real, 4>(f, output, first, last);
        switch (f.outputs - output) {
            case 3: filter_outputs<Real, 3>(f, output, first, last); break;
            case 2: filter_outputs<Real, 2>(f, output, first, last); break;
            case 1: filter_outputs<Real, 1>(f, output, first, last); break;
        }
    }
}

}  // namespace
