// Threads that compute one call together: a pool of workers, and the barrier at which they wait for one another.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace onward {

void set_num_threads(int n);
int set_own_num_threads(int n);  // for calls from this thread only; 0: as for all threads; returns the previous value
int num_threads();               // for a call from this thread

// Allocates the memory for the exceptions and the variables of this thread. The first use of either does, too; if there
// is no memory then, glibc ends the process.
void prepare_thread();

// Sharing a call with fewer multiply-adds between threads takes longer than it saves; sharing one with fewer than
// worth_waking does if the workers sleep.
constexpr int64_t worth_threads = 300'000, worth_waking = 3'000'000;

// As below, for n > 1.
void share_call(int n, const std::function<void(int n)>& plan, const std::function<void(int part)>& job, int64_t work);

// Calls job(part) for parts 0 to n - 1 in parallel, part 0 on the calling thread. Calls plan(n) first, with the number
// of parts that will run: fewer than n if the system cannot start enough threads. It is 1 if the workers are busy with
// the call of another thread, so that calls never compete for cores; if they sleep and `work`, the multiply-adds of the
// call, is too little to wake them for a single call; and while calls wait more for workers than these save (below).
//
// If a part throws, the other parts stop at their next barrier, and the call throws the first exception after they have
// ended.
//
// Other processes can take a worker's core for milliseconds while the other threads wait for it. Therefore the calls
// keep an account of time: a shared call earns the time that several threads worked, and pays the time that all but one
// waited. In debt, calls run on one thread, and each pays back a small part of its duration. So the waits cost at most
// that part, however busy the machine is.
template <class PlanParts, class Job>
void parallel(int n, const PlanParts& plan, const Job& job, int64_t work = worth_waking) {
    if (n > 1) return share_call(n, std::cref(plan), std::cref(job), work);
    plan(1);
    job(0);
}

// Threads wait for one another here after each time step. They spin, which is faster than sleeping.
class Barrier {
public:
    explicit Barrier(int parties) : parties(parties) {}
    // Returns, to all threads alike, whether any of them passed stop = true. After a part has thrown, it returns true:
    // threads must not wait here again before set_parties.
    bool wait(bool stop = false) { return parties == 1 ? stop : wait_for_others(stop); }

    // Whether, as of the last wait, the call has waited so long that one thread should finish it alone. That thread
    // then sets parties = 1; the others must not wait here again.
    bool dismissed() const { return dismissed_.load(std::memory_order_relaxed); }
    void set_parties(int n) {  // for a new call, also after one that failed
        parties = n, dismissed_ = false;
        arrived = 0, stop_requested = false;
    }

    int parties;  // may change while no thread waits

private:
    bool wait_for_others(bool stop);

    std::atomic<int> arrived{0}, generation{0};
    std::atomic<bool> stop_requested{false}, stopped{false}, dismissed_{false};
};

}  // namespace onward
