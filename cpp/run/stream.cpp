// Steps rows on by blocks, each with a chain of its own.
#include "run/stream.h"

#include <numeric>

#include "platform/denormals.h"
#include "platform/threads.h"

namespace onward {

template <class Real>
Stream<Real>::Stream(const std::vector<Stage<Real>>& stages, Size B)
    : stages(stages), B(B), I(inputs(stages.front())), O(outputs(stages.back())), order(B),
      chains(ceil_div(B, rows_at_once)) {
    std::iota(order.begin(), order.end(), Size(0));
    for (auto& chain : chains) chain = std::make_unique<Chain<Real>>(stages, ceil_div(B, Size(chains.size())));
    set_state(std::vector<State<const Real>>(state_sizes(stages).size()));
}

template <class Real>
void Stream<Real>::advance(const Rows<const Real>& x, const Rows<Real>& y, Size T) {
    auto block = [&](size_t i) {
        const FlushDenormals flush;
        const Size first = first_row(i);
        chains[i]->advance({x.data + first * x.b_stride, x.t_stride, x.b_stride},
                           {y.data + first * y.b_stride, y.t_stride, y.b_stride}, T);
    };
    if (chains.size() == 1) return block(0);
    size_t parts = 1;
    parallel(std::min(num_threads(), int(chains.size())), [&](int n) { parts = n; },
             [&](int part) { for (size_t i = part; i < chains.size(); i += parts) block(i); });
}

template <class Real>
void Stream<Real>::state(const std::vector<State<Real>>& to) const {
    for (size_t i = 0; i < chains.size(); i++) chains[i]->finish(to, order.data() + first_row(i));
}

template <class Real>
void Stream<Real>::set_state(const std::vector<State<const Real>>& from) {
    for (size_t i = 0; i < chains.size(); i++)
        chains[i]->start(from, order.data() + first_row(i), first_row(i + 1) - first_row(i));
}

template class Stream<float>;
template class Stream<double>;

}  // namespace onward
