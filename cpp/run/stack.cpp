// Runs a layer over time: rows by blocks, time by chunks, layer by layer, and each part by the threads of a team.
#include "run/stack.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/threads.h"

namespace onward {

Size gates(Cell cell) {
    switch (cell) {
        case Cell::rnn:
        case Cell::rnn_relu: return 1;
        case Cell::lstm: return 4;
        case Cell::gru:
        case Cell::gru_reset_before: return 3;
    }
    return 0;
}

// An LSTM also records c, and a GRU that resets after the product R_n h + b_n.
Size recorded(Cell cell) { return gates(cell) + (cell == Cell::lstm || cell == Cell::gru); }

bool worth_sharing(Size B, Cell cell, Size H, Size P) {
    constexpr Size worth_a_barrier = 10'000;  // multiply-adds
    return B * gates(cell) * H * P >= worth_a_barrier;
}

std::vector<Size> longest_first(const int64_t* lengths, Size B) {
    std::vector<Size> order(B);
    std::iota(order.begin(), order.end(), Size(0));
    if (lengths)
        std::stable_sort(order.begin(), order.end(), [&](Size a, Size b) { return lengths[a] > lengths[b]; });
    return order;
}

// Threads that take a block of rows through all layers together. Each direction has threads of its own where there are
// enough; those of one direction share its units.
template <class Real>
class Team {
public:
    Team(const Stack<Real>& stack, Size longest, Size max_rows, int threads)
        : s(stack), all(threads) {
        lengths.reserve(max_rows);
        const int groups = std::min(int(s.D), threads);
        for (int group = 0; group < groups; group++)
            barriers.push_back(std::make_unique<Barrier>((threads + groups - 1 - group) / groups));
        const int parts = (threads + groups - 1) / groups;
        for (Size i = 0; i < Size(s.directions.size()); i++)
            runs.emplace_back(s.kernels, s.directions[i], i % s.D == 1, lengths, max_rows,
                              std::min(rows_at_once, longest * max_rows), parts);
        // Layers of one direction take turns at a chunk of time; a reverse direction needs all of the layer below.
        chunk = s.D == 1 ? std::max(Size(1), rows_at_once / max_rows) : std::max(Size(1), longest);
        for (int i = 0; i < 2; i++)
            between[i] = Buffer<Real>(s.layers > i + 1 ? std::min(chunk, longest) * max_rows * s.D * s.P : 0);
    }

    // Called by each of the team's threads.
    void forward(const Sequence<Real>& q, const Size* order, Size rows, int part, int threads) {
        if (part == 0) start(q, order, rows);
        all.wait();
        const int groups = int(barriers.size()), group = part % groups;
        const int group_part = part / groups, group_parts = (threads + groups - 1 - group) / groups;
        const Size longest = lengths[0];
        for (Size t0 = 0; t0 < longest; t0 += chunk) {
            const Size t1 = std::min(t0 + chunk, longest);
            auto after = [&](Size layer) {
                return Rows<Real>{between[layer % 2].data(), rows * s.D * s.P, s.D * s.P, t0};
            };
            for (Size layer = 0; layer < s.layers; layer++) {
                const bool first = layer == 0, last = layer == s.layers - 1;
                const Rows<const Real> in = first ? block(q.x, q, order) : as_input(after(layer - 1));
                const Rows<Real> out = last ? block(q.y, q, order) : after(layer);
                for (Size direction = group; direction < s.D; direction += groups) {
                    Rows<Real> half = out;
                    half.data += direction * s.P;
                    const Size i = layer * s.D + direction;
                    runs[i].advance(in, half, t0, t1, group_part, group_parts, *barriers[group], record(i, q, order));
                }
                all.wait();
            }
        }
        if (part == 0)
            for (Size i = 0; i < Size(runs.size()); i++)
                runs[i].finish(q.h_n + i * q.B * s.P, q.c_n ? q.c_n + i * q.B * s.H : nullptr, order, longest);
        all.wait();
    }

private:
    // Where run i leaves what it records.
    Record<Real> record(Size i, const Sequence<Real>& q, const Size* order) const {
        auto rows = [&](Real* data, Size features) {
            return data ? block(Rows<Real>{data + i * q.T * q.B * features, q.B * features, features}, q, order)
                        : Rows<Real>{};
        };
        return {rows(q.gates, recorded(s.cell) * s.H), rows(q.sums, gates(s.cell) * s.H)};
    }

