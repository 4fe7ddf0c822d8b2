// One direction of one layer, run backward over the time steps of all rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "platform/interrupt.h"
#include "platform/packed.h"
#include "platform/threads.h"
#include "run/run.h"
#include "run/stack.h"

namespace onward {

// The gradients with respect to the weights of one direction, to which a call adds. Biases and W_hr may be null.
template <class Real>
struct WeightGradients {
    Real *W, *R;      // (G*H, I), (G*H, P)
    Real *b_W, *b_R;  // (G*H)
    Real* W_hr;       // (P, H)
};

// The arguments and results of one call: sequences (T, B, features); states and recordings of all directions. Initial
// states, gradients of final states, lengths, and whatever the cell does not have may be null.
template <class Real>
struct SequenceBackward {
    Size T, B;
    Rows<const Real> dy, x, y;  // dy and y: D*P features
    const Real *h0, *c0, *dh_n, *dc_n;
    const int64_t* lengths;
    const Real* gates;      // as recorded by the forward call
    Rows<Real> dx;          // left unchanged past a row's length
    Real *dh0, *dc0;
    std::vector<WeightGradients<Real>> gradients;  // one per direction
};

// The gradients with respect to the sums of a step are stored gate by gate. These are the positions of the gradients
// with respect to W x + b_W and to R h + b_R. They differ for a GRU that resets after the product, whose candidate
// needs both.
inline Size position_W(Cell cell, Size gate) { return cell == Cell::gru ? gate + 1 : gate; }
inline Size position_R(Cell cell, Size gate) { return cell == Cell::gru ? (gate + 1) % 3 : gate; }

// Rows are sorted by length, longest first. In the reverse direction each row counts steps from its own end. The rows
// of a chunk of steps are numbered from the last step to the first; `row` is such a number.
template <class Real>
class RunBackward {
public:
    RunBackward(const Kernels<Real>& kernels, const DirectionBackward<Real>& direction,
                const SequenceBackward<Real>& sequence, Size index, const std::vector<Size>& order,
                const std::vector<Size>& lengths, int parts)
        : kernels(kernels), direction(direction), s(sequence), index(index), order(order), lengths(lengths),
          L(kernels.L), I(padded(direction.I)), H(padded(direction.H)), P(padded(direction.P)), x_stride(I + L),
          h_stride(P + L), d_stride((position_W(direction.cell, gates(direction.cell) - 1) + 1) * H + L),
          chunk_rows(std::max(s.B, std::min(rows_backward_at_once, s.T * s.B))),
          work(multiply_adds(direction.input, L) + multiply_adds(direction.recurrent, L) +
               multiply_adds(direction.candidate, L) + multiply_adds(direction.projection, L)),
          memory(Buffer<Real>::zeros(s.B * (P + 4 * H) + std::max(H, P))),
          chunk(chunk_rows * (d_stride + x_stride + h_stride + P + H)), products(parts * product_rows * I),
          row_pointers(parts * s.B * 5), dh(memory.data()), dm(dh + s.B * P), dh_direct(dm + s.B * H),
          dc(dh_direct + s.B * H), d_reset(dc + s.B * H), zeros(d_reset + s.B * H), d(chunk.data()),
          x(d + chunk_rows * d_stride), h_prev(x + chunk_rows * x_stride), dh_all(h_prev + chunk_rows * h_stride),
          second_input(dh_all + chunk_rows * P) {
        for (Size b = 0; b < s.B; b++) {
            if (s.dh_n) std::memcpy(dh + b * P, s.dh_n + state(b) * direction.P, direction.P * sizeof(Real));
            if (s.dc_n) std::memcpy(dc + b * H, s.dc_n + state(b) * direction.H, direction.H * sizeof(Real));
        }
    }

