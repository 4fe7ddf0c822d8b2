// Packs weights into panels and runs layers over time: rows by blocks, time by chunks, layer by layer, and each part by
// the threads of a team.
#include "stack.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>

#include "denormals.h"
#include "dispatch.h"
#include "threads.h"

namespace onward {

// Rows whose input projection is computed at once: enough to read its weights rarely, few enough to stay in cache.
constexpr long rows_at_once = 96;

// From this many rows a thread works on rows of its own, although each then reads all weights.
constexpr long rows_worth_a_thread = 24;

// Multiply-adds of a time step from which sharing it is worth meeting at a barrier.
constexpr long work_worth_a_barrier = 10'000;

constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }

long gates(Cell cell) {
    switch (cell) {
        case Cell::rnn_tanh:
        case Cell::rnn_relu: return 1;
        case Cell::lstm: return 4;
        case Cell::gru:
        case Cell::gru_reset_before: return 3;
    }
    return 0;
}

template <class Real>
Packed<Real>::Packed(const Real* matrix, const Real* bias, long G, long N, long K, long L)
    : Panels<Real>{G, K, ceil_div(N, L)}, memory(Buffer<Real>::zeros(this->blocks * (K + 1) * G * L)) {
    Real* const weights = memory.data();
    Real* const biases = weights + this->blocks * K * G * L;
    for (long g = 0; g < G; g++)
        for (long n = 0; n < N; n++) {
            const long block = n / L, lane = n % L;
            for (long k = 0; k < K; k++) weights[((block * K + k) * G + g) * L + lane] = matrix[(g * N + n) * K + k];
            if (bias) biases[(block * G + g) * L + lane] = bias[g * N + n];
        }
    this->weights = weights;
    this->bias = biases;
}

// One direction on one block of rows, longest row first, from time step to time step. h of step t stands in buffer t % 2.
template <class Real>
class Run {
public:
    // For up to max_rows rows, with room for the input projections of chunk_rows.
    Run(const Kernels<Real>& kernels, const Direction<Real>& direction, bool reverse, const std::vector<long>& lengths,
        long max_rows, long chunk_rows)
        : kernels(kernels), d(direction), reverse(reverse), lengths(lengths), chunk_rows(std::max(chunk_rows, max_rows)),
          P(ceil_div(d.P, kernels.L) * kernels.L), H(ceil_div(d.H, kernels.L) * kernels.L),
          z_stride(d.input.blocks * d.input.G * kernels.L), memory(Buffer<Real>::zeros(max_rows * (2 * P + 2 * H))),
          chunk_memory(this->chunk_rows * (z_stride + d.I)), h{memory.data(), memory.data() + max_rows * P},
          c(h[1] + max_rows * P), scratch(c + max_rows * H), z(chunk_memory.data()), x(z + this->chunk_rows * z_stride) {}

    // order[b]: the row of h0 and c0 (B, ...) that row b starts from; null: zeros.
    void start(const Real* h0, const Real* c0, const long* order, long t = 0) {
        for (size_t b = 0; b < lengths.size(); b++) {
            copy_row(h[t % 2] + b * P, h0 ? h0 + order[b] * d.P : nullptr, d.P);
            copy_row(c + b * H, c0 ? c0 + order[b] * d.H : nullptr, d.H);
            copy_row(h[(t + 1) % 2] + b * P, h[t % 2] + b * P, d.P);  // for rows that end before their first step
        }
    }

