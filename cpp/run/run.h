// One direction of one layer, run over the time steps of a block of rows.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "platform/interrupt.h"
#include "platform/packed.h"
#include "platform/threads.h"

namespace onward {

// The input projection is computed for this many rows at a time: enough to read its weights rarely, few enough that the
// results stay in cache.
constexpr Size rows_at_once = 96;

// Likewise for the gradients with respect to weights.
constexpr Size rows_backward_at_once = 384;

// A batch gets one more thread for every so many rows. Each thread reads all weights, which fewer rows would not repay.
constexpr Size rows_worth_a_thread = 24;

// The time steps of an array (T, B, features) from step t_first on; the last axis is contiguous. If order is not null,
// row b is at position order[b] of the array.
template <class Real>
struct Rows {
    Real* data;
    Size t_stride, b_stride, t_first = 0;
    const Size* order = nullptr;
    Real* at(Size t, Size b) const { return data + (t - t_first) * t_stride + (order ? order[b] : b) * b_stride; }
};

// Where to record each step, as backward and trace need it; null data records nothing.
template <class Real>
struct Recording {
    Rows<Real> gates{}, sums{};  // recorded*H and G*H features
};

// The multiply-adds of one row of a product, padding included.
template <class Real>
Size multiply_adds(const Panels<Real>& panels, Size L) {
    return panels.blocks * L * panels.G * panels.K;
}

// The share of one of `parts` threads in n units or rows. One thread avoids the divisions, which would delay each step.
inline Share share(Size n, int part, int parts) {
    return parts == 1 ? Share{0, n} : Share{n * part / parts, n * (part + 1) / parts};
}

// Rows are sorted by length, longest first; the first `running` rows still run at a step.
template <class Real>
class Run {
public:
    // Allocates for max_rows rows, the input projections of chunk_rows rows, and max_parts threads. `lengths` may
    // change between runs.
    Run(const Kernels<Real>& kernels, const Direction<Real>& direction, bool reverse, const std::vector<Size>& lengths,
        Size max_rows, Size chunk_rows, int max_parts)
        : kernels(kernels), d(direction), reverse(reverse), lengths(lengths), max_rows(max_rows),
          chunk_rows(std::max(chunk_rows, max_rows)),
          P(ceil_div(d.P, kernels.L) * kernels.L), H(ceil_div(d.H, kernels.L) * kernels.L),
          z_stride(d.input.blocks * d.input.G * kernels.L), first_feature(reverse ? d.P : 0),
          quantized_size(std::max({this->chunk_rows * d.input.quantized_size, max_rows * d.recurrent.quantized_size,
                                   max_rows * d.candidate.quantized_size, max_rows * d.projection.quantized_size})),
          work(multiply_adds(d.input, kernels.L) + multiply_adds(d.recurrent, kernels.L) +
               multiply_adds(d.candidate, kernels.L) + multiply_adds(d.projection, kernels.L)),
          h_size(max_rows * P), c_size(d.cell == Cell::lstm ? max_rows * H : 0),
          memory(Buffer<Real>::zeros(2 * h_size + 2 * c_size + max_rows * H)),
          chunk_memory(this->chunk_rows * (z_stride + d.I)), gate_rows(max_parts * max_rows),
          quantized(max_parts * quantized_size), h(memory.data()), c(h + 2 * h_size), second_input(c + 2 * c_size),
          z(chunk_memory.data()), x(z + this->chunk_rows * z_stride) {}

    // Row b starts at step t from row order[b] of h0 (B, P) and c0 (B, H); null: zeros.
    void start(const Real* h0, const Real* c0, const Size* order, Size t) {
        in_place = false;
        for (int place : {0, 1}) h_places[place] = h + place * h_size, c_places[place] = c + place * c_size;
        for (size_t b = 0; b < lengths.size(); b++) {
            copy_row(h_after(t) + b * P, h0 ? h0 + order[b] * d.P : nullptr, d.P);
            if (c_size) copy_row(c_after(t) + b * H, c0 ? c0 + order[b] * d.H : nullptr, d.H);
        }
    }
    // The same for a single step of consecutive rows, from order[0] on, whose states need not be copied: `finish` then
    // takes the same h_n and c_n. Returns false if these are not as the kernels take them: whole and aligned vectors.
    bool start_in_place(const Real* h0, const Real* c0, Real* h_n, Real* c_n, const Size* order, Size t) {
        const auto fits = [&](const Real* state) {
            return state && uintptr_t(state) % (size_t(kernels.L) * sizeof(Real)) == 0;
        };
        in_place = P == d.P && fits(h0) && fits(h_n) && (!c_size || (H == d.H && fits(c0) && fits(c_n)));
        if (!in_place) return false;
        h_places[t % 2] = (Real*)h0 + order[0] * P, h_places[(t + 1) % 2] = h_n + order[0] * P;
        if (c_size) c_places[t % 2] = (Real*)c0 + order[0] * H, c_places[(t + 1) % 2] = c_n + order[0] * H;
        return true;
    }

