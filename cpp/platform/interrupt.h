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

// Runs the function that tells whether the calling thread has been interrupted.
bool is_interrupted();

// A signal handler makes a call that would wait for the one that it interrupts.
struct Reentrant : std::exception {
    const char* what() const noexcept override {
        return "a signal handler calls a stream or pool while it interrupts one of its calls: it can read states, but "
               "not change them";
    }
};

// A mutex that knows its owner, for calls during which signal handlers may run.
class CallMutex {
public:
    bool is_mine() const { return owner.load(std::memory_order_relaxed) == std::this_thread::get_id(); }
    bool try_lock() { return !is_mine() && mutex.try_lock() && own(); }
    template <class Time>
    bool try_lock_until(const Time& time) {
        return mutex.try_lock_until(time) && own();
    }
    void lock() { mutex.lock(), own(); }
    void unlock() {
        owner.store({}, std::memory_order_relaxed);
        mutex.unlock();
    }

private:
    bool own() {
        owner.store(std::this_thread::get_id(), std::memory_order_relaxed);
        return true;
    }
    std::timed_mutex mutex;
    std::atomic<std::thread::id> owner{};
};

// Locks the mutex. Throws Interrupted if the calling thread is interrupted while it waits, and Reentrant if it has
// locked the mutex already.
std::unique_lock<CallMutex> interruptible_lock(CallMutex& mutex);

}  // namespace onward
