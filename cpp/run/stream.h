// Rows that keep their state from call to call.
#pragma once

#include <memory>
#include <vector>

#include "run/chain.h"

namespace onward {

// The stages must have one direction and outlive the stream; to advance, they must be connected.
template <class Real>
class Stream {
public:
    Stream(const std::vector<Stage<Real>>& stages, Size B);
    // From x (T, B, I) to y (T, B, O). Throws Interrupted; the states are then those before the call.
    void advance(const Rows<const Real>& x, const Rows<Real>& y, Size T);
    void undo();  // restores the states before the last advance
    void state_before(const std::vector<State<Real>>& to) const;  // those before the last advance, also during it
    void state(const std::vector<State<Real>>& to) const;
    void set_state(const std::vector<State<const Real>>& from);

    const std::vector<Stage<Real>> stages;
    const Size B, I, O;

private:
    Size first_row(size_t chain) const { return B * Size(chain) / Size(chains.size()); }
    void make_chains(int threads);

    const Size work;  // multiply-adds per step
    std::vector<Size> order;
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // one per block of rows
    OwnedStates<Real> before;
    int threads_per_chain = 0;
};

}  // namespace onward
