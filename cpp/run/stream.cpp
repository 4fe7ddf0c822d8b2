// Advances each block of rows by a chain of its own.
#include "run/stream.h"

#include <numeric>
#include <optional>

#include "platform/denormals.h"
#include "platform/threads.h"

namespace onward {

template <class Real>
Stream<Real>::Stream(const std::vector<Stage<Real>>& stages, Size B)
    : stages(stages), B(B), I(inputs(stages.front())), O(outputs(stages.back())), work(B * multiply_adds(stages)),
      order(B), chains(ceil_div(B, rows_at_once)) {
    std::iota(order.begin(), order.end(), Size(0));
    for (auto& chain : chains)
        chain = std::make_unique<Chain<Real>>(stages, ceil_div(B, Size(chains.size())), rows_at_once, 1);
    set_state(std::vector<State<const Real>>(state_sizes(stages).size()));
}

template <class Real>
void Stream<Real>::advance(const Rows<const Real>& x, const Rows<Real>& y, Size T) {
    Interrupt interrupt(T * work >= interruptible_work);
    std::optional<OwnedStates<Real>> before;
    if (interrupt.enabled) {
        before.emplace(state_sizes(stages), B);
        state(before->arrays);
    }
    auto block = [&](size_t i) {
        const FlushDenormals flush;
        const Size first = first_row(i);
        chains[i]->advance({x.data + first * x.b_stride, x.t_stride, x.b_stride},
                           {y.data + first * y.b_stride, y.t_stride, y.b_stride}, T, 0, interrupt);
    };
    if (chains.size() == 1) {
        block(0);
    } else {
        size_t parts = 1;
        parallel(std::min(num_threads(), int(chains.size())), [&](int n) { parts = n; },
                 [&](int part) { for (size_t i = part; i < chains.size(); i += parts) block(i); });
    }
    if (!interrupt.happened()) return;
    set_state(as_const(before->arrays));
    throw Interrupted();
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