    // Steps t0 to t1, each row counting from its own end in the reverse direction; a call goes on where the last one
    // ended. Called by `parts` threads that meet at the barrier; each computes its share of the units.
    void advance(const Rows<const Real>& in, const Rows<Real>& out, long t0, long t1, int part, int parts,
                 Barrier& barrier) const {
        const long chunk = std::max(1L, chunk_rows / long(lengths.size()));
        long active = running_at(t0, long(lengths.size()));
        for (; t0 < t1; t0 += chunk) {
            const long end = std::min(t0 + chunk, t1);
            long rows = 0;
            for (long t = t0, running = active; t < end; running = running_at(++t, running)) {
                for_rows(in, t, running, part, parts, [&](const Real* row, long stride, long b, long n) {
                    copy_rows(x + (rows + b) * d.I, d.I, row, stride, n, d.I);
                });
                rows += running;
            }
            barrier.wait();
            kernels.product(d.input, x, d.I, rows, z, z_stride, {part, parts});
            const Real* z_t = z;
            for (long t = t0; t < end; t++) {
                Real* const h_next = h[(t + 1) % 2];
                const Step<Real> step{active, z_t, h[t % 2], h_next, c, scratch};
                const Share share{part, parts, t % 2 == 1};
                kernels.gates(d, step, share);
                if (d.candidate.blocks || d.projection.blocks) {
                    barrier.wait();
                    kernels.second(d, step, share);
                }
                barrier.wait();
                for_rows(out, t, active, part, parts, [&](Real* row, long stride, long b, long n) {
                    copy_rows(row, stride, h_next + b * P, P, n, d.P);
                });
                z_t += active * z_stride;
                // A row that ends here stands still: its state is the same in both buffers.
                const long still = running_at(t + 1, active);
                if (part == 0) copy_rows(h[t % 2] + still * P, P, h_next + still * P, P, active - still, d.P);
                active = still;
            }
        }
    }

    // The state after step t - 1.
    void finish(Real* h_n, Real* c_n, const long* order, long t) const {
        for (size_t b = 0; b < lengths.size(); b++) {
            copy_row(h_n + order[b] * d.P, h[t % 2] + b * P, d.P);
            if (c_n) copy_row(c_n + order[b] * d.H, c + b * H, d.H);
        }
    }

private:
    static void copy_row(Real* to, const Real* from, long n) {
        if (from)
            std::memcpy(to, from, n * sizeof(Real));
        else
            std::memset(to, 0, n * sizeof(Real));
    }
    static void copy_rows(Real* to, long to_stride, const Real* from, long from_stride, long rows, long n) {
        if (to_stride == n && from_stride == n) return copy_row(to, from, rows * n);
        for (long row = 0; row < rows; row++) copy_row(to + row * to_stride, from + row * from_stride, n);
    }
    // Calls body(first row's memory, stride, b, n) for this part's share of the rows at step t: all n in one piece where
    // they are evenly spaced, else one by one.
    template <class Array, class Body>
    void for_rows(const Array& array, long t, long rows, int part, int parts, Body body) const {
        const long first = rows * part / parts, last = rows * (part + 1) / parts;
        const bool even = !array.order && (!reverse || lengths.front() == lengths.back());
        const long piece = even ? last - first : 1;
        for (long b = first; b < last; b += piece) body(array.at(time(t, b), b), array.b_stride, b, piece);
    }
    long time(long t, long b) const { return reverse ? lengths[b] - 1 - t : t; }
    long running_at(long t, long at_most) const {
        while (at_most > 0 && lengths[at_most - 1] <= t) at_most--;
        return at_most;
    }

    const Kernels<Real>& kernels;
    const Direction<Real>& d;
    const bool reverse;
    const std::vector<long>& lengths;
    const long chunk_rows, P, H, z_stride;  // P and H padded
    Buffer<Real> memory, chunk_memory;
    Real *const h[2], *const c, *const scratch, *const z, *const x;
};

// Threads that take a block of rows through all layers together. Each direction has threads of its own where there are
// enough; those of one direction share its units.
template <class Real>
class Team {
public:
    Team(const Stack<Real>& stack, long longest, long max_rows, int threads)
        : s(stack), all(threads) {
        lengths.reserve(max_rows);
        const int groups = std::min(int(s.D), threads);
        for (int group = 0; group < groups; group++)
            barriers.push_back(std::make_unique<Barrier>((threads + groups - 1 - group) / groups));
        for (long i = 0; i < long(s.directions.size()); i++)
            runs.emplace_back(s.kernels, s.directions[i], i % s.D == 1, lengths, max_rows,
                              std::min(rows_at_once, longest * max_rows));
        // Layers of one direction take turns at a chunk of time; a reverse direction needs all of the layer below.
        chunk = s.D == 1 ? std::max(1L, rows_at_once / max_rows) : std::max(1L, longest);
        for (int i = 0; i < 2; i++)
            between[i] = Buffer<Real>(s.layers > i + 1 ? std::min(chunk, longest) * max_rows * s.D * s.P : 0);
    }

