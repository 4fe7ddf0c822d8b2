// Takes a block of rows through layers one after another, some time steps at once.
#include "run/chain.h"

#include <algorithm>
#include <limits>

namespace onward {

template <class Real>
bool connected(const std::vector<Stage<Real>>& stages) {
    for (size_t i = 1; i < stages.size(); i++)
        if (outputs(stages[i - 1]) != inputs(stages[i])) return false;
    return !stages.empty();
}

template <class Real>
std::vector<StateSize> state_sizes(const std::vector<Stage<Real>>& stages) {
    std::vector<StateSize> sizes;
    for (const Stage<Real>& stage : stages)
        if (auto* stack = std::get_if<const Stack<Real>*>(&stage))
            sizes.insert(sizes.end(), (*stack)->layers, {(*stack)->P, (*stack)->cell == Cell::lstm ? (*stack)->H : 0});
    return sizes;
}

// y = W x + b for the rows of steps t0 to t1: as many at once as lie evenly in memory.
template <class Real>
static void affine(const Dense<Real>& dense, const Rows<const Real>& x, const Rows<Real>& y, Size rows, Size t0,
                   Size t1) {
    const bool even = rows == 1 || (x.b_stride == dense.I && y.b_stride == dense.O);
    if (even && x.t_stride == rows * dense.I && y.t_stride == rows * dense.O)
        return dense.forward(x.at(t0, 0), (t1 - t0) * rows, y.at(t0, 0));
    const Size piece = even ? rows : 1;
    for (Size t = t0; t < t1; t++)
        for (Size b = 0; b < rows; b += piece) dense.forward(x.at(t, b), piece, y.at(t, b));
}

template <class Real>
Chain<Real>::Chain(const std::vector<Stage<Real>>& stages, Size max_rows)
    : sizes(state_sizes(stages)), lengths(max_rows, std::numeric_limits<Size>::max()) {
    runs.reserve(sizes.size());
    Size widest = 0;
    for (const Stage<Real>& stage : stages) {
        const Size O = outputs(stage);
        widest = std::max(widest, O);
        if (auto* dense = std::get_if<const Dense<Real>*>(&stage)) {
            layers.push_back({*dense, O});
            continue;
        }
        const Stack<Real>& stack = *std::get<const Stack<Real>*>(stage);
        for (const Direction<Real>& direction : stack.directions) {
            runs.emplace_back(stack.kernels, direction, false, lengths, max_rows, rows_at_once, 1);
            layers.push_back({nullptr, O});
        }
    }
    for (size_t i = 0; i < 2 && i + 1 < layers.size(); i++) between[i] = Buffer<Real>(rows_at_once * widest);
}

template <class Real>
void Chain<Real>::start(const std::vector<State<const Real>>& from, const Size* order, Size rows) {
    lengths.resize(rows, std::numeric_limits<Size>::max());
    for (size_t i = 0; i < runs.size(); i++) runs[i].start(from[i].h, from[i].c, order, t);
}

template <class Real>
void Chain<Real>::finish(const std::vector<State<Real>>& to, const Size* order) const {
    for (size_t i = 0; i < runs.size(); i++) runs[i].finish(to[i].h, to[i].c, order, t);
}

template <class Real>
void Chain<Real>::advance(Rows<const Real> x, Rows<Real> y, Size T) {
    Barrier alone(1);
    const Size rows = Size(lengths.size()), chunk = std::max(Size(1), rows_at_once / rows);
    x.t_first = y.t_first = t;
    for (const Size end = t + T; t < end;) {
        const Size t1 = std::min(t + chunk, end);
        Rows<const Real> in = x;
        size_t run = 0;
        for (size_t i = 0; i < layers.size(); i++) {
            const auto& [dense, O] = layers[i];
            const bool last = i + 1 == layers.size();
            const Rows<Real> out = last ? y : Rows<Real>{between[i % 2].data(), rows * O, O, t};
            if (dense)
                affine(*dense, in, out, rows, t, t1);
            else
                runs[run++].advance(in, out, t, t1, 0, 1, alone);
            in = {out.data, out.t_stride, out.b_stride, out.t_first};
        }
        t = t1;
    }
}

#define ONWARD_INSTANTIATE(Real)                                              \
    template bool connected(const std::vector<Stage<Real>>&);                 \
    template std::vector<StateSize> state_sizes(const std::vector<Stage<Real>>&); \
    template class Chain<Real>;
ONWARD_INSTANTIATE(float)
ONWARD_INSTANTIATE(double)
#undef ONWARD_INSTANTIATE

}  // namespace onward
