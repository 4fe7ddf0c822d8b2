// Threads that work together on one call: the pool that lends them, and the barrier where they meet.
#pragma once

#include <atomic>
#include <functional>

namespace onward {

void set_num_threads(int n);
int num_threads();

// Calls job(part) for parts 0 to n - 1 at once, part 0 on the calling thread. The pool serves one call at a time:
// where it is busy, or lost to a fork, the caller gets n = 1 part, so that cores are never shared by more threads.
// `plan` is told how many there are before any starts.
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