    // Called by each of the team's threads.
    void forward(const Sequence<Real>& q, const long* order, long rows, int part, int threads) {
        if (part == 0) start(q, order, rows);
        all.wait();
        const int groups = int(barriers.size()), group = part % groups;
        const int group_part = part / groups, group_parts = (threads + groups - 1 - group) / groups;
        const long longest = lengths[0];
        for (long t0 = 0; t0 < longest; t0 += chunk) {
            const long t1 = std::min(t0 + chunk, longest);
            auto after = [&](long layer) {
                return Rows<Real>{between[layer % 2].data(), rows * s.D * s.P, s.D * s.P, t0};
            };
            for (long layer = 0; layer < s.layers; layer++) {
                const bool first = layer == 0, last = layer == s.layers - 1;
                const Rows<const Real> in = first ? block(q.x, q, order) : as_input(after(layer - 1));
                const Rows<Real> out = last ? block(q.y, q, order) : after(layer);
                for (long direction = group; direction < s.D; direction += groups) {
                    Rows<Real> half = out;
                    half.data += direction * s.P;
                    runs[layer * s.D + direction].advance(in, half, t0, t1, group_part, group_parts, *barriers[group]);
                }
                all.wait();
            }
        }
        if (part == 0)
            for (long i = 0; i < long(runs.size()); i++)
                runs[i].finish(q.h_n + i * q.B * s.P, q.c_n ? q.c_n + i * q.B * s.H : nullptr, order, longest);
        all.wait();
    }

private:
    // This block's rows of a whole array.
    template <class Number>
    static Rows<Number> block(Rows<Number> whole, const Sequence<Real>& q, const long* order) {
        if (q.lengths)
            whole.order = order;
        else
            whole.data += order[0] * whole.b_stride;  // the rows are in their own order, one after another
        return whole;
    }

    static Rows<const Real> as_input(const Rows<Real>& rows) {
        return {rows.data, rows.t_stride, rows.b_stride, rows.t_first};
    }

    void start(const Sequence<Real>& q, const long* order, long rows) {
        lengths.resize(rows);
        for (long b = 0; b < rows; b++) {
            lengths[b] = q.lengths ? q.lengths[order[b]] : q.T;
            for (long t = lengths[b]; t < q.T; t++)
                std::memset(q.y.at(t, order[b]), 0, s.D * s.P * sizeof(Real));
        }
        for (long i = 0; i < long(runs.size()); i++)
            runs[i].start(q.h0 ? q.h0 + i * q.B * s.P : nullptr, q.c0 ? q.c0 + i * q.B * s.H : nullptr, order);
    }

    const Stack<Real>& s;
    std::vector<long> lengths;
    std::vector<Run<Real>> runs;
    Buffer<Real> between[2];
    long chunk;
    Barrier all;
    std::vector<std::unique_ptr<Barrier>> barriers;  // one for each group of threads that shares a direction
};

template <class Real>
Stack<Real>::Stack(Cell cell, const std::vector<Weights<Real>>& weights, long num_directions)
    : cell(cell), I(weights[0].I), H(weights[0].H), P(weights[0].P), D(num_directions),
      layers(long(weights.size()) / D), kernels(onward::kernels<Real>()) {
    const long G = gates(cell), L = kernels.L;
    auto pack = [&](const Real* matrix, const Real* bias, long G, long N, long K) -> const Panels<Real>& {
        return packed.emplace_back(matrix, bias, G, N, K, L);
    };
    for (const Weights<Real>& w : weights) {
        Direction<Real> d{cell, w.I, w.H, w.P, pack(w.W, w.b_W, G, w.H, w.I), {}, {}, {}};
        const long first = cell == Cell::gru_reset_before ? 2 : G;  // gates of the first product
        d.recurrent = pack(w.R, w.b_R, first, w.H, w.P);
        if (first < G) d.candidate = pack(w.R + 2 * w.H * w.P, w.b_R ? w.b_R + 2 * w.H : nullptr, 1, w.H, w.P);
        if (w.W_hr) d.projection = pack(w.W_hr, nullptr, 1, w.P, w.H);
        directions.push_back(d);
    }
}

