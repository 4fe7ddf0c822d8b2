// Thousands of rows, each of which advances whenever a call passes its id.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "run/chain.h"

namespace onward {

// Each call holds a lock, so that calls from several threads take effect one after the other. A call that throws
// changes nothing: std::invalid_argument for an id that is not open or occurs twice, std::length_error if the call
// would exceed max_capacity, Interrupted while it waits for the lock or takes a long step. A signal handler that runs
// during a step may read the pool, as it was before the step.
template <class Real>
class Pool {
public:
    Pool(const std::vector<Stage<Real>>& stages, Size capacity, Size max_capacity);
    void make_room(Size n);        // for n more streams; doubles the capacity if necessary
    void open(Size n, Size* ids);  // states are zeros; makes room
    void close(const Size* ids, Size n);
    // From x (n, I) to y (n, O). Changes the states only if `confirm` returns true before and after it changes them;
    // throws Interrupted if not.
    void step(const Size* ids, Size n, const Real* x, Real* y,
              const std::function<bool()>& confirm = [] { return true; });
    void state(const Size* ids, Size n, const std::vector<State<Real>>& to) const;
    void set_state(const Size* ids, Size n, const std::vector<State<const Real>>& from);
    Size size() const;
    Size capacity() const;
    std::vector<Size> ids() const;  // the open streams, ascending
    // Opens the streams with these ids (ascending) and states, and closes all others.
    void restore(const Size* ids, Size n, const std::vector<State<const Real>>& from);

    const std::vector<Stage<Real>> stages;
    const std::vector<StateSize> sizes;

private:
    enum Status : char { closed, open_, claimed };
    class Claim;
    void reserve(Size n);
    void reserve_more(Size n);
    std::unique_lock<CallMutex> lock_to_read() const;
    void clear(Size id);
    void get(const Size* ids, Size n, const std::vector<State<Real>>& to) const;
    // Sets states to the rows of arrays; null: zeros.
    void put(const Size* ids, Size n, const std::vector<State<const Real>>& from);
    void exchange(const Size* ids, Size n);

    mutable CallMutex mutex;
    const Size max_capacity, work;       // multiply-adds per stream and step
    mutable std::vector<Status> status;  // one for each id below the capacity
    std::vector<Size> free;              // closed ids; the last one is opened next
    OwnedStates<Real> states;            // (capacity, P) and (capacity, H)
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // one per thread
    OwnedStates<Real> after;                           // of a step: (rows, P) and (rows, H)
    std::vector<Size> order;                           // 0 to rows - 1
};

}  // namespace onward
