// One direction of a layer on all rows, from the last time step to the first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "platform/packed.h"
#include "run/run.h"
#include "run/stack.h"
#include "platform/threads.h"

namespace onward {

// Gradients by one direction's weights, which are added to. Biases and W_hr may be null.
template <class Real>
struct WeightGradients {
    Real *W, *R;      // (G*H, I), (G*H, P)
    Real *b_W, *b_R;  // (G*H)
    Real* W_hr;       // (P, H)
};

// What one call takes and gives: arrays (T, B, features), and states and records of all directions one after another.
// Initial states, their gradients' last ones and lengths may be null, as may what a cell has no use for.
template <class Real>
struct SequenceBack {
    Size T, B;
    Rows<const Real> dy, x, y;  // dy and y of D*P features
    const Real *h0, *c0, *dh_n, *dc_n;
    const int64_t* lengths;
    const Real* gates;      // as recorded
    Rows<Real> dx;          // zeros past a row's length are left alone
    Real *dh0, *dc0;
    std::vector<WeightGradients<Real>> gradients;  // of each direction
};

// Where gradients d stand by what W x + b_W and R h + b_R are added to, gate by gate, among those that a step has.
inline Size slot_by_W(Cell cell, Size gate) { return cell == Cell::gru ? gate + 1 : gate; }
inline Size slot_by_R(Cell cell, Size gate) { return cell == Cell::gru ? (gate + 1) % 3 : gate; }

// Rows are in order of their lengths, longest first; steps count from each row's own first. `row` is the number of a
// row of a step among those of a chunk of steps, the last step's first.
template <class Real>
class RunBack {
public:
    RunBack(const Kernels<Real>& kernels, const DirectionBack<Real>& way, const SequenceBack<Real>& s, Size direction,
            const std::vector<Size>& order, const std::vector<Size>& lengths, int parts)
        : kernels(kernels), way(way), s(s), direction(direction), order(order), lengths(lengths), L(kernels.L),
          I(padded(way.I)), H(padded(way.H)), P(padded(way.P)), x_stride(I + L), h_stride(P + L),
          d_stride((slot_by_W(way.cell, gates(way.cell) - 1) + 1) * H + L),
          chunk_rows(std::max(s.B, std::min(rows_back_at_once, s.T * s.B))),
          memory(Buffer<Real>::zeros(s.B * (P + 4 * H) + std::max(H, P))),
          chunk(chunk_rows * (d_stride + x_stride + h_stride + P + H)), products(parts * product_rows * I),
          rows(parts * s.B * 5), dh(memory.data()), dm(dh + s.B * P), past_R(dm + s.B * H), dc(past_R + s.B * H),
          d_reset(dc + s.B * H), zeros(d_reset + s.B * H), d(chunk.data()), x(d + chunk_rows * d_stride),
          h_prev(x + chunk_rows * x_stride), dh_all(h_prev + chunk_rows * h_stride), shown(dh_all + chunk_rows * P) {
        for (Size b = 0; b < s.B; b++) {
            if (s.dh_n) std::memcpy(dh + b * P, s.dh_n + state(b) * way.P, way.P * sizeof(Real));
            if (s.dc_n) std::memcpy(dc + b * H, s.dc_n + state(b) * way.H, way.H * sizeof(Real));
        }
    }

    // Called by `parts` threads that meet at the barrier; each computes its share of the units.
    void run(int part, int parts, Barrier& barrier) const {
        for (Size end = lengths[0], first; end > 0; end = first) {
            first = end - 1;
            Size n = running_at(first);
            while (first > 0 && n + running_at(first - 1) <= chunk_rows) n += running_at(--first);
            Size row = 0;
            for (Size t = end - 1; t >= first; row += running_at(t--)) step(t, row, part, parts, barrier);
            weights(n, part, parts);
            inputs(first, end, n, part, parts);
            barrier.wait();
        }
        for (Size b = s.B * part / parts; b < s.B * (part + 1) / parts; b++) {
            for (Size p = 0; p < way.P; p++)
                s.dh0[state(b) * way.P + p] = dh[b * P + p] + (has_past_R() ? past_R[b * H + p] : 0);
            if (s.dc0) std::memcpy(s.dc0 + state(b) * way.H, dc + b * H, way.H * sizeof(Real));
        }
    }

private:
    // One step, whose first row is `row`: d of all its gates, and then what reaches the step before through R.
    void step(Size t, Size row, int part, int parts, Barrier& barrier) const {
        const Size n = running_at(t);
        const Share units{H / L * part / parts, H / L * (part + 1) / parts};
        const Share outputs{P / L * part / parts, P / L * (part + 1) / parts};
        for (Size b = n * part / parts; b < n * (part + 1) / parts; b++) {
            std::memcpy(x + (row + b) * x_stride, s.x.at(time(t, b), order[b]), way.I * sizeof(Real));
            std::memcpy(h_prev + (row + b) * h_stride, before(t, b), way.P * sizeof(Real));
        }
        const Real** const own = rows.data() + part * s.B * 5;
        const Real **const now = own, **const soon = own + s.B, **const c_prev = soon + s.B, **const h = c_prev + s.B;
        const Real** const dy = h + s.B;
        for (Size b = 0; b < n; b++) {
            now[b] = record(t, b);
            soon[b] = record(std::max(t - 2, Size(0)), b);
            c_prev[b] = t ? record(t - 1, b) + 4 * way.H : s.c0 ? s.c0 + state(b) * way.H : zeros;
            h[b] = before(t, b);
            dy[b] = s.dy.at(time(t, b), order[b]) + direction * way.P;
        }
        Real* const d_t = d + row * d_stride;
        StepBack<Real> step{n, H, now, soon, c_prev, h, dy, dh, past_R, dc, d_reset, d_t, d_stride,
                            way.projection.blocks || way.candidate.blocks ? shown + row * H : nullptr};
        if (way.projection.blocks) {
            Real* const dh_t = dh_all + row * P;
            for (Size b = 0; b < n; b++)
                for (Size p = outputs.first * L; p < outputs.last * L; p++)
                    dh_t[b * P + p] = dh[b * P + p] + (p < way.P ? dy[b][p] : 0);
            barrier.wait();
            product(way.projection, dh_t, P, n, dm, H, units);
            step.dh = dm, step.dy = nullptr;
        }
        kernels.backward(way, step, units);
        if (way.candidate.blocks) {
            barrier.wait();
            product(way.candidate, d_t + 2 * H, d_stride, n, d_reset, H, units);
            kernels.backward_second(way, step, units);
        }
        barrier.wait();
        product(way.recurrent, d_t, d_stride, n, dh, P, outputs);
    }

