// The loop over chunks of time: each chunk passes through all layers while it is in cache.
#include "run/chain.h"

#include <algorithm>
#include <limits>

#include "run/stack.h"

namespace onward {

template <class Real>
Chain<Real>::Chain(const Stack<Real>& stack, Size max_rows, Size steps, int threads)
    : layers(stack.layers), D(stack.D), O(D * stack.P), lengths(max_rows), groups(D == 2 ? std::min(2, threads) : 1),
      all(threads) {
    for (int group = 0; group < groups; group++)
        group_barriers.push_back(std::make_unique<Barrier>((threads + groups - 1 - group) / groups));
    const Size chunk_rows = std::min(rows_at_once, steps * max_rows);
    runs.reserve(stack.directions.size());
    for (Size i = 0; i < Size(stack.directions.size()); i++)
        runs.emplace_back(stack.kernels, stack.directions[i], i % D == 1, lengths, max_rows, chunk_rows,
                          (threads + groups - 1) / groups);
    const Size between_rows = D == 2 ? steps * max_rows : chunk_rows;
    for (Size i = 0; i < 2 && i + 1 < layers; i++) between[i] = Buffer<Real>(between_rows * O);
}

template <class Real>
void Chain<Real>::start(const std::vector<State<const Real>>& from, const Size* order, Size rows,
                        const Size* row_lengths) {
    lengths.assign(row_lengths, row_lengths + rows);
    t = 0;
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
    const Size chunk = D == 2 ? T : std::max(rows_at_once / rows, Size(1));
    x.t_first = y.t_first = t;
    for (Size t0 = t; t0 < end; t0 += chunk) {
        const Size t1 = std::min(t0 + chunk, end);
        Rows<const Real> below{};
        for (Size i = 0; i < layers; i++) {
            const bool last = i + 1 == layers;
            const Rows<Real> above{between[i % 2].data(), rows * O, O, t0};
            bool stop = !advance(i, i ? below : x, last ? y : above, t0, t1, part, interrupt, recordings);
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

// Runs one layer for one chunk. Each group of threads runs one direction.
template <class Real>
bool Chain<Real>::advance(Size layer, const Rows<const Real>& in, const Rows<Real>& out, Size t0, Size t1, int part,
                          Interrupt& interrupt, const Recording<Real>* recordings) {
    static const Recording<Real> none;
    // There are 1 or 2 groups; these are part % groups and part / groups without divisions.
    const int group = part & (groups - 1), group_part = part >> (groups - 1);
    Barrier& barrier = *group_barriers[group];
    if (group_part > 0 && barrier.dismissed()) return true;
    for (Size direction = group; direction < D; direction += groups) {
        const Size i = layer * D + direction;
        if (!runs[i].advance(in, out, t0, t1, group_part, barrier.parties, barrier, interrupt,
                             recordings ? recordings[i] : none))
            return false;
    }
    return true;
}

template <class Real>
bool Chain<Real>::is_dismissed() const {
    return std::any_of(group_barriers.begin(), group_barriers.end(),
                       [](const auto& barrier) { return barrier->dismissed(); });
}

template <class Real>
void Chain<Real>::finish(const std::vector<State<Real>>& to, const Size* order) const {
    for (size_t i = 0; i < runs.size(); i++) runs[i].finish(to[i].h, to[i].c, order, t);
}

template class Chain<float>;
template class Chain<double>;

}  // namespace onward
