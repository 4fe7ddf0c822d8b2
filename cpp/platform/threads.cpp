// The pool of worker threads. After a call, workers spin briefly in case the next call follows at once, then sleep.
#include "platform/threads.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace onward {

namespace {

constexpr auto patience = std::chrono::microseconds(50);

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Spins until done() returns true. Yields after a while, because the awaited thread may need this core.
template <class Done>
void spin_until(Done done) {
    for (int spins = 0; !done(); spins++) spins < 200 ? pause() : std::this_thread::yield();
}

// The core that the calling thread runs on (-1 if unknown), and a way to leave it: Linux tends to wake a worker on the
// core of its caller, and can take milliseconds to move it to an idle core.
#if defined(__linux__)
int this_core() { return sched_getcpu(); }
void leave(int core) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    cpu_set_t others = allowed;
    CPU_CLR(core, &others);
    // Fails if no other core is allowed.
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
int this_core() { return -1; }
void leave(int) {}
#endif

class Pool {
public:
    // Starts workers for n parts, of which the caller runs one. Returns how many parts can run.
    int grow(int n) {
#if defined(__EMSCRIPTEN__)
        return 1;  // WebAssembly is built without threads
#endif
        try {
            for (; workers < n - 1; workers++) std::thread(&Pool::work, this, workers + 1, epoch.load()).detach();
        } catch (const std::system_error&) {
        }
        return std::min(n, workers + 1);
    }

    void run(int n, const std::function<void(int)>& job) {
        this->job = &job;
        parts = n;
        core = this_core();
        running = workers;
        epoch.fetch_add(1, std::memory_order_release);
        epoch.notify_all();
        job(0);
        spin_until([&] { return running.load(std::memory_order_acquire) == 0; });
    }

    // Whether a call began shortly after the end of the previous one, so that the next one probably will, too.
    bool frequent() const { return now() - last_end.load(std::memory_order_relaxed) < patience; }
    void end() { last_end.store(now(), std::memory_order_relaxed); }

    std::atomic<bool> busy{false};

private:
    static std::chrono::nanoseconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

    void work(int part, unsigned seen) {
        for (;; seen++) {
            const auto until = std::chrono::steady_clock::now() + patience;
            while (epoch.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < until) pause();
            epoch.wait(seen, std::memory_order_acquire);
            if (part < parts) {
                if (core >= 0 && core == this_core()) leave(core);
                (*job)(part);
            }
            running.fetch_sub(1, std::memory_order_release);
        }
    }

    int workers = 0, parts = 0;
    int core = -1;  // the caller's
    const std::function<void(int)>* job = nullptr;
    std::atomic<int> running{0};
    std::atomic<unsigned> epoch{0};
    std::atomic<std::chrono::nanoseconds> last_end{std::chrono::nanoseconds(0)};
};

std::atomic<int> threads{1};
thread_local int own_threads = 0;
std::atomic<Pool*> pool{nullptr};

// Never destroyed: its threads end with the process. A forked child has none of the threads and starts a new pool.
Pool& the_pool() {
    static const bool first = [] {
        pool = new Pool;
#if !defined(_WIN32)
        pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
#endif
        return true;
    }();
    (void)first;
    return *pool;
}

}  // namespace

void set_num_threads(int n) { threads = n; }

int set_own_num_threads(int n) { return std::exchange(own_threads, n); }

int num_threads() { return own_threads ? own_threads : threads.load(); }

void parallel(int n, const std::function<void(int)>& plan, const std::function<void(int)>& job, int64_t work) {
    if (n > 1) {
        Pool& shared = the_pool();
        if (!shared.busy.exchange(true, std::memory_order_acquire)) {
            struct Release {
                Pool& pool;
                ~Release() {
                    pool.end();
                    pool.busy.store(false, std::memory_order_release);
                }
            } release{shared};
            n = work >= worth_waking || shared.frequent() ? shared.grow(n) : 1;
            if (n == 1) {
                plan(1);
                return job(0);
            }
            plan(n);
            shared.run(n, job);
            return;
        }
    }
    plan(1);
    job(0);
}

bool Barrier::wait_for_others(bool stop) {
    if (stop) stop_requested.store(true, std::memory_order_relaxed);
    const int before = generation.load(std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == parties - 1) {
        arrived.store(0, std::memory_order_relaxed);
        stopped.store(stop_requested.load(std::memory_order_relaxed), std::memory_order_relaxed);
        stop_requested.store(false, std::memory_order_relaxed);
        generation.store(before + 1, std::memory_order_release);
    } else {
        spin_until([&] { return generation.load(std::memory_order_acquire) != before; });
    }
    // The next wait cannot change it yet: that takes all threads, this one included.
    return stopped.load(std::memory_order_relaxed);
}

}  // namespace onward
