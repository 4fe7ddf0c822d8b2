// A sequence that goes on from call to call.
#pragma once

#include <vector>

#include "run.h"
#include "stack.h"

namespace onward {

// One row that goes on from call to call, its state inside. The stack has one direction, and outlives the stream.
template <class Real>
class Stream {
public:
    explicit Stream(const Stack<Real>& stack);
    ~Stream();
    void step(const Real* x, Real* y);                // x (I), y (P)
    void state(Real* h, Real* c) const;               // h (layers, P), c (layers, H) or null
    void set_state(const Real* h, const Real* c);     // null: zeros

    const Stack<Real>& stack;

private:
    std::vector<long> lengths;
    std::vector<Run<Real>> runs;
    Buffer<Real> between;
    long t = 0;
};

}  // namespace onward