    // This part's share of the gradients by weights, by n rows.
    void weights(Size n, int part, int parts) const {
        const WeightGradients<Real>& to = s.gradients[direction];
        const Size first = way.H * part / parts, units = way.H * (part + 1) / parts - first;
        for (Size gate = 0; gate < gates(way.cell); gate++) {
            const Size at = gate * way.H + first;
            const Real *const by_W = d + slot_by_W(way.cell, gate) * H + first;
            const Real *const by_R = d + slot_by_R(way.cell, gate) * H + first;
            const bool candidate = way.candidate.blocks && gate == 2;
            kernels.outer(n, by_W, d_stride, units, x, x_stride, way.I, to.W + at * way.I);
            kernels.outer(n, by_R, d_stride, units, candidate ? shown : h_prev, candidate ? H : h_stride, way.P,
                          to.R + at * way.P);
            if (to.b_W) kernels.add_rows(n, by_W, d_stride, units, to.b_W + at);
            if (to.b_R) kernels.add_rows(n, by_R, d_stride, units, to.b_R + at);
        }
        const Size p = way.P * part / parts, outputs = way.P * (part + 1) / parts - p;
        if (to.W_hr) kernels.outer(n, dh_all + p, P, outputs, shown, H, way.H, to.W_hr + p * way.H);
    }

    // This part's share of dx of steps `first` to before `end`, n rows in all. The second direction adds to dx.
    void inputs(Size first, Size end, Size n, int part, int parts) const {
        Real* const dx = products.data() + part * product_rows * I;
        Size t = end - 1, running = running_at(t), b = n * part / parts;
        while (t > first && b >= running) b -= running, running = running_at(--t);
        const Real* const by_W = d + slot_by_W(way.cell, 0) * H;
        for (Size row = n * part / parts, last = n * (part + 1) / parts; row < last;) {
            const Size some = std::min(product_rows, last - row);
            product(way.input, by_W + row * d_stride, d_stride, some, dx, I, {0, I / L});
            for (Size k = 0; k < some; k++, row++) {
                Real* const to = s.dx.at(time(t, b), order[b]);
                if (direction) for (Size i = 0; i < way.I; i++) to[i] += dx[k * I + i];
                else std::memcpy(to, dx + k * I, way.I * sizeof(Real));
                if (++b == running) b = 0, running = running_at(--t);
            }
        }
    }

    void product(const Panels<Real>& panels, const Real* a, Size a_stride, Size n, Real* to, Size to_stride,
                 Share share) const {
        kernels.product(panels, a, a_stride, n, to, to_stride, nullptr, share);
    }
    const Real* before(Size t, Size b) const {
        if (!t) return s.h0 ? s.h0 + state(b) * way.P : zeros;
        return s.y.at(time(t - 1, b), order[b]) + direction * way.P;
    }
    Size padded(Size n) const { return ceil_div(n, L) * L; }
    Size state(Size b) const { return direction * s.B + order[b]; }
    Size time(Size t, Size b) const { return direction ? lengths[b] - 1 - t : t; }
    const Real* record(Size t, Size b) const {
        return s.gates + ((direction * s.T + time(t, b)) * s.B + order[b]) * way.recorded * way.H;
    }
    Size running_at(Size t) const {
        auto running = [&](Size length) { return length > t; };
        return std::partition_point(lengths.begin(), lengths.end(), running) - lengths.begin();
    }
    bool has_past_R() const { return way.cell == Cell::gru || way.cell == Cell::gru_reset_before; }

    static constexpr Size product_rows = 96;

    const Kernels<Real>& kernels;
    const DirectionBack<Real>& way;
    const SequenceBack<Real>& s;
    const Size direction;
    const std::vector<Size>&order, &lengths;
    const Size L, I, H, P, x_stride, h_stride, d_stride, chunk_rows;  // I, H and P padded
    Buffer<Real> memory, chunk, products;
    Buffer<const Real*> rows;  // of each thread: where a step's rows stand
    Real *const dh, *const dm, *const past_R, *const dc, *const d_reset;  // of all rows, as in StepBack; dm: under W_hr
    const Real* const zeros;
    // Of a chunk's rows, with strides that are no power of two, so that caches hold many of them: d of all gates, x,
    // and h of the step before; under a projection dh; and what a second product saw
    Real *const d, *const x, *const h_prev, *const dh_all, *const shown;
};

}  // namespace onward
