// Sums of windows that are adjacent: vectors hold windows instead of outputs.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Filters;

// M outputs of V vectors. Only a single vector may be incomplete.
template <class Real, int M, int V>
[[gnu::always_inline]] inline void filter_tile(const Filters<Real>& f, Size output, Size vector) {
    constexpr int L = Float<Real>::L;
    const Size n = V > 1 ? L : f.n;
    // What the stores could change, as far as the compiler knows, is read before them.
    const Real* x[V];
    Real *y[V], *const to = f.y + output * f.y_stride;
    const Size y_stride = f.y_stride;
    const vec_of<Real> least = broadcast(f.least), added = broadcast(f.added);
    const bool adjusts = f.adjusts;
    vec_of<Real> sum[M][V];
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) x[v] = f.x + f.places[vector + v], y[v] = to + f.y_places[vector + v];
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) sum[m][v] = broadcast(f.bias ? f.bias[output + m] : Real(0));
    const Real* weights = f.weights + output / L * f.block_stride + output % L;
    for (Size term = 0; term < f.terms; term++, weights += f.weight_stride) {
        const Size offset = f.offsets[term];
        vec_of<Real> part[V];
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) part[v] = load_some(x[v] + offset, n);
#pragma GCC unroll 32
        for (int m = 0; m < M; m++) {
            const vec_of<Real> weight = broadcast(weights[m]);
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) sum[m][v] = fma(part[v], weight, sum[m][v]);
        }
    }
    if (M == 1 || adjusts)  // without a branch where the sums take little time
#pragma GCC unroll 32
        for (int m = 0; m < M; m++)
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) sum[m][v] = at_least(flush<Real>(sum[m][v]), least) + added;
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) store_some(y[v] + m * y_stride, sum[m][v], n);
}

// M outputs of vectors that follow each other in x and y, V at a time. Returns how many of them it has computed.
template <class Real, int M, int V>
[[gnu::noinline]] Size filter_line(const Filters<Real>& f, Size output, Size vector, Size vectors) {
    constexpr int L = Float<Real>::L;
    static constexpr Real zeros[M] = {};
    const Real *x = f.x + f.places[vector], *const bias = f.bias ? f.bias + output : zeros;
    Real* y = f.y + output * f.y_stride + f.y_places[vector];
    const Real* const weights = f.weights + output / L * f.block_stride + output % L;
    const Size *const offsets = f.offsets, *const end = offsets + f.terms, stride = f.weight_stride;
    const Size y_stride = f.y_stride;
    const bool adjusts = M == 1 || f.adjusts;
    const vec_of<Real> least = broadcast(f.least), added = broadcast(f.added);
    Size done = 0;
    for (; done + V <= vectors; done += V, x += V * L, y += V * L) {
        vec_of<Real> sum[M][V];
#pragma GCC unroll 32
        for (int m = 0; m < M; m++)
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) sum[m][v] = broadcast(bias[m]);
        const Real* weight = weights;
        for (const Size* offset = offsets; offset < end; offset++, weight += stride) {
            vec_of<Real> part[V];
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) {
                part[v] = load_some(x + *offset + v * L, L);
                if constexpr (M > 1) keep_in_register(part[v]);
            }
#pragma GCC unroll 32
            for (int m = 0; m < M; m++) {
                const vec_of<Real> factor = broadcast(weight[m]);
#pragma GCC unroll 32
                for (int v = 0; v < V; v++) sum[m][v] = fma(part[v], factor, sum[m][v]);
            }
        }
        if (adjusts)
#pragma GCC unroll 32
            for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                for (int v = 0; v < V; v++) sum[m][v] = at_least(flush<Real>(sum[m][v]), least) + added;
#pragma GCC unroll 32
        for (int m = 0; m < M; m++)
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) store_some(y + m * y_stride + v * L, sum[m][v], L);
    }
    return done;
}

