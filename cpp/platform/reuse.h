// Objects that outlive a call, so that later calls reuse their memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace onward {

// One mutex for all objects below. A fork waits until it is free, so that a child never inherits it locked.
std::mutex& reuse_mutex();

// Any thread may take an object and give it back; at most `most` unused ones are kept, the newest.
template <class Object>
class Reusable {
public:
    explicit Reusable(size_t most) : most(most) { unused.reserve(most); }

    template <class Fits>
    std::optional<Object> take(Fits fits) {
        const std::lock_guard lock(reuse_mutex());
        const auto found = std::find_if(unused.rbegin(), unused.rend(), fits);
        if (found == unused.rend()) return {};
        std::optional<Object> object = std::move(*found);
        unused.erase(std::next(found).base());
        return object;
    }

    // Allocates nothing, so that destructors may call it.
    void give(Object object) noexcept {
        std::optional<Object> oldest;  // destroyed after the mutex is unlocked
        const std::lock_guard lock(reuse_mutex());
        if (unused.size() == most) {
            oldest = std::move(unused.front());
            unused.erase(unused.begin());
        }
        unused.push_back(std::move(object));
    }

private:
    const size_t most;
    std::vector<Object> unused;
};

}  // namespace onward
