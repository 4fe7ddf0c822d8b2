// Goes back through a layer's steps: directions and rows by threads, and each row from its last step to its first.
#include "backward.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "denormals.h"
#include "dispatch.h"
#include "threads.h"

namespace onward {

namespace {

// The transpose of a matrix (G*H, P) for a product that sums over G times H units, padded to whole blocks of L.
template <class Real>
std::vector<Real> transposed(const Real* matrix, long G, long H, long P, long L) {
    const long K = G * ceil_div(H, L) * L;
    std::vector<Real> to(P * K);
    for (long g = 0; g < G; g++)
        for (long h = 0; h < H; h++)
            for (long p = 0; p < P; p++) to[p * K + g * ceil_div(H, L) * L + h] = matrix[(g * H + h) * P + p];
    return to;
}

// Rows of n arrays of H numbers each from, or to, rows whose arrays are padded.
template <class Real>
void pad(Real* to, const Real* from, long n, long H, long padded) {
    for (long k = 0; k < n; k++) std::memcpy(to + k * padded, from + k * H, H * sizeof(Real));
}
template <class Real>
void unpad(Real* to, const Real* from, long n, long H, long padded) {
    for (long k = 0; k < n; k++) std::memcpy(to + k * H, from + k * padded, H * sizeof(Real));
}

}  // namespace

template <class Real>
Backward<Real>::Backward(Cell cell, const std::vector<Weights<Real>>& weights)
    : cell(cell), H(weights[0].H), P(weights[0].P), D(long(weights.size())), kernels(onward::kernels<Real>()) {
    const long G = gates(cell), L = kernels.L, first = cell == Cell::gru_reset_before ? 2 : G;
    auto pack = [&](const Real* matrix, long G, long rows, long columns) -> const Panels<Real>& {
        const std::vector<Real> transpose = transposed(matrix, G, rows, columns, L);
        return packed.emplace_back(Matrix<Real>{Format::native, transpose.data()}, nullptr, 0, 1, columns, G * ceil_div(rows, L) * L, L);
    };
    for (const Weights<Real>& w : weights) {  // of the native format, as the binding has checked
        const Real *const R = (const Real*)w.R.numbers, *const W_hr = (const Real*)w.W_hr.numbers;
        DirectionBack<Real> d{cell, recorded(cell), pack(R, first, H, P), {}, {}};
        if (first < G) d.candidate = pack(R + 2 * H * P, 1, H, P);
        if (W_hr) d.projection = pack(W_hr, 1, P, H);
        directions.push_back(d);
    }
}

template <class Real>
void Backward<Real>::run(const SequenceBack<Real>& s) const {
    if (!s.B) return;
    std::vector<long> order(s.B);
    std::iota(order.begin(), order.end(), 0L);
    if (s.lengths)
        std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return s.lengths[a] > s.lengths[b]; });
    long blocks = ceil_div(s.B, rows_at_once);
    int threads = 1;
    const long useful = D * std::max(blocks, s.B / rows_worth_a_thread);
    parallel(
        int(std::min<long>(num_threads(), useful)),
        [&](int n) {
            threads = n;
            blocks = std::max(blocks, std::min(ceil_div(n, D), s.B));
        },
        [&](int part) {
            const FlushDenormals flush;
            for (long job = part; job < D * blocks; job += threads) {
                const long block = job / D, first = s.B * block / blocks;
                run(s, job % D, order.data() + first, s.B * (block + 1) / blocks - first);
            }
        });
}