    // All `parts` threads that share the barrier call this, and each computes its share of the units. Returns false if
    // the call is interrupted; the results are then incomplete.
    bool run(int part, int parts, Barrier& barrier, Interrupt& interrupt) const {
        for (Size end = lengths[0], first; end > 0; end = first) {
            first = end - 1;
            Size n = running_at(first);
            while (first > 0 && n + running_at(first - 1) <= chunk_rows) n += running_at(--first);
            Size row = 0, work_since_poll = 0;
            for (Size t = end - 1; t >= first; row += running_at(t--)) {
                work_since_poll += running_at(t) * work;
                bool poll = part == 0 && work_since_poll > work_per_poll;
                if (poll) work_since_poll = 0;
                if (!step(t, row, part, parts, barrier, poll && interrupt.requested())) return false;
            }
            add_weight_gradients(n, part, parts, interrupt);
            add_input_gradients(first, end, n, part, parts, interrupt);
            if (barrier.wait(part == 0 && interrupt.requested())) return false;
        }
        for (Size b = s.B * part / parts; b < s.B * (part + 1) / parts; b++) {
            for (Size p = 0; p < direction.P; p++)
                s.dh0[state(b) * direction.P + p] = dh[b * P + p] + (has_dh_direct() ? dh_direct[b * H + p] : 0);
            if (s.dc0) std::memcpy(s.dc0 + state(b) * direction.H, dc + b * H, direction.H * sizeof(Real));
        }
        return true;
    }

private:
    // One step whose first row is `row`: the gradients with respect to its sums, then dh of the step before through R.
    // Returns false if any part passes stop = true.
    bool step(Size t, Size row, int part, int parts, Barrier& barrier, bool stop) const {
        const Size n = running_at(t);
        const Share units{H / L * part / parts, H / L * (part + 1) / parts};
        const Share outputs{P / L * part / parts, P / L * (part + 1) / parts};
        for (Size b = n * part / parts; b < n * (part + 1) / parts; b++) {
            std::memcpy(x + (row + b) * x_stride, s.x.at(time(t, b), order[b]), direction.I * sizeof(Real));
            std::memcpy(h_prev + (row + b) * h_stride, h_before(t, b), direction.P * sizeof(Real));
        }
        const Real **const record = row_pointers.data() + part * s.B * 5, **const prefetch = record + s.B;
        const Real **const c_prev = prefetch + s.B, **const h = c_prev + s.B, **const dy = h + s.B;
        for (Size b = 0; b < n; b++) {
            record[b] = record_of(t, b);
            prefetch[b] = record_of(std::max(t - 2, Size(0)), b);
            c_prev[b] = t    ? record_of(t - 1, b) + 4 * direction.H
                        : s.c0 ? s.c0 + state(b) * direction.H
                               : zeros;
            h[b] = h_before(t, b);
            dy[b] = s.dy.at(time(t, b), order[b]) + index * direction.P;
        }
        Real* const d_t = d + row * d_stride;
        const bool has_second_product = direction.projection.blocks || direction.candidate.blocks;
        StepBackward<Real> step{n, H, record, prefetch, c_prev, h, dy, dh, dh_direct, dc, d_reset, d_t, d_stride,
                                has_second_product ? second_input + row * H : nullptr};
        if (direction.projection.blocks) {
            Real* const dh_t = dh_all + row * P;
            for (Size b = 0; b < n; b++)
                for (Size p = outputs.first * L; p < outputs.last * L; p++)
                    dh_t[b * P + p] = dh[b * P + p] + (p < direction.P ? dy[b][p] : 0);
            if (barrier.wait()) return false;
            product(direction.projection, dh_t, P, n, dm, H, units);
            step.dh = dm, step.dy = nullptr;
        }
        kernels.training.backward(direction, step, units);
        if (direction.candidate.blocks) {
            if (barrier.wait()) return false;
            product(direction.candidate, d_t + 2 * H, d_stride, n, d_reset, H, units);
            kernels.training.backward_reset(direction, step, units);
        }
        if (barrier.wait(stop)) return false;
        product(direction.recurrent, d_t, d_stride, n, dh, P, outputs);
        return true;
    }