template <class Real>
void Stack<Real>::forward(const Sequence<Real>& s) const {
    if (!s.B) return;
    std::vector<long> order(s.B);
    std::iota(order.begin(), order.end(), 0L);
    if (s.lengths)
        std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return s.lengths[a] > s.lengths[b]; });
    const long longest = s.lengths ? s.lengths[order[0]] : s.T;

    // Threads take rows of their own where there are many, and share the units of the same rows where there are few.
    long blocks = ceil_div(s.B, rows_at_once);
    int team_size = 1;
    std::vector<std::unique_ptr<Team<Real>>> teams;
    const bool shared_steps = s.B * gates(cell) * H * P >= work_worth_a_barrier;
    const long units = (shared_steps ? ceil_div(H, kernels.L) : 1) * D;
    const int useful = int(std::min<long>(num_threads(), std::max(units, s.B / rows_worth_a_thread)));
    parallel(
        useful,
        [&](int n) {
            const long row_parts = std::clamp(s.B / rows_worth_a_thread, 1L, long(n));
            team_size = int(std::min(n / row_parts, units));
            blocks = std::max(blocks, row_parts);
            for (long i = 0; i < row_parts; i++)
                teams.push_back(std::make_unique<Team<Real>>(*this, longest, ceil_div(s.B, blocks), team_size));
        },
        [&](int part) {
            const FlushDenormals flush;
            const size_t team = part / team_size;
            if (team >= teams.size()) return;
            for (size_t i = team; i < size_t(blocks); i += teams.size()) {
                const long first = s.B * long(i) / blocks;
                teams[team]->forward(s, order.data() + first, s.B * long(i + 1) / blocks - first, part % team_size,
                                    team_size);
            }
        });
}

template <class Real>
Stream<Real>::Stream(const Stack<Real>& stack)
    : stack(stack), lengths(1, std::numeric_limits<long>::max()), between(2 * stack.P) {
    runs.reserve(stack.layers);
    for (const Direction<Real>& direction : stack.directions)
        runs.emplace_back(stack.kernels, direction, false, lengths, 1, 1);
}

template <class Real>
Stream<Real>::~Stream() = default;

template <class Real>
void Stream<Real>::step(const Real* x, Real* y) {
    const FlushDenormals flush;
    Barrier alone(1);
    for (long layer = 0; layer < stack.layers; layer++) {
        Real* const out = layer == stack.layers - 1 ? y : between.data() + layer % 2 * stack.P;
        runs[layer].advance({x, 0, 0}, {out, 0, 0}, t, t + 1, 0, 1, alone);
        x = out;
    }
    t++;
}

template <class Real>
void Stream<Real>::state(Real* h, Real* c) const {
    const long row = 0;
    for (long layer = 0; layer < stack.layers; layer++)
        runs[layer].finish(h + layer * stack.P, c ? c + layer * stack.H : nullptr, &row, t);
}

template <class Real>
void Stream<Real>::set_state(const Real* h, const Real* c) {
    const long row = 0;
    for (long layer = 0; layer < stack.layers; layer++)
        runs[layer].start(h ? h + layer * stack.P : nullptr, c ? c + layer * stack.H : nullptr, &row, t);
}

template <class Real>
Dense<Real>::Dense(const Real* W, const Real* b, long O, long I)
    : O(O), I(I), kernels(onward::kernels<Real>()), packed(W, b, 1, O, I, kernels.L) {}

template <class Real>
void Dense<Real>::forward(const Real* x, long rows, Real* y) const {
    const FlushDenormals flush;
    const long stride = packed.blocks * kernels.L;
    const Buffer<Real> out(std::min(rows, rows_at_once) * stride);
    for (long first = 0; first < rows; first += rows_at_once) {
        const long n = std::min(rows_at_once, rows - first);
        kernels.product(packed, x + first * I, I, n, out.data(), stride, {});
        for (long row = 0; row < n; row++)
            std::memcpy(y + (first + row) * O, out.data() + row * stride, O * sizeof(Real));
    }
}

template class Stack<float>;
template class Stack<double>;
template class Stream<float>;
template class Stream<double>;
template class Dense<float>;
template class Dense<double>;

}  // namespace onward
