// Rows that go on from call to call together, their states inside.
#pragma once

#include <memory>
#include <vector>

#include "run/chain.h"

namespace onward {

// The stages have one direction, are connected, and outlive the stream.
template <class Real>
class Stream {
public:
    Stream(const std::vector<Stage<Real>>& stages, Size B);
    void advance(const Rows<const Real>& x, const Rows<Real>& y, Size T);  // x (T, B, I), y (T, B, O)
    void state(const std::vector<State<Real>>& to) const;
    void set_state(const std::vector<State<const Real>>& from);

    const std::vector<Stage<Real>> stages;
    const Size B, I, O;

private:
    Size first_row(size_t chain) const { return B * Size(chain) / Size(chains.size()); }

    std::vector<Size> order;
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // each with a block of the rows
};

}  // namespace onward