    // Runs steps t0 to t1 - 1; t0 is where the previous call ended. The reverse direction writes features P to 2P - 1.
    // In the reverse direction each row counts steps from its own end. All `parts` threads that share the barrier call
    // this, and each computes its share of the units. Returns false, after a whole step, if the call is interrupted.
    // Once the barrier dismisses the other parts, part 0 goes on alone.
    bool advance(const Rows<const Real>& in, const Rows<Real>& out, Size t0, Size t1, int part, int parts,
                 Barrier& barrier, Interrupt& interrupt, const Recording<Real>& recording) const {
        Share input = share(d.input.blocks, part, parts);
        int32_t* const own_quantized = quantized.data() + part * quantized_size;
        Real** const own_gates = gate_rows.data() + part * max_rows;
        Share units = share(d.recurrent.blocks, part, parts);
        input.following = (const std::byte*)d.recurrent.weights + units.first * d.recurrent.block_bytes;
        input.following_bytes = (units.last - units.first) * d.recurrent.block_bytes;
        const Size second_blocks = d.candidate.blocks ? d.candidate.blocks : d.projection.blocks;
        Share second = share(second_blocks, part, parts);
        const Size chunk = std::max(Size(1), chunk_rows / Size(lengths.size()));
        Size running = running_at(t0, Size(lengths.size())), work_since_poll = 0;
        for (; t0 < t1; t0 += chunk) {
            const Size end = std::min(t0 + chunk, t1);
            if (const Size stride = even_stride(in, running, end - t0)) {
                kernels.product(d.input, {in.at(time(t0, 0), 0), stride}, running * (end - t0), z, z_stride,
                                own_quantized, input);
            } else {
                const Size rows = gather(in, t0, end, running, part, parts);
                if (barrier.wait()) return false;
                kernels.product(d.input, {x, d.I}, rows, z, z_stride, own_quantized, input);
            }
            Real* z_t = z;
            for (Size t = t0; t < end; t++) {
                Real* const h_next = h_after(t + 1);
                const bool records = recording.gates.data;
                for (Size b = 0; records && b < running; b++) own_gates[b] = recording.gates.at(time(t, b), b);
                const Step<Real> step{running, z_t, h_after(t), h_next, c_after(t), c_after(t + 1), second_input,
                                      own_quantized, records ? own_gates : nullptr};
                units.backward = second.backward = t % 2 == 1;
                kernels.gates(d, step, units);
                if (d.candidate.blocks || d.projection.blocks) {
                    if (barrier.wait()) return false;
                    kernels.second_product(d, step, second);
                }
                copy_sums(recording.sums, z_t, t, running, part, parts);
                work_since_poll += running * work;
                bool stop = false;
                if (part == 0 && work_since_poll > work_per_poll) stop = interrupt.requested(), work_since_poll = 0;
                stop = barrier.wait(stop);
                if (parts > 1 && barrier.dismissed()) {
                    if (part > 0) return true;
                    barrier.parties = parts = 1;
                    input.last = d.input.blocks, units.last = d.recurrent.blocks, second.last = second_blocks;
                }
                for_rows(out, t, running, part, parts, [&](Real* row, Size stride, Size b, Size n) {
                    copy_rows(row + first_feature, stride, h_next + b * P, P, n, d.P);
                });
                z_t += running * z_stride;
                running = running_at(t + 1, running);
                if (stop) return false;
            }
        }
        return true;
    }