// The rows of V vectors of one output. A vector is read once for all rows of kernels that it is in. Only a single
// vector may be incomplete.
template <class Real, int V>
void filter_rows(const Filters<Real>& f, Size vector) {
    constexpr int L = Float<Real>::L, K = onward::rows_of_kernel;
    // What the stores could change, as far as the compiler knows, is read before them.
    const Size n = V > 1 ? L : f.n, x_row = f.x_row, y_row = f.y_row, rows = f.rows, stride = f.weight_stride;
    const Size *const offsets = f.offsets, *const end = offsets + f.terms, row_weights = f.terms * stride;
    const Real *const weights = f.weights, *x[V];
    Real* y[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
        x[v] = f.x + f.places[vector + v];
        y[v] = f.y + f.y_places[vector + v] + (1 - K) * y_row;
    }
    const vec_of<Real> least = broadcast(f.least), added = broadcast(f.added);
    const vec_of<Real> bias = broadcast(f.bias ? f.bias[0] : Real(0));
    vec_of<Real> sum[K + 1][V];  // of the rows whose kernels have the present row of x; the last row begins with it
#pragma GCC unroll 8
    for (int k = 0; k <= K; k++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) sum[k][v] = bias;
    for (Size row = 1 - K; row < rows; row++) {
        const Real* weight = weights;
        for (const Size* offset = offsets; offset < end; offset++, weight += stride) {
            vec_of<Real> part[V];
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) part[v] = load_some(x[v] + *offset, n);
#pragma GCC unroll 8
            for (int k = 0; k < K; k++) {
                const vec_of<Real> factor = broadcast(weight[(K - 1 - k) * row_weights]);
#pragma GCC unroll 8
                for (int v = 0; v < V; v++) sum[k][v] = fma(part[v], factor, sum[k][v]);
            }
        }
        if (row >= 0)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) store_some(y[v], at_least(flush<Real>(sum[0][v]), least) + added, n);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            x[v] += x_row, y[v] += y_row;
#pragma GCC unroll 8
            for (int k = 0; k < K; k++) sum[k][v] = sum[k + 1][v];
        }
    }
}

template <class Real>
void filter_rows(const Filters<Real>& f) {
    for (Size vector = 0; vector < f.vectors;) {
        const Size left = f.n == Float<Real>::L ? f.vectors - vector : 1;
        if (vector_registers == 32 && left % 4 != 1 && left >= 4) filter_rows<Real, 4>(f, vector), vector += 4;
        else if (left >= 3) filter_rows<Real, 3>(f, vector), vector += 3;
        else if (left == 2) filter_rows<Real, 2>(f, vector), vector += 2;
        else filter_rows<Real, 1>(f, vector), vector++;
    }
}

// M outputs of the vectors [vector, last). With one or four of them, lines of vectors that follow each other save time.
template <class Real, int M>
void filter_vectors(const Filters<Real>& f, Size output, Size vector, Size last) {
    constexpr bool has_many = vector_registers == 32;
    constexpr int V = has_many ? 4 : 2, together = M == 1 ? (has_many ? 16 : 8) : has_many ? 4 : 3;
    while (f.n == Float<Real>::L && vector + V <= last) {
        const Size line = last - vector < f.following[vector] ? last - vector : f.following[vector];
        if constexpr ((M == 1 || M == 4) && !small_tiles)
            if (line >= together) {
                vector += filter_line<Real, M, together>(f, output, vector, line);
                continue;
            }
        filter_tile<Real, M, V>(f, output, vector), vector += V;
    }
    for (; vector < last; vector++) filter_tile<Real, M, 1>(f, output, vector);
}

// Each four outputs read the windows of as many vectors as stay in the first-level cache.
template <class Real>
void filter(const Filters<Real>& f) {
    if (f.rows) return filter_rows(f);
    constexpr Size together = 8, most_terms = 256;
    const Size groups = f.terms * together < most_terms ? most_terms / together / f.terms : 1;
    for (Size vector = 0, last; vector < f.vectors; vector = last) {
        last = f.outputs > 4 && vector + groups * together < f.vectors ? vector + groups * together : f.vectors;
        Size output = 0;
        for (; output + 4 <= f.outputs; output += 4) filter_vectors<Real, 4>(f, output, vector, last);
        switch (f.outputs - output) {
            case 3: filter_vectors<Real, 3>(f, output, vector, last); break;
            case 2: filter_vectors<Real, 2>(f, output, vector, last); break;
            case 1: filter_vectors<Real, 1>(f, output, vector, last); break;
        }
    }
}

}  // namespace
