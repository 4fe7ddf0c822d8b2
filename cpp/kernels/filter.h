// Sums of windows that are adjacent: vectors hold windows instead of outputs.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Filters;

// M outputs of V vectors, which may follow each other in x and y. Only a single vector may be incomplete.
template <class Real, int M, int V, bool follow = false>
[[gnu::always_inline]] inline void filter_tile(const Filters<Real>& f, Size output, Size vector) {
    constexpr int L = Float<Real>::L;
    const Size n = V > 1 ? L : f.n;
    auto place = [&](const Size* places, int v) { return follow ? places[vector] + v * L : places[vector + v]; };
    const Real* x[V];
    vec_of<Real> sum[M][V];
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) x[v] = f.x + place(f.places, v);
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) sum[m][v] = broadcast(f.bias ? f.bias[output + m] : Real(0));
    const Real* weights = f.weights + output / L * f.block_stride + output % L;
    for (Size term = 0; term < f.terms; term++, weights += f.weight_stride) {
        const Size offset = f.offsets[term];
        const Real* const first = x[0] + offset;
        vec_of<Real> part[V];
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) part[v] = load_some(follow ? first + v * L : x[v] + offset, n);
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
            store_some(f.y + (output + m) * f.y_stride + place(f.y_places, v),
                       at_least(flush<Real>(sum[m][v]), broadcast(f.least)) + f.added, n);
}

// All outputs of V vectors, whose windows stay in the first-level cache.
template <class Real, int V>
void filter_outputs(const Filters<Real>& f, Size vector) {
    Size output = 0;
    for (; output + 4 <= f.outputs; output += 4) filter_tile<Real, 4, V>(f, output, vector);
    switch (f.outputs - output) {
        case 3: filter_tile<Real, 3, V>(f, output, vector); break;
        case 2: filter_tile<Real, 2, V>(f, output, vector); break;
        case 1: filter_tile<Real, 1, V>(f, output, vector); break;
    }
}

template <class Real>
void filter(const Filters<Real>& f) {
    constexpr int V = vector_registers == 32 ? 4 : 2;
    Size vector = 0;
    while (f.n == Float<Real>::L && vector + V <= f.vectors) {
        if (!small_tiles && f.outputs == 1 && f.following[vector] >= 8)
            filter_tile<Real, 1, 8, true>(f, 0, vector), vector += 8;
        else
            filter_outputs<Real, V>(f, vector), vector += V;
    }
    for (; vector < f.vectors; vector++) filter_outputs<Real, 1>(f, vector);
}

}  // namespace
