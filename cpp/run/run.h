// One direction of a layer on a block of rows, from time step to time step.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "platform/packed.h"
#include "platform/threads.h"

namespace onward {

// Rows whose input projection is computed at once: enough to read its weights rarely, few enough to stay in cache.
constexpr Size rows_at_once = 96;

// Rows whose gradients by weights are computed at once, likewise.
constexpr Size rows_back_at_once = 384;

// From this many rows a thread works on rows of its own, although each then reads all weights.
constexpr Size rows_worth_a_thread = 24;

// Time steps of an array (T, B, features) whose last axis is contiguous, from the step t_first on, its rows in another
// order unless that is null.
template <class Real>
struct Rows {
    Real* data;
    Size t_stride, b_stride, t_first = 0;
    const Size* order = nullptr;
    Real* at(Size t, Size b) const { return data + (t - t_first) * t_stride + (order ? order[b] : b) * b_stride; }
};

// Where a run leaves what it records of each step, or nothing where data is null: arrays (T, B, features).
template <class Real>
struct Record {
    Rows<Real> gates{}, sums{};  // recorded*H and G*H features
};

// One direction on one block of rows, longest row first, from time step to time step. h of step t is in buffer t % 2.
template <class Real>
class Run {
public:
    // For up to max_rows rows, with room for the input projections of chunk_rows, for up to max_parts threads.
    Run(const Kernels<Real>& kernels, const Direction<Real>& direction, bool reverse, const std::vector<Size>& lengths,
        Size max_rows, Size chunk_rows, int max_parts)
        : kernels(kernels), d(direction), reverse(reverse), lengths(lengths), max_rows(max_rows),
          chunk_rows(std::max(chunk_rows, max_rows)),
          P(ceil_div(d.P, kernels.L) * kernels.L), H(ceil_div(d.H, kernels.L) * kernels.L),
          z_stride(d.input.blocks * d.input.G * kernels.L),
          quantized_size(std::max({this->chunk_rows * d.input.quantized_size, max_rows * d.recurrent.quantized_size,
                                   max_rows * d.candidate.quantized_size, max_rows * d.projection.quantized_size})),
          memory(Buffer<Real>::zeros(max_rows * (2 * P + 2 * H))), chunk_memory(this->chunk_rows * (z_stride + d.I)),
          gates(max_parts * max_rows), quantized(max_parts * quantized_size),
          h{memory.data(), memory.data() + max_rows * P},
          c(h[1] + max_rows * P), scratch(c + max_rows * H), z(chunk_memory.data()),
          x(z + this->chunk_rows * z_stride) {}

    // order[b]: the row of h0 and c0 (B, ...) that row b starts from; null: zeros.
    void start(const Real* h0, const Real* c0, const Size* order, Size t = 0) {
        for (size_t b = 0; b < lengths.size(); b++) {
            copy_row(h[t % 2] + b * P, h0 ? h0 + order[b] * d.P : nullptr, d.P);
            copy_row(c + b * H, c0 ? c0 + order[b] * d.H : nullptr, d.H);
            copy_row(h[(t + 1) % 2] + b * P, h[t % 2] + b * P, d.P);  // for rows that end before their first step
        }
    }

