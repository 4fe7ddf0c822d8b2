// Rows that go on from call to call together, their states inside.
#pragma once

#include <memory>
#include <vector>

#include "chain.h"

namespace onward {

// The stages have one direction, are connected, and outlive the stream.
template <class Real>
class Stream {
public:
    Stream(const std::vector<Stage<Real>>& stages, long B);
    void advance(const Rows<const Real>& x, const Rows<Real>& y, long T);  // x (T, B, I), y (T, B, O)
    void state(const std::vector<State<Real>>& to) const;
    void set_state(const std::vector<State<const Real>>& from);

    const std::vector<Stage<Real>> stages;
    const long B, I, O;

private:
    long first_row(size_t chain) const { return B * long(chain) / long(chains.size()); }

    std::vector<long> order;
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // each with a block of the rows
};

}  // namespace onward
