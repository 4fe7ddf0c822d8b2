// Layers in sequence, run over the time steps of one block of rows: the loop behind whole sequences, streams and pools.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "run/dense.h"
#include "run/run.h"

namespace onward {

template <class Real>
class Stack;

// A layer that acts on each time step: a recurrent layer or a dense one.
template <class Real>
using Stage = std::variant<const Stack<Real>*, const Dense<Real>*>;

template <class Real>
Size inputs(const Stage<Real>& stage);  // features per step
template <class Real>
Size outputs(const Stage<Real>& stage);

// Whether each stage takes as many features as the previous one returns; false if there are no stages.
template <class Real>
bool connected(const std::vector<Stage<Real>>& stages);

// The multiply-adds of one row and step.
template <class Real>
Size multiply_adds(const std::vector<Stage<Real>>& stages);

// The state arrays of one layer and direction: h (rows, P) and c (rows, H). Null: zeros.
template <class Number>
struct State {
    Number *h = nullptr, *c = nullptr;
};

template <class Real>
class Chain {
public:
    // For blocks of up to max_rows (at most rows_at_once) rows and calls of up to `steps` steps, each run by `threads`
    // threads. With steps = rows_at_once, calls may have any number of steps unless a stage has two directions. The
    // stages must outlive the chain.
    Chain(const std::vector<Stage<Real>>& stages, Size max_rows, Size steps, int threads);
    Chain(const Chain&) = delete;

    // Sets how many threads advance together from now on, at most as many as the chain was made for; not for stages
    // with two directions.
    void set_threads(int n) { all.set_parties(n), group_barriers[0]->set_parties(n); }

    // Starts a block of rows, from the states at positions order[0] to order[rows - 1] of the arrays. Row b runs
    // lengths[b] steps, longest row first; null: without end. Called by one thread, before all threads advance.
    void start(const std::vector<State<const Real>>& from, const Size* order, Size rows, const Size* lengths = nullptr);
    // The same for one step of consecutive rows in one direction, after which `finish` takes `to`: it copies as few
    // states as it can.
    void start_step(const std::vector<State<const Real>>& from, const std::vector<State<Real>>& to, const Size* order,
                    Size rows);

    // Runs T more steps, from x (T, rows, I) to y (T, rows, O). `recordings` has one entry per layer and direction, or
    // is null. Returns false if the call is interrupted; the next block must then be started before anything else.
    bool advance(Rows<const Real> x, Rows<Real> y, Size T, int part, Interrupt& interrupt,
                 const Recording<Real>* recordings = nullptr);

    // Copies the states back, likewise. Called by one thread, after all threads have advanced.
    void finish(const std::vector<State<Real>>& to, const Size* order) const;

private:
    struct Layer {
        const Dense<Real>* dense;  // null: a recurrent layer
        Size O, first_run, D;      // a recurrent layer has the runs from runs[first_run] on, one per direction
    };
    bool advance(const Layer& layer, const Rows<const Real>& in, const Rows<Real>& out, Size t0, Size t1, int part,
                 Interrupt& interrupt, const Recording<Real>* recordings);

    std::vector<Size> lengths;
    std::vector<Run<Real>> runs;
    std::vector<Layer> layers;
    Buffer<Real> between[2];  // outputs of a layer, the inputs of the next one
    bool bidirectional = false;
    int groups = 1;  // thread groups; each shares the units of one direction
    Barrier all;
    std::vector<std::unique_ptr<Barrier>> group_barriers;
    Size t = 0;  // steps run so far
};

}  // namespace onward
