// Ctrl-C during a long call: the calling thread polls for it now and then, and all threads of the call then stop.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

#include "kernels/kernels.h"

namespace onward {

// Sets the function that tells whether the calling thread has been interrupted. Until then, no call is interrupted.
void set_interrupt_check(bool (*check)());

struct Interrupted : std::exception {
    const char* what() const noexcept override { return "interrupted"; }
};

// A loop that has done this many multiply-adds since it last polled polls again: after 30 to 300 microseconds.
constexpr Size work_per_poll = 2'000'000;

// The interrupt of one call, constructed by the calling thread and shared by the threads of the call.
class Interrupt {
public:
    explicit Interrupt(bool enabled = true) : enabled(enabled) {}
    // Whether the call should stop. On the calling thread this reads the clock and, ten times a second, runs the check.
    bool requested();
    bool happened() const { return flag.load(std::memory_order_relaxed); }
    void throw_if_happened() const {
        if (happened()) throw Interrupted();
    }

    const bool enabled;

private:
    const std::thread::id caller = enabled ? std::this_thread::get_id() : std::thread::id();
    std::chrono::steady_clock::time_point next_check{};
    std::atomic<bool> flag{false};
};

// Locks the mutex. Throws Interrupted if the calling thread is interrupted while it waits.
std::unique_lock<std::timed_mutex> interruptible_lock(std::timed_mutex& mutex);

}  // namespace onward
