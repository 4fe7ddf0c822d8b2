// Threads that work together on one call: the pool that lends them, and the barrier where they meet.
#pragma once

#include <atomic>
#include <functional>

namespace onward {

void set_num_threads(int n);
int set_own_num_threads(int n);  // for calls from this thread alone; 0: as for all; returns what it was
int num_threads();               // for a call from this thread

// Calls job(part) for parts 0 to n - 1 at once, part 0 on the calling thread. The pool serves one call at a time:
// where it is busy, the caller gets n = 1 part, so that cores are never shared by more threads; where the system gives
// no more threads, as many parts as there are. `plan` is told how many before any starts.
void parallel(int n, const std::function<void(int n)>& plan, const std::function<void(int part)>& job);

// Where threads wait for one another at each time step: by spinning, as that takes less time than sleeping.
class Barrier {
public:
    explicit Barrier(int parties) : parties(parties) {}
    void wait();

private:
    const int parties;
    std::atomic<int> arrived{0}, generation{0};
};

}  // namespace onward
