// Thousands of rows that go on from call to call, each whenever it is named.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "run/chain.h"

namespace onward {

// Each call holds a lock: calls of several threads take effect whole, one after the other, in the order in which they
// got it. Throws std::invalid_argument, having changed nothing, for ids that are not of open streams or named twice,
// and std::length_error where max_capacity would be exceeded.
template <class Real>
class Pool {
public:
    Pool(const std::vector<Stage<Real>>& stages, Size capacity, Size max_capacity);
    void open(Size n, Size* ids);  // with states of zeros; the capacity doubles as it has to
    void close(const Size* ids, Size n);
    void step(const Size* ids, Size n, const Real* x, Real* y);  // x (n, I), y (n, O)
    void state(const Size* ids, Size n, const std::vector<State<Real>>& to) const;
    void set_state(const Size* ids, Size n, const std::vector<State<const Real>>& from);
    Size size() const;
    Size capacity() const;
    std::vector<Size> ids() const;  // of the open streams
    // Opens these, ascending, and no others, with the states given.
    void restore(const Size* ids, Size n, const std::vector<State<const Real>>& from);

    const std::vector<Stage<Real>> stages;
    const std::vector<StateSize> sizes;

private:
    enum Status : char { closed, open_, named };
    class Named;
    void reserve(Size n);
    void clear(Size id);
    void put(const Size* ids, Size n, const std::vector<State<const Real>>& from);
    std::vector<State<const Real>> sources() const;

    mutable std::mutex mutex;
    const Size max_capacity;
    mutable std::vector<Status> status;  // of each id up to the capacity
    std::vector<Size> free;              // closed ids, the next to be opened last
    std::vector<Buffer<Real>> memory;    // h and c of each layer, in turn: (capacity, P) and (capacity, H)
    std::vector<State<Real>> states;
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // one for each thread
};

}  // namespace onward
