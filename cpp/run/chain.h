// The layers of a stack, run over the time steps of one block of rows: the loop behind whole sequences and steps.
#pragma once

#include <memory>
#include <vector>

#include "run/run.h"

namespace onward {

template <class Real>
class Stack;

// The state arrays of one layer and direction: h (rows, P) and c (rows, H). Null: zeros.
template <class Number>
struct State {
    Number *h = nullptr, *c = nullptr;
};

template <class Real>
class Chain {
public:
    // For blocks of up to max_rows (at most rows_at_once) rows and calls of up to `steps` steps, each run by `threads`
    // threads. With steps = rows_at_once, calls may have any number of steps unless there are two directions. The stack
    // must outlive the chain.
    Chain(const Stack<Real>& stack, Size max_rows, Size steps, int threads);
    Chain(const Chain&) = delete;

    // Starts a block of rows, from the states at positions order[0] to order[rows - 1] of the arrays. Row b runs
    // lengths[b] steps, longest row first. Called by one thread, before all threads advance.
    void start(const std::vector<State<const Real>>& from, const Size* order, Size rows, const Size* lengths);
    // The same for one step of consecutive rows in one direction, after which `finish` takes `to`: it copies as few
    // states as it can.
    void start_step(const std::vector<State<const Real>>& from, const std::vector<State<Real>>& to, const Size* order,
                    Size rows);

    // Runs T more steps, from x (T, rows, I) to y (T, rows, O). `recordings` has one entry per layer and direction, or
    // is null. Returns false if the call is interrupted; the next block must then be started before anything else.
    bool advance(Rows<const Real> x, Rows<Real> y, Size T, int part, Interrupt& interrupt,
                 const Recording<Real>* recordings = nullptr);

    // Whether one thread has finished a call alone, after which the others cannot take part in another one.
    bool is_dismissed() const;

    // Copies the states back, likewise. Called by one thread, after all threads have advanced.
    void finish(const std::vector<State<Real>>& to, const Size* order) const;

private:
    bool advance(Size layer, const Rows<const Real>& in, const Rows<Real>& out, Size t0, Size t1, int part,
                 Interrupt& interrupt, const Recording<Real>* recordings);

    const Size layers, D, O;  // outputs of a layer: D*P
    std::vector<Size> lengths;
    std::vector<Run<Real>> runs;  // layer by layer, one per direction
    Buffer<Real> between[2];  // outputs of a layer, the inputs of the next one
    const int groups;  // of threads; each shares the units of one direction
    Barrier all;
    std::vector<std::unique_ptr<Barrier>> group_barriers;
    Size t = 0;  // steps run so far
};

}  // namespace onward
