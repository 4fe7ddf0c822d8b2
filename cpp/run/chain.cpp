// The loop over chunks of time: each chunk passes through all layers while it is in cache.
#include "run/chain.h"

#include <algorithm>
#include <limits>

#include "run/stack.h"

namespace onward {

template <class Real>
Size inputs(const Stage<Real>& stage) {
    return std::visit([](const auto* layer) { return layer->I; }, stage);
}

template <class Real>
Size outputs(const Stage<Real>& stage) {
    if (auto* stack = std::get_if<const Stack<Real>*>(&stage)) return (*stack)->D * (*stack)->P;
    return std::get<const Dense<Real>*>(stage)->O;
}

template <class Real>
bool connected(const std::vector<Stage<Real>>& stages) {
    for (size_t i = 1; i < stages.size(); i++)
        if (outputs(stages[i - 1]) != inputs(stages[i])) return false;
    return !stages.empty();
}

template <class Real>
Size multiply_adds(const std::vector<Stage<Real>>& stages) {
    Size sum = 0;
    for (const Stage<Real>& stage : stages) sum += std::visit([](const auto* layer) { return layer->work(); }, stage);
    return sum;
}

// y = W x + b for the rows of steps t0 to t1 - 1: as many rows at once as are contiguous.
template <class Real>
static void affine(const Dense<Real>& dense, const Rows<const Real>& x, const Rows<Real>& y, Size rows, Size t0,
                   Size t1, Interrupt& interrupt) {
    const bool even = rows == 1 || (x.b_stride == dense.I && y.b_stride == dense.O);
    if (even && x.t_stride == rows * dense.I && y.t_stride == rows * dense.O)
        return dense.forward(x.at(t0, 0), (t1 - t0) * rows, y.at(t0, 0), interrupt);
    const Size piece = even ? rows : 1;
    for (Size t = t0; t < t1; t++)
        for (Size b = 0; b < rows; b += piece) dense.forward(x.at(t, b), piece, y.at(t, b), interrupt);
}

template <class Real>
Chain<Real>::Chain(const std::vector<Stage<Real>>& stages, Size max_rows, Size steps, int threads)
    : lengths(max_rows), all(threads) {
    for (const Stage<Real>& stage : stages)
        if (auto* stack = std::get_if<const Stack<Real>*>(&stage)) bidirectional |= (*stack)->D == 2;
    if (bidirectional) groups = std::min(2, threads);
    for (int group = 0; group < groups; group++)
        group_barriers.push_back(std::make_unique<Barrier>((threads + groups - 1 - group) / groups));

    const Size chunk_rows = std::min(rows_at_once, steps * max_rows);
    Size widest = 0;
    for (const Stage<Real>& stage : stages) {
        const Size O = outputs(stage);
        widest = std::max(widest, O);
        if (auto* dense = std::get_if<const Dense<Real>*>(&stage)) {
            layers.push_back({*dense, O, 0, 0});
            all.counts_waits = false;
            continue;
        }
        const Stack<Real>& stack = *std::get<const Stack<Real>*>(stage);
        for (Size i = 0; i < Size(stack.directions.size()); i++) {
            if (i % stack.D == 0) layers.push_back({nullptr, O, Size(runs.size()), stack.D});
            runs.emplace_back(stack.kernels, stack.directions[i], i % stack.D == 1, lengths, max_rows, chunk_rows,
                              (threads + groups - 1) / groups);
        }
    }
    const Size between_rows = bidirectional ? steps * max_rows : chunk_rows;
    for (size_t i = 0; i < 2 && i + 1 < layers.size(); i++) between[i] = Buffer<Real>(between_rows * widest);
}

template <class Real>
void Chain<Real>::start(const std::vector<State<const Real>>& from, const Size* order, Size rows,
                        const Size* row_lengths) {
    if (row_lengths) {
        lengths.assign(row_lengths, row_lengths + rows);
        t = 0;
    } else {
        lengths.assign(rows, std::numeric_limits<Size>::max());
    }
    for (size_t i = 0; i < runs.size(); i++) runs[i].start(from[i].h, from[i].c, order, t);
}

template <class Real>
void Chain<Real>::start_step(const std::vector<State<const Real>>& from, const std::vector<State<Real>>& to,
                             const Size* order, Size rows) {
    lengths.assign(rows, std::numeric_limits<Size>::max());
    for (size_t i = 0; i < runs.size(); i++)
        if (!runs[i].start_in_place(from[i].h, from[i].c, to[i].h, to[i].c, order, t))
            runs[i].start(from[i].h, from[i].c, order, t);
}

template <class Real>
bool Chain<Real>::advance(Rows<const Real> x, Rows<Real> y, Size T, int part, Interrupt& interrupt,
                          const Recording<Real>* recordings) {
    if (!T) return true;
    if (all.wait()) return false;  // for the start of the block
    const Size rows = Size(lengths.size()), end = t + T;
    // A reverse direction needs the whole output of the layer below.
    const Size chunk = bidirectional ? T : std::max(rows_at_once / rows, Size(1));
    x.t_first = y.t_first = t;
    for (Size t0 = t; t0 < end; t0 += chunk) {
        const Size t1 = std::min(t0 + chunk, end);
        Rows<const Real> below{};
        for (size_t i = 0; i < layers.size(); i++) {
            const bool last = i + 1 == layers.size();
            const Size O = layers[i].O;
            const Rows<Real> above{between[i % 2].data(), rows * O, O, t0};
            bool stop = !advance(layers[i], i ? below : x, last ? y : above, t0, t1, part, interrupt, recordings);
            if (groups == 1 && group_barriers[0]->dismissed()) {  // with two directions, the other may stay shared
                if (part > 0) return true;
                all.parties = 1;
            }
            if (last && part == 0 && t1 < end) stop |= interrupt.requested();
            if (all.wait(stop)) return false;
            below = {above.data, above.t_stride, above.b_stride, above.t_first};
        }
    }
    if (part == 0) t = end;
    return true;
}

// Runs one layer for one chunk. Each group of threads runs one direction; one thread runs a dense layer.
template <class Real>
bool Chain<Real>::advance(const Layer& layer, const Rows<const Real>& in, const Rows<Real>& out, Size t0, Size t1,
                          int part, Interrupt& interrupt, const Recording<Real>* recordings) {
    if (layer.dense) {
        if (part == 0) affine(*layer.dense, in, out, Size(lengths.size()), t0, t1, interrupt);
        return true;
    }
    static const Recording<Real> none;
    // There are 1 or 2 groups; these are part % groups and part / groups without divisions.
    const int group = part & (groups - 1), group_part = part >> (groups - 1);
    Barrier& barrier = *group_barriers[group];
    if (group_part > 0 && barrier.dismissed()) return true;
    for (Size direction = group; direction < layer.D; direction += groups) {
        const Size i = layer.first_run + direction;
        if (!runs[i].advance(in, out, t0, t1, group_part, barrier.parties, barrier, interrupt,
                             recordings ? recordings[i] : none))
            return false;
    }
    return true;
}

template <class Real>
void Chain<Real>::finish(const std::vector<State<Real>>& to, const Size* order) const {
    for (size_t i = 0; i < runs.size(); i++) runs[i].finish(to[i].h, to[i].c, order, t);
}

#define ONWARD_INSTANTIATE(Real)                                  \
    template Size inputs(const Stage<Real>&);                     \
    template Size outputs(const Stage<Real>&);                    \
    template bool connected(const std::vector<Stage<Real>>&);     \
    template Size multiply_adds(const std::vector<Stage<Real>>&); \
    template class Chain<Real>;
ONWARD_INSTANTIATE(float)
ONWARD_INSTANTIATE(double)
#undef ONWARD_INSTANTIATE

}  // namespace onward
