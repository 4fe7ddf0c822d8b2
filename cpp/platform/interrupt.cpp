// Polls for interrupts ten times a second.
#include "platform/interrupt.h"

namespace onward {

namespace {

constexpr auto interval = std::chrono::milliseconds(100);
std::atomic<bool (*)()> interrupt_check{nullptr};

}  // namespace

bool is_interrupted() {
    const auto function = interrupt_check.load(std::memory_order_relaxed);
    return function && function();
}

void set_interrupt_check(bool (*check)()) { interrupt_check = check; }

bool Interrupt::requested() {
    if (happened() || !enabled || std::this_thread::get_id() != caller) return happened();
    const auto now = std::chrono::steady_clock::now();
    if (now < next_check) return false;
    // The first poll only starts the interval, so that short calls never run the check.
    const bool first = next_check == std::chrono::steady_clock::time_point{};
    next_check = now + interval;
    if (!first && is_interrupted()) flag.store(true, std::memory_order_relaxed);
    return happened();
}

std::unique_lock<CallMutex> interruptible_lock(CallMutex& mutex) {
    if (mutex.is_mine()) throw Reentrant();
    std::unique_lock lock(mutex, std::try_to_lock);
    // The system clock, because GCC's thread sanitizer does not know the wait on the steady clock.
    while (!lock.owns_lock() && !lock.try_lock_until(std::chrono::system_clock::now() + interval))
        if (is_interrupted()) throw Interrupted();
    return lock;
}

}  // namespace onward