    // This block's rows of a whole array.
    template <class Number>
    static Rows<Number> block(Rows<Number> whole, const Sequence<Real>& q, const Size* order) {
        if (q.lengths)
            whole.order = order;
        else
            whole.data += order[0] * whole.b_stride;  // the rows are in their own order, one after another
        return whole;
    }

    static Rows<const Real> as_input(const Rows<Real>& rows) {
        return {rows.data, rows.t_stride, rows.b_stride, rows.t_first};
    }

    void start(const Sequence<Real>& q, const Size* order, Size rows) {
        lengths.resize(rows);
        for (Size b = 0; b < rows; b++) {
            lengths[b] = q.lengths ? q.lengths[order[b]] : q.T;
            for (Size t = lengths[b]; t < q.T; t++)
                std::memset(q.y.at(t, order[b]), 0, s.D * s.P * sizeof(Real));
        }
        for (Size i = 0; i < Size(runs.size()); i++)
            runs[i].start(q.h0 ? q.h0 + i * q.B * s.P : nullptr, q.c0 ? q.c0 + i * q.B * s.H : nullptr, order);
    }

    const Stack<Real>& s;
    std::vector<Size> lengths;
    std::vector<Run<Real>> runs;
    Buffer<Real> between[2];
    Size chunk;
    Barrier all;
    std::vector<std::unique_ptr<Barrier>> barriers;  // one for each group of threads that shares a direction
};

template <class Real>
Stack<Real>::Stack(Cell cell, const std::vector<Weights<Real>>& weights, const std::vector<Options<Real>>& options,
                   Size num_directions)
    : cell(cell), I(weights[0].I), H(weights[0].H), P(weights[0].P), D(num_directions),
      layers(Size(weights.size()) / D), kernels(onward::kernels<Real>()) {
    const Size G = gates(cell), L = kernels.L;
    auto pack = [&](const Matrix<Real>& matrix, const Real* bias, Size first, Size G, Size N,
                    Size K) -> const Panels<Real>& {
        return packed.emplace_back(matrix, bias, first, G, N, K, L);
    };
    for (const Weights<Real>& w : weights) {
        Direction<Real> d{cell, w.I, w.H, w.P, pack(w.W, w.b_W, 0, G, w.H, w.I)};
        const Size together = cell == Cell::gru_reset_before ? 2 : G;  // gates of the first product
        d.recurrent = pack(w.R, w.b_R, 0, together, w.H, w.P);
        if (together < G) d.candidate = pack(w.R, w.b_R, together, 1, w.H, w.P);
        if (w.W_hr.numbers) d.projection = pack(w.W_hr, nullptr, 0, 1, w.P, w.H);
        if (w.peephole) d.peephole = pack({Format::native, w.peephole}, nullptr, 0, 3, w.H, 1);
        d.plain = options.empty();
        if (!d.plain) d.options = options[directions.size() % D];
        directions.push_back(d);
    }
}

template <class Real>
void Stack<Real>::forward(const Sequence<Real>& s) const {
    if (!s.B) return;
    const std::vector<Size> order = longest_first(s.lengths, s.B);
    const Size longest = s.lengths ? s.lengths[order[0]] : s.T;

    // Threads take rows of their own where there are many, and share the units of the same rows where there are few.
    Size blocks = ceil_div(s.B, rows_at_once);
    int team_size = 1;
    std::vector<std::unique_ptr<Team<Real>>> teams;
    const Size units = (worth_sharing(s.B, cell, H, P) ? ceil_div(H, kernels.L) : 1) * D;
    const int useful = int(std::min<Size>(num_threads(), std::max(units, s.B / rows_worth_a_thread)));
    parallel(
        useful,
        [&](int n) {
            const Size row_parts = std::clamp(s.B / rows_worth_a_thread, Size(1), Size(n));
            team_size = int(std::min(n / row_parts, units));
            blocks = std::max(blocks, row_parts);
            for (Size i = 0; i < row_parts; i++)
                teams.push_back(std::make_unique<Team<Real>>(*this, longest, ceil_div(s.B, blocks), team_size));
        },
        [&](int part) {
            const FlushDenormals flush;
            const size_t team = part / team_size;
            if (team >= teams.size()) return;
            for (size_t i = team; i < size_t(blocks); i += teams.size()) {
                const Size first = s.B * Size(i) / blocks;
                teams[team]->forward(s, order.data() + first, s.B * Size(i + 1) / blocks - first, part % team_size,
                                    team_size);
            }
        });
}

template class Stack<float>;
template class Stack<double>;

}  // namespace onward
