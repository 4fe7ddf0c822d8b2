// Objects that outlive a call, so that later calls reuse their memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

namespace onward {

// Any thread may take an object and give it back; at most `most` unused ones are kept. No thread waits, so a
// fork needs no special treatment.
template <class Object>
class Reusable {
public:
    explicit Reusable(size_t most) : unused(most) {}
    Reusable(const Reusable&) = delete;
    ~Reusable() {
        for (auto& place : unused) delete place.load();
    }

    // Null if no object fits.
    template <class Fits>
    std::unique_ptr<Object> take(Fits fits) {
        for (auto& place : unused) {
            if (!place.load(std::memory_order_relaxed)) continue;
            std::unique_ptr<Object> object(place.exchange(nullptr, std::memory_order_acquire));
            if (object && fits(*object)) return object;
            if (object) keep(place, object);
        }
        return nullptr;
    }

    // Allocates nothing, so that destructors may call it.
    void give(std::unique_ptr<Object> object) noexcept {
        for (auto& place : unused)
            if (!place.load(std::memory_order_relaxed) && keep(place, object)) return;
        object.reset(unused[0].exchange(object.release(), std::memory_order_acq_rel));
    }

private:
    // Returns whether the place was free.
    static bool keep(std::atomic<Object*>& place, std::unique_ptr<Object>& object) {
        Object* none = nullptr;
        if (!place.compare_exchange_strong(none, object.get(), std::memory_order_release)) return false;
        object.release();
        return true;
    }

    std::vector<std::atomic<Object*>> unused;
};

}  // namespace onward