template <class Real>
void Backward<Real>::run(const SequenceBack<Real>& s, long direction, const long* order, long rows) const {
    const DirectionBack<Real>& way = directions[direction];
    const long L = kernels.L, Hp = ceil_div(H, L) * L, Pp = ceil_div(P, L) * L, S = way.recorded;
    const bool lstm = cell == Cell::lstm, projected = way.projection.blocks;
    auto length = [&](long b) { return s.lengths ? long(s.lengths[order[b]]) : s.T; };
    // of row b's step t, counted from its own first: its place among all steps (T, B) of a direction's array
    auto place = [&](long t, long b) {
        return ((direction ? length(b) - 1 - t : t) + direction * s.T) * s.B + order[b];
    };
    auto y = [&](const Rows<const Real>& array, long t, long b) {
        return array.at(direction ? length(b) - 1 - t : t, order[b]) + direction * P;
    };

    // dh[rows][P] by h, and dm[rows][H], which without a projection is dh
    const Buffer<Real> memory = Buffer<Real>::zeros(rows * (2 * S * Hp + 6 * Hp + 2 * Pp));
    Real* const gates = memory.data();
    Real* const d = gates + rows * S * Hp;
    Real *const c = d + rows * S * Hp, *const c_prev = c + rows * Hp, *const h_prev = c_prev + rows * Hp;
    Real *const dc = h_prev + rows * Hp, *const reset = dc + rows * Hp, *const dm = reset + rows * Hp;
    Real *const dh = dm + rows * Hp, *const through_R = dh + rows * Pp;
    auto product = [&](const Panels<Real>& panels, const Real* a, long stride, long rows, Real* to) {
        kernels.product(panels, a, stride, rows, to, panels.blocks * L, nullptr, {0, panels.blocks});
    };
    const StepBack<Real> all{rows, Hp, gates, c, c_prev, h_prev, reset, projected ? dm : dh, dc, d};

    for (long b = 0; b < rows; b++) {
        const long state = direction * s.B + order[b];
        if (s.dh_n) std::memcpy(dh + b * Pp, s.dh_n + state * P, P * sizeof(Real));
        if (s.dc_n) std::memcpy(dc + b * Hp, s.dc_n + state * H, H * sizeof(Real));
    }
    long active = 0;
    for (long t = length(0) - 1; t >= 0; t--) {
        while (active < rows && length(active) > t) active++;
        for (long b = 0; b < active; b++) {
            const long at = place(t, b), state = direction * s.B + order[b];
            pad(gates + b * S * Hp, s.gates + at * S * H, S, H, Hp);
            if (lstm) {
                const Real* const before = t ? s.c + place(t - 1, b) * H : s.c0 ? s.c0 + state * H : nullptr;
                pad(c + b * Hp, s.c + at * H, 1, H, Hp);
                if (before) pad(c_prev + b * Hp, before, 1, H, Hp);
                else std::memset(c_prev + b * Hp, 0, H * sizeof(Real));
            } else {
                const Real* const before = t ? y(s.y, t - 1, b) : s.h0 ? s.h0 + state * P : nullptr;
                if (before) pad(h_prev + b * Hp, before, 1, H, Hp);
                else std::memset(h_prev + b * Hp, 0, H * sizeof(Real));
            }
            const Real* const dy = y(s.dy, t, b);
            for (long p = 0; p < P; p++) dh[b * Pp + p] += dy[p];
            if (s.dh) unpad(s.dh + at * P, dh + b * Pp, 1, P, Pp);
        }
        StepBack<Real> step = all;
        step.rows = active;
        if (projected) product(way.projection, dh, Pp, active, dm);
        kernels.backward(way, step);
        if (way.candidate.blocks) {
            product(way.candidate, d + 2 * Hp, S * Hp, active, reset);
            kernels.backward_second(way, step);
        }
        product(way.recurrent, d, S * Hp, active, through_R);
        const bool past_R = !lstm && S > 1;  // a GRU's h also goes to the next step as it is, and dh keeps that part
        for (long n = 0; n < active * Pp; n++) dh[n] = past_R ? dh[n] + through_R[n] : through_R[n];
        for (long b = 0; b < active; b++) unpad(s.d + place(t, b) * S * H, d + b * S * Hp, S, H, Hp);
    }
    for (long b = 0; b < rows; b++) {
        const long state = direction * s.B + order[b];
        std::memcpy(s.dh0 + state * P, dh + b * Pp, P * sizeof(Real));
        if (s.dc0) std::memcpy(s.dc0 + state * H, dc + b * Hp, H * sizeof(Real));
    }
}

template class Backward<float>;
template class Backward<double>;

}  // namespace onward
