// Thousands of rows, each of which advances whenever a call passes its id.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "run/chain.h"

namespace onward {

// Each call holds a lock, so that calls from several threads take effect one after the other. A call that throws
// changes nothing: std::invalid_argument for an id that is not open or occurs twice, std::length_error if the call
// would exceed max_capacity, Interrupted while it waits for the lock or takes a long step.
template <class Real>
class Pool {
public:
    Pool(const std::vector<Stage<Real>>& stages, Size capacity, Size max_capacity);
    void make_room(Size n);        // for n more streams; doubles the capacity if necessary
    void open(Size n, Size* ids);  // states are zeros; makes room
    void close(const Size* ids, Size n);
    void step(const Size* ids, Size n, const Real* x, Real* y);  // from x (n, I) to y (n, O)
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
    void clear(Size id);
    // Copies states between the pool and rows `first` to first + n - 1 of arrays.
    void get(const Size* ids, Size n, const std::vector<State<Real>>& to, Size first) const;
    void put(const Size* ids, Size n, const std::vector<State<const Real>>& from, Size first);

    mutable std::timed_mutex mutex;
    const Size max_capacity, work;       // multiply-adds per stream and step
    mutable std::vector<Status> status;  // one for each id below the capacity
    std::vector<Size> free;              // closed ids; the last one is opened next
    OwnedStates<Real> states;            // (capacity, P) and (capacity, H)
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // one per thread
};

}  // namespace onward
