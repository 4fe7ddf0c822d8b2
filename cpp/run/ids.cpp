// Opens, closes and checks the ids of the streams of a pool.
#include "run/ids.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace onward {

// Makes room for n streams. Changes nothing if memory runs out.
void Ids::reserve(Size n) {
    const Size before = capacity();
    free.reserve(size_t(n));
    status.resize(size_t(n), closed);  // nothing below can fail
    for (Size id = n - 1; id >= before; id--) free.push_back(id);
    std::rotate(free.begin(), free.end() - (n - before), free.end());  // old ids are opened before new ones
}

void Ids::make_room(Size n) {
    if (n > max_capacity - size())
        throw std::length_error(std::to_string(n) + " more would make " + std::to_string(size() + n) +
                                " open streams, but max_capacity is " + std::to_string(max_capacity));
    if (n > Size(free.size())) reserve(std::min(std::max(2 * capacity(), size() + n), max_capacity));
}

void Ids::open(std::span<int64_t> ids) {
    make_room(Size(ids.size()));
    for (int64_t& id : ids) {
        id = free.back();
        free.pop_back();
        status[size_t(id)] = open_;
    }
}

void Ids::close(std::span<const int64_t> ids) {
    check(ids);
    for (const int64_t id : ids) {
        status[size_t(id)] = closed;
        free.push_back(id);  // room was reserved
    }
}

// Claims one id after the other, which finds those that are not open or occur twice.
void Ids::check(std::span<const int64_t> ids) const {
    size_t count = 0;
    const auto is_claimed = [&](int64_t id) {
        if (id < 0 || id >= capacity() || status[size_t(id)] != open_) return false;
        status[size_t(id)] = claimed;
        return true;
    };
    while (count < ids.size() && is_claimed(ids[count])) count++;
    const int64_t id = count < ids.size() ? ids[count] : 0;
    const bool is_known = id >= 0 && id < capacity(), is_twice = is_known && status[size_t(id)] == claimed;
    for (size_t i = 0; i < count; i++) status[size_t(ids[i])] = open_;
    if (count == ids.size()) return;
    const std::string which = "ids[" + std::to_string(count) + "] is " + std::to_string(id);
    if (!is_known)
        throw std::invalid_argument(which + ", but the ids of this pool are 0 to " + std::to_string(capacity() - 1));
    throw std::invalid_argument(which + (is_twice ? ", which occurs twice: pass each id once per call"
                                                  : ", but that stream is not open"));
}

void Ids::restore(std::span<const int64_t> ids) {
    for (size_t i = 0; i < ids.size(); i++)
        if (ids[i] <= (i ? ids[i - 1] : -1)) throw std::invalid_argument("ids must ascend from 0");
    const Size top = ids.empty() ? 0 : ids.back() + 1;
    if (top > max_capacity)
        throw std::length_error("the largest id is " + std::to_string(top - 1) + ", but max_capacity is " +
                                std::to_string(max_capacity));
    if (top > capacity()) reserve(top);
    std::fill(status.begin(), status.end(), closed);
    for (const int64_t id : ids) status[size_t(id)] = open_;
    free.clear();
    for (Size id = capacity() - 1; id >= 0; id--)
        if (status[size_t(id)] == closed) free.push_back(id);
}

std::vector<int64_t> Ids::open() const {
    std::vector<int64_t> found;
    for (Size id = 0; id < capacity(); id++)
        if (status[size_t(id)] == open_) found.push_back(id);
    return found;
}

}  // namespace onward
