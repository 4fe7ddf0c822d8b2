// Advances each block of rows by a chain of its own.
#include "run/stream.h"

#include <algorithm>
#include <numeric>

#include "platform/denormals.h"
#include "platform/threads.h"

namespace onward {

template <class Real>
Stream<Real>::Stream(const std::vector<Stage<Real>>& stages, Size B)
    : stages(stages), B(B), I(inputs(stages.front())), O(outputs(stages.back())), work(B * multiply_adds(stages)),
      order(B), chains(ceil_div(B, rows_at_once)), before(state_sizes(stages), B) {
    std::iota(order.begin(), order.end(), Size(0));
    make_chains(1);
    set_state(std::vector<State<const Real>>(state_sizes(stages).size()));
}

template <class Real>
void Stream<Real>::make_chains(int threads) {
    for (auto& chain : chains) {
        chain = std::make_unique<Chain<Real>>(stages, ceil_div(B, Size(chains.size())), rows_at_once, threads);
        chain->set_threads(1);
    }
    threads_per_chain = threads;
}

template <class Real>
void Stream<Real>::advance(const Rows<const Real>& x, const Rows<Real>& y, Size T) {
    Interrupt interrupt(T * work > work_per_poll);
    state(before.arrays);
    auto block = [&](size_t i, int part) {
        const FlushDenormals flush;
        const Size first = first_row(i);
        chains[i]->advance({x.data + first * x.b_stride, x.t_stride, x.b_stride},
                           {y.data + first * y.b_stride, y.t_stride, y.b_stride}, T, part, interrupt);
    };
    // Threads take separate blocks of rows, or share the units of a single one.
    const int threads = int(std::min<Size>(num_threads(), T * work / worth_threads + 1));
    if (threads == 1) {
        for (size_t i = 0; i < chains.size(); i++) block(i, 0);
    } else if (chains.size() == 1) {
        if (threads > threads_per_chain) {
            OwnedStates<Real> states(state_sizes(stages), B);
            state(states.arrays);
            make_chains(threads);
            set_state(onward::as_const(states.arrays));
        }
        const struct Alone {  // also after an exception
            Chain<Real>& chain;
            ~Alone() { chain.set_threads(1); }
        } afterwards{*chains[0]};
        parallel(threads, [&](int n) { chains[0]->set_threads(n); }, [&](int part) { block(0, part); }, T * work);
    } else {
        size_t parts = 1;
        parallel(std::min(threads, int(chains.size())), [&](int n) { parts = n; },
                 [&](int part) { for (size_t i = part; i < chains.size(); i += parts) block(i, 0); });
    }
    if (!interrupt.happened()) return;
    undo();
    throw Interrupted();
}

template <class Real>
void Stream<Real>::undo() {
    set_state(onward::as_const(before.arrays));
}

template <class Real>
void Stream<Real>::state_before(const std::vector<State<Real>>& to) const {
    const std::vector<StateSize> sizes = state_sizes(stages);
    for (size_t i = 0; i < sizes.size(); i++) {
        std::copy_n(before.arrays[i].h, B * sizes[i].P, to[i].h);
        if (sizes[i].H) std::copy_n(before.arrays[i].c, B * sizes[i].H, to[i].c);
    }
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