    // Steps t0 to t1, each row counting from its own end in the reverse direction; a call goes on where the last one
    // ended. Called by `parts` threads that meet at the barrier; each computes its share of the units.
    void advance(const Rows<const Real>& in, const Rows<Real>& out, Size t0, Size t1, int part, int parts,
                 Barrier& barrier, const Record<Real>& record = {}) const {
        // Shares are divided up once: a division before each product would hold it up.
        auto share = [&](const Panels<Real>& panels) {
            return Share{panels.blocks * part / parts, panels.blocks * (part + 1) / parts};
        };
        const Share input = share(d.input);
        int32_t* const own_quantized = quantized.data() + part * quantized_size;
        Real** const own_gates = gates.data() + part * max_rows;
        Share units = share(d.recurrent), second = share(d.candidate.blocks ? d.candidate : d.projection);
        const Size chunk = std::max(Size(1), chunk_rows / Size(lengths.size()));
        Size active = running_at(t0, Size(lengths.size()));
        for (; t0 < t1; t0 += chunk) {
            const Size end = std::min(t0 + chunk, t1);
            if (const Size stride = even_stride(in, active, end - t0)) {
                kernels.product(d.input, in.at(time(t0, 0), 0), stride, active * (end - t0), z, z_stride, own_quantized,
                                input);
            } else {
                const Size rows = gather(in, t0, end, active, part, parts);
                barrier.wait();
                kernels.product(d.input, x, d.I, rows, z, z_stride, own_quantized, input);
            }
            Real* z_t = z;
            for (Size t = t0; t < end; t++) {
                Real* const h_next = h[(t + 1) % 2];
                for (Size b = 0; record.gates.data && b < active; b++) own_gates[b] = record.gates.at(time(t, b), b);
                const Step<Real> step{active, z_t, h[t % 2], h_next, c, scratch, own_quantized,
                                      record.gates.data ? own_gates : nullptr};
                units.backward = second.backward = t % 2 == 1;
                kernels.gates(d, step, units);
                if (d.candidate.blocks || d.projection.blocks) {
                    barrier.wait();
                    kernels.second(d, step, second);
                }
                // each part the units that it computed
                copy_units(record.sums, z_t, d.input.G, t, active, part, parts);
                barrier.wait();
                for_rows(out, t, active, part, parts, [&](Real* row, Size stride, Size b, Size n) {
                    copy_rows(row, stride, h_next + b * P, P, n, d.P);
                });
                z_t += active * z_stride;
                // A row that ends here stands still: its state is the same in both buffers.
                const Size still = running_at(t + 1, active);
                if (part == 0) copy_rows(h[t % 2] + still * P, P, h_next + still * P, P, active - still, d.P);
                active = still;
            }
        }
    }

    // The state after step t - 1.
    void finish(Real* h_n, Real* c_n, const Size* order, Size t) const {
        for (size_t b = 0; b < lengths.size(); b++) {
            copy_row(h_n + order[b] * d.P, h[t % 2] + b * P, d.P);
            if (c_n) copy_row(c_n + order[b] * d.H, c + b * H, d.H);
        }
    }

private:
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
    // How far apart the rows of some steps from here on lie, one step's after the other's, where it is the same
    // throughout; else 0.
    Size even_stride(const Rows<const Real>& in, Size rows, Size steps) const {
        if (in.order || lengths.front() != lengths.back()) return 0;
        if (rows == 1) return reverse ? -in.t_stride : in.t_stride;
        return steps == 1 || (!reverse && in.t_stride == rows * in.b_stride) ? in.b_stride : 0;
    }
    // Copies this part's share of the rows of steps t0 to t1 to x, step after step; returns the number of all.
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
    // Calls body(first row's memory, stride, b, n) for this part's share of the rows at step t: all n in one piece
    // where they are evenly spaced, else one by one.
    template <class Array, class Body>
    void for_rows(const Array& array, Size t, Size rows, int part, int parts, Body body) const {
        const Size first = rows * part / parts, last = rows * (part + 1) / parts;
        const bool even = !array.order && (!reverse || lengths.front() == lengths.back());
        const Size piece = even ? last - first : 1;
        for (Size b = first; b < last; b += piece) body(array.at(time(t, b), b), array.b_stride, b, piece);
    }
    // To an array whose rows are (n, H) from one whose rows are [blocks][n][L]: this part's blocks of step t.
    void copy_units(const Rows<Real>& to, const Real* from, Size n, Size t, Size rows, int part, int parts) const {
        if (!to.data) return;
        const Size L = kernels.L, blocks = H / L;
        for (Size b = 0; b < rows; b++)
            for (Size block = blocks * part / parts; block < blocks * (part + 1) / parts; block++)
                for (Size k = 0; k < n; k++)
                    copy_row(to.at(time(t, b), b) + k * d.H + block * L, from + ((b * blocks + block) * n + k) * L,
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
    const Size max_rows, chunk_rows, P, H, z_stride;  // P and H padded
    const Size quantized_size;              // of each thread
    Buffer<Real> memory, chunk_memory;
    Buffer<Real*> gates;  // of each thread: where it records each row's gates
    Buffer<int32_t> quantized;
    Real *const h[2], *const c, *const scratch, *const z, *const x;
};

}  // namespace onward