    // Copies the state of row b after t steps, or all of its own, to row order[b] of h_n (B, P) and c_n (B, H), which
    // may be null.
    void finish(Real* h_n, Real* c_n, const Size* order, Size t) const {
        if (in_place) return;
        for (size_t b = 0; b < lengths.size(); b++) {
            const Size last = std::min(t, lengths[b]);
            copy_row(h_n + order[b] * d.P, h_after(last) + b * P, d.P);
            if (c_n) copy_row(c_n + order[b] * d.H, c_after(last) + b * H, d.H);
        }
    }

private:
    // The memory of the state after t steps.
    Real* h_after(Size t) const { return h_places[t % 2]; }
    Real* c_after(Size t) const { return c_places[t % 2]; }

    static void copy_row(Real* to, const Real* from, Size n) {
        if (from)
            std::memcpy(to, from, n * sizeof(Real));
        else
            std::memset(to, 0, n * sizeof(Real));
    }
    static void copy_rows(Real* to, Size to_stride, const Real* from, Size from_stride, Size rows, Size n) {
        if (to_stride == n && from_stride == n) return copy_row(to, from, rows * n);
        for (Size row = 0; row < rows; row++) copy_row(to + row * to_stride, from + row * from_stride, n);
    }
    // The distance between consecutive rows of the next steps, taken step by step; 0 if it is not constant.
    Size even_stride(const Rows<const Real>& in, Size rows, Size steps) const {
        if (in.order || lengths.front() != lengths.back()) return 0;
        if (rows == 1 && steps > 1) return reverse ? -in.t_stride : in.t_stride;
        return steps == 1 || (!reverse && in.t_stride == rows * in.b_stride) ? in.b_stride : 0;
    }
    // Copies this part's share of the rows of steps t0 to t1 - 1 to x, step by step. Returns the number of all rows.
    Size gather(const Rows<const Real>& in, Size t0, Size t1, Size running, int part, int parts) const {
        Size rows = 0;
        for (Size t = t0; t < t1; running = running_at(++t, running)) {
            for_rows(in, t, running, part, parts, [&](const Real* row, Size stride, Size b, Size n) {
                copy_rows(x + (rows + b) * d.I, d.I, row, stride, n, d.I);
            });
            rows += running;
        }
        return rows;
    }
    // Calls body(memory of row b, stride, b, n) for this part's share of the rows at step t: once for all n rows if
    // they are evenly spaced, else row by row.
    template <class Array, class Body>
    void for_rows(const Array& array, Size t, Size rows, int part, int parts, Body body) const {
        const Share own = share(rows, part, parts);
        const bool even = !array.order && (!reverse || lengths.front() == lengths.back());
        const Size piece = even ? own.last - own.first : 1;
        for (Size b = own.first; b < own.last; b += piece) body(array.at(time(t, b), b), array.b_stride, b, piece);
    }
    // Copies the sums that this part computed at step t from [blocks][G][L] to (G, H).
    void copy_sums(const Rows<Real>& to, const Real* from, Size t, Size rows, int part, int parts) const {
        if (!to.data) return;
        const Size L = kernels.L, G = d.input.G, blocks = H / L;
        const Share own = share(blocks, part, parts);
        for (Size b = 0; b < rows; b++)
            for (Size block = own.first; block < own.last; block++)
                for (Size g = 0; g < G; g++)
                    copy_row(to.at(time(t, b), b) + g * d.H + block * L, from + ((b * blocks + block) * G + g) * L,
                             std::min(L, d.H - block * L));
    }
    Size time(Size t, Size b) const { return reverse ? lengths[b] - 1 - t : t; }
    Size running_at(Size t, Size at_most) const {
        while (at_most > 0 && lengths[at_most - 1] <= t) at_most--;
        return at_most;
    }

    const Kernels<Real>& kernels;
    const Direction<Real>& d;
    const bool reverse;
    const std::vector<Size>& lengths;
    const Size max_rows, chunk_rows, P, H, z_stride;  // P and H padded to whole blocks
    const Size first_feature;                         // an index into the output
    const Size quantized_size;                        // per thread
    const Size work;                                  // multiply-adds per row and step
    const Size h_size, c_size;                        // numbers in a state; 0: the cell has no c
    Buffer<Real> memory, chunk_memory;
    Buffer<Real*> gate_rows;    // per thread: where to record the gates of each row
    Buffer<int32_t> quantized;  // per thread: quantized rows
    Real *const h, *const c, *const second_input, *const z, *const x;  // h and c: two states
    Real *h_places[2]{}, *c_places[2]{};
    bool in_place = false;
};

}  // namespace onward
