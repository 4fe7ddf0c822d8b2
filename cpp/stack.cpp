// Packs weights into panels and runs a layer over time: rows by blocks, time by chunks, layer by layer.
#include "stack.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "denormals.h"
#include "dispatch.h"

namespace onward {

// Rows whose input projection is computed at once: enough to read its weights rarely, few enough to stay in cache.
constexpr long rows_at_once = 96;

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
    : Panels<Real>{G, K, ceil_div(N, L)}, memory(this->blocks * (K + 1) * G * L) {
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

namespace {

// One direction on one block of rows, longest row first, from time step to time step.
template <class Real>
class Run {
public:
    Run(const Kernels<Real>& kernels, const Direction<Real>& direction, bool reverse, const std::vector<long>& lengths)
        : kernels(kernels), d(direction), reverse(reverse), lengths(lengths), active(long(lengths.size())),
          P(ceil_div(d.P, kernels.L) * kernels.L), H(ceil_div(d.H, kernels.L) * kernels.L),
          z_stride(d.input.blocks * d.input.G * kernels.L), memory(active * (2 * P + 2 * H)),
          chunk_memory(std::max(rows_at_once, active) * (z_stride + d.I)) {
        h = memory.data();
        h_next = h + active * P;
        c = h_next + active * P;
        scratch = c + active * H;
        z = chunk_memory.data();
        x = z + std::max(rows_at_once, active) * z_stride;
    }

    // order[b]: the row of h0 and c0 (B, ...) that row b starts from.
    void start(const Real* h0, const Real* c0, const long* order) {
        for (size_t b = 0; b < lengths.size(); b++) {
            if (h0) std::memcpy(h + b * P, h0 + order[b] * d.P, d.P * sizeof(Real));
            if (c0) std::memcpy(c + b * H, c0 + order[b] * d.H, d.H * sizeof(Real));
            std::memcpy(h_next + b * P, h + b * P, d.P * sizeof(Real));
        }
    }

    // Steps t0 to t1, each row counting from its own end in the reverse direction. Calls go on where the last one ended.
    void advance(const Rows<const Real>& in, const long* in_rows, const Rows<Real>& out, const long* out_rows, long t0,
                 long t1) {
        const long chunk = std::max(1L, rows_at_once / long(lengths.size()));
        for (; t0 < t1; t0 += chunk) {
            const long end = std::min(t0 + chunk, t1);
            long rows = 0;
            for (long t = t0, running = running_at(t, active); t < end; running = running_at(++t, running))
                for (long b = 0; b < running; b++)
                    std::memcpy(x + rows++ * d.I, in.at(time(t, b), in_rows[b]), d.I * sizeof(Real));
            kernels.product(d.input, x, d.I, rows, z, z_stride);
            const Real* z_t = z;
            for (long t = t0; t < end; t++) {
                active = running_at(t, active);
                kernels.step(d, {active, z_t, h, h_next, c, scratch});
                std::swap(h, h_next);
                z_t += active * z_stride;
                for (long b = 0; b < active; b++)
                    std::memcpy(out.at(time(t, b), out_rows[b]), h + b * P, d.P * sizeof(Real));
                // A row that ends here stands still: its state is the same in both buffers.
                for (long b = running_at(t + 1, active); b < active; b++)
                    std::memcpy(h_next + b * P, h + b * P, d.P * sizeof(Real));
            }
        }
    }

    void finish(Real* h_n, Real* c_n, const long* order) const {
        for (size_t b = 0; b < lengths.size(); b++) {
            std::memcpy(h_n + order[b] * d.P, h + b * P, d.P * sizeof(Real));
            if (c_n) std::memcpy(c_n + order[b] * d.H, c + b * H, d.H * sizeof(Real));
        }
    }

private:
    long time(long t, long b) const { return reverse ? lengths[b] - 1 - t : t; }
    long running_at(long t, long at_most) const {
        while (at_most > 0 && lengths[at_most - 1] <= t) at_most--;
        return at_most;
    }

    const Kernels<Real>& kernels;
    const Direction<Real>& d;
    const bool reverse;
    const std::vector<long>& lengths;
    long active;
    const long P, H, z_stride;  // padded
    Buffer<Real> memory, chunk_memory;
    Real *h, *h_next, *c, *scratch, *z, *x;
};

}  // namespace

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
    const FlushDenormals flush;
    std::vector<long> order(s.B);
    std::iota(order.begin(), order.end(), 0L);
    if (s.lengths)
        std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return s.lengths[a] > s.lengths[b]; });
    const long blocks = ceil_div(s.B, rows_at_once);
    for (long i = 0; i < blocks; i++) {
        const long first = s.B * i / blocks;
        forward_rows(s, order.data() + first, s.B * (i + 1) / blocks - first);
    }
}

template <class Real>
void Stack<Real>::forward_rows(const Sequence<Real>& s, const long* order, long rows) const {
    std::vector<long> lengths(rows), identity(rows);
    std::iota(identity.begin(), identity.end(), 0L);
    for (long b = 0; b < rows; b++) {
        lengths[b] = s.lengths ? s.lengths[order[b]] : s.T;
        for (long t = lengths[b]; t < s.T; t++) std::memset(s.y.at(t, order[b]), 0, D * P * sizeof(Real));
    }
    std::vector<Run<Real>> runs;
    runs.reserve(directions.size());
    for (long i = 0; i < long(directions.size()); i++) {
        runs.emplace_back(kernels, directions[i], i % D == 1, lengths);
        runs[i].start(s.h0 ? s.h0 + i * s.B * P : nullptr, s.c0 ? s.c0 + i * s.B * H : nullptr, order);
    }
    // Layers of one direction take turns at a chunk of time; a reverse direction needs the whole of the layer below.
    const long longest = lengths[0], chunk = D == 1 ? std::max(1L, rows_at_once / rows) : std::max(1L, longest);
    const long between_size = std::min(chunk, longest) * rows * D * P;
    const Buffer<Real> between[2] = {Buffer<Real>(layers > 1 ? between_size : 0),
                                     Buffer<Real>(layers > 2 ? between_size : 0)};
    for (long t0 = 0; t0 < longest; t0 += chunk) {
        const long t1 = std::min(t0 + chunk, longest);
        auto after = [&](long layer) {
            return Rows<Real>{between[layer % 2].data(), rows * D * P, D * P, t0};
        };
        for (long layer = 0; layer < layers; layer++) {
            const bool first = layer == 0, last = layer == layers - 1;
            Rows<const Real> in = s.x;
            if (!first) {
                const Rows<Real> below = after(layer - 1);
                in = {below.data, below.t_stride, below.b_stride, t0};
            }
            Rows<Real> out = last ? s.y : after(layer);
            for (long direction = 0; direction < D; direction++, out.data += P)
                runs[layer * D + direction].advance(in, first ? order : identity.data(), out,
                                                    last ? order : identity.data(), t0, t1);
        }
    }
    for (long i = 0; i < long(runs.size()); i++)
        runs[i].finish(s.h_n + i * s.B * P, s.c_n ? s.c_n + i * s.B * H : nullptr, order);
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
        kernels.product(packed, x + first * I, I, n, out.data(), stride);
        for (long row = 0; row < n; row++)
            std::memcpy(y + (first + row) * O, out.data() + row * stride, O * sizeof(Real));
    }
}

template class Stack<float>;
template class Stack<double>;
template class Dense<float>;
template class Dense<double>;

}  // namespace onward
