// Threads that compute one call together: a pool of workers, and the barrier at which they wait for one another.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace onward {

void set_num_threads(int n);
int set_own_num_threads(int n);  // for calls from this thread only; 0: as for all threads; returns the previous value
int num_threads();               // for a call from this thread

// Sharing a call with fewer multiply-adds between threads takes longer than it saves; sharing one with fewer than
// worth_waking does if the workers sleep.
constexpr int64_t worth_threads = 300'000, worth_waking = 3'000'000;

// Calls job(part) for parts 0 to n - 1 in parallel, part 0 on the calling thread. Calls plan(n) first, with the number
// of parts that will run: fewer than n if the system cannot start enough threads, and 1 if the workers are busy with
// the call of another thread, so that calls never compete for cores, or if they sleep and `work`, the multiply-adds of
// the call, is too little to wake them for a single call.
void parallel(int n, const std::function<void(int n)>& plan, const std::function<void(int part)>& job,
              int64_t work = worth_waking);

// Threads wait for one another here after each time step. They spin, which is faster than sleeping.
class Barrier {
public:
    explicit Barrier(int parties) : parties(parties) {}
    // Returns, to all threads alike, whether any of them passed stop = true.
    bool wait(bool stop = false) { return parties == 1 ? stop : wait_for_others(stop); }

    int parties;  // may change while no thread waits

private:
    bool wait_for_others(bool stop);

    std::atomic<int> arrived{0}, generation{0};
    std::atomic<bool> stop_requested{false}, stopped{false};
};

}  // namespace onward