    // Adds this part's share of the gradients with respect to the weights, from the n rows of a chunk.
    void add_weight_gradients(Size n, int part, int parts, Interrupt& interrupt) const {
        const WeightGradients<Real>& to = s.gradients[index];
        const Size first = direction.H * part / parts, units = direction.H * (part + 1) / parts - first;
        for (Size gate = 0; gate < gates(direction.cell) && !interrupt.requested(); gate++) {
            const Size at = gate * direction.H + first;
            const Real *const d_W = d + position_W(direction.cell, gate) * H + first;
            const Real *const d_R = d + position_R(direction.cell, gate) * H + first;
            const bool candidate = direction.candidate.blocks && gate == 2;
            kernels.training.outer(n, d_W, d_stride, units, x, x_stride, direction.I, to.W + at * direction.I);
            kernels.training.outer(n, d_R, d_stride, units, candidate ? second_input : h_prev, candidate ? H : h_stride,
                          direction.P, to.R + at * direction.P);
            if (to.b_W) kernels.training.add_rows(n, d_W, d_stride, units, to.b_W + at);
            if (to.b_R) kernels.training.add_rows(n, d_R, d_stride, units, to.b_R + at);
        }
        const Size p = direction.P * part / parts, outputs = direction.P * (part + 1) / parts - p;
        if (to.W_hr)
            kernels.training.outer(n, dh_all + p, P, outputs, second_input, H, direction.H, to.W_hr + p * direction.H);
    }

    // Computes this part's share of dx, from the n rows of the chunk of steps `first` to end - 1. The second direction
    // adds to the dx of the first.
    void add_input_gradients(Size first, Size end, Size n, int part, int parts, Interrupt& interrupt) const {
        Real* const dx = products.data() + part * product_rows * I;
        Size t = end - 1, running = running_at(t), b = n * part / parts;
        while (t > first && b >= running) b -= running, running = running_at(--t);
        const Real* const d_W = d + position_W(direction.cell, 0) * H;
        for (Size row = n * part / parts, last = n * (part + 1) / parts; row < last && !interrupt.requested();) {
            const Size rows = std::min(product_rows, last - row);
            product(direction.input, d_W + row * d_stride, d_stride, rows, dx, I, {0, I / L});
            for (Size k = 0; k < rows; k++, row++) {
                Real* const to = s.dx.at(time(t, b), order[b]);
                if (index) for (Size i = 0; i < direction.I; i++) to[i] += dx[k * I + i];
                else std::memcpy(to, dx + k * I, direction.I * sizeof(Real));
                if (++b == running) b = 0, running = running_at(--t);
            }
        }
    }

    void product(const Panels<Real>& panels, const Real* a, Size a_stride, Size n, Real* to, Size to_stride,
                 Share share) const {
        kernels.product(panels, {a, a_stride}, n, to, to_stride, nullptr, share);
    }
    const Real* h_before(Size t, Size b) const {
        if (!t) return s.h0 ? s.h0 + state(b) * direction.P : zeros;
        return s.y.at(time(t - 1, b), order[b]) + index * direction.P;
    }
    Size padded(Size n) const { return ceil_div(n, L) * L; }
    Size state(Size b) const { return index * s.B + order[b]; }
    Size time(Size t, Size b) const { return index ? lengths[b] - 1 - t : t; }
    const Real* record_of(Size t, Size b) const {
        return s.gates + ((index * s.T + time(t, b)) * s.B + order[b]) * direction.recorded * direction.H;
    }
    Size running_at(Size t) const {
        auto running = [&](Size length) { return length > t; };
        return std::partition_point(lengths.begin(), lengths.end(), running) - lengths.begin();
    }
    bool has_dh_direct() const { return direction.cell == Cell::gru || direction.cell == Cell::gru_reset_before; }

    static constexpr Size product_rows = 96;

    const Kernels<Real>& kernels;
    const DirectionBackward<Real>& direction;
    const SequenceBackward<Real>& s;
    const Size index;  // 0: forward, 1: reverse
    const std::vector<Size>&order, &lengths;
    const Size L, I, H, P;  // I, H and P padded to whole blocks
    const Size x_stride, h_stride, d_stride;  // no powers of two, so that caches hold many rows
    const Size chunk_rows, work;              // work: multiply-adds per row and step
    Buffer<Real> memory, chunk, products;
    Buffer<const Real*> row_pointers;  // per thread: the rows of the current step
    // For all rows, as in StepBackward; dm is dh before the projection.
    Real *const dh, *const dm, *const dh_direct, *const dc, *const d_reset;
    const Real* const zeros;
    // For the rows of a chunk: gradients with respect to the sums, x, h of the step before, dh of a layer with a
    // projection, and the inputs of the second products.
    Real *const d, *const x, *const h_prev, *const dh_all, *const second_input;
};

}  // namespace onward
