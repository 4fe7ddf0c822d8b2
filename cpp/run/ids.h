// The ids of the open streams of a pool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace onward {

// The methods throw std::invalid_argument for ids of streams that are not open or that occur twice, and
// std::length_error for more than max_capacity open streams; they change nothing then.
class Ids {
public:
    Ids(Size capacity, Size max_capacity) : max_capacity(max_capacity) { reserve(capacity); }

    void make_room(Size n);  // for n more streams; doubles the capacity if necessary
    void open(std::span<int64_t> ids);  // makes room
    void close(std::span<const int64_t> ids);
    void check(std::span<const int64_t> ids) const;
    // Opens the streams with these ids (ascending from 0), and closes all others.
    void restore(std::span<const int64_t> ids);

    Size size() const { return Size(status.size() - free.size()); }
    Size capacity() const { return Size(status.size()); }
    std::vector<int64_t> open() const;  // the open streams, ascending

private:
    enum Status : char { closed, open_, claimed };
    void reserve(Size n);

    const Size max_capacity;
    mutable std::vector<Status> status;  // one for each id below the capacity
    std::vector<int64_t> free;           // closed ids; the last one is opened next
};

}  // namespace onward
