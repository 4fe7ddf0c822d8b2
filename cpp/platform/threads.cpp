// The pool of worker threads. After a call, workers spin briefly in case the next call follows at once, then sleep.
#include "platform/threads.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
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

using Time = std::chrono::nanoseconds;

constexpr Time patience = std::chrono::microseconds(50);

// The account of shared calls (see threads.h) lies between -`most_debt` and `most_credit`, which covers rare waits. A
// debt is paid back with 1 / `payments` of the time that calls run on one thread.
constexpr Time most_credit = std::chrono::milliseconds(20), most_debt = std::chrono::milliseconds(40);
constexpr int payments = 32;

// A call whose threads have waited for more than this, plus a quarter of its duration so far, goes on alone.
constexpr Time most_waiting = std::chrono::milliseconds(4);

Time now() { return std::chrono::steady_clock::now().time_since_epoch(); }

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Spins until done() returns true. Yields after a while, because the awaited thread may need this core. Returns the
// time spent yielding.
template <class Done>
Time spin_until(Done done) {
    for (int spins = 0; spins < 200; spins++) {
        if (done()) return Time(0);
        pause();
    }
    const Time start = now();
    while (!done()) std::this_thread::yield();
    return now() - start;
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

    // Runs a call and books the time that it saved or wasted.
    void run(int n, const std::function<void(int)>& job) {
        this->job = &job;
        parts = n;
        core = this_core();
        running = workers;
        waited = 0;
        hopeless_ = false;
        start = now();
        epoch.fetch_add(1, std::memory_order_release);
        epoch.notify_all();
        attempt(0);
        const Time own_end = now();
        spin_until([&] { return running.load(std::memory_order_acquire) == 0; });
        const Time end = now(), others_end = finished.load(std::memory_order_relaxed);
        const Time alone = Time(waited.load(std::memory_order_relaxed)) + std::max(end - own_end, own_end - others_end);
        // After a dismissal, one thread worked, which is neither a gain nor a loss.
        account = std::clamp(account - 2 * alone + (hopeless() ? alone : end - start), -most_debt, most_credit);
        if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error, nullptr));
    }

    // Runs a call that could be shared on this thread alone, and pays back debts.
    void run_alone(const std::function<void(int)>& job) {
        const Time begin = now();
        job(0);
        account += (now() - begin) / payments;
    }

    bool in_debt() const { return account < Time(0); }

    // Books a wait of a shared call.
    void add_wait(Time wait) {
        const Time sum = Time(waited.fetch_add(wait.count(), std::memory_order_relaxed)) + wait;
        if (sum > most_waiting + (now() - start) / 4) hopeless_.store(true, std::memory_order_relaxed);
    }
    bool hopeless() const { return hopeless_.load(std::memory_order_relaxed); }

    // Whether a part of the call has thrown: it waits for no other part any more.
    bool failed() const { return failed_.load(std::memory_order_acquire); }

    // Whether a call began shortly after the end of the previous one, so that the next one probably will, too.
    bool frequent() const { return now() - last_end < patience; }
    void end() { last_end = now(); }

    std::atomic<bool> busy{false};  // protects the account and last_end

private:
    // Runs a part. The other parts use what the caller owns, so that an exception waits until all of them have ended.
    void attempt(int part) noexcept {
        try {
            (*job)(part);
        } catch (...) {
            const std::lock_guard lock(error_mutex);
            if (!error) error = std::current_exception();
            failed_.store(true, std::memory_order_release);
        }
    }

    void work(int part, unsigned seen) {
        prepare_thread();
        for (;; seen++) {
            const Time until = now() + patience;
            while (epoch.load(std::memory_order_acquire) == seen && now() < until) pause();
            epoch.wait(seen, std::memory_order_acquire);
            if (part < parts) {
                if (core >= 0 && core == this_core()) leave(core);
                attempt(part);
                finished.store(now(), std::memory_order_relaxed);
            }
            running.fetch_sub(1, std::memory_order_release);
        }
    }

    int workers = 0, parts = 0;
    int core = -1;  // the caller's
    const std::function<void(int)>* job = nullptr;
    Time start{0}, account{most_credit}, last_end{0};
    std::atomic<int> running{0};
    std::atomic<unsigned> epoch{0};
    std::atomic<Time> finished{Time(0)};   // when the last worker finished its part
    std::atomic<Time::rep> waited{0};
    std::atomic<bool> hopeless_{false}, failed_{false};
    std::mutex error_mutex;
    std::exception_ptr error;  // the first one that a part has thrown
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

void prepare_thread() {
    try {
        throw std::bad_alloc();
    } catch (const std::bad_alloc&) {
    }
    num_threads();
}

void set_num_threads(int n) { threads = n; }

int set_own_num_threads(int n) { return std::exchange(own_threads, n); }

int num_threads() { return own_threads ? own_threads : threads.load(); }

void share_call(int n, const std::function<void(int)>& plan, const std::function<void(int)>& job, int64_t work) {
    Pool& shared = the_pool();
    if (shared.busy.exchange(true, std::memory_order_acquire)) {
        plan(1);
        return job(0);
    }
    struct Release {
        Pool& pool;
        ~Release() {
            pool.end();
            pool.busy.store(false, std::memory_order_release);
        }
    } release{shared};
    const bool worthwhile = work >= worth_waking || shared.frequent();
    n = worthwhile && !shared.in_debt() ? shared.grow(n) : 1;
    plan(n);
    if (n > 1) return shared.run(n, job);
    worthwhile ? shared.run_alone(job) : job(0);
}

bool Barrier::wait_for_others(bool stop) {
    Pool& shared = *pool.load(std::memory_order_relaxed);
    if (shared.failed()) return true;
    if (stop) stop_requested.store(true, std::memory_order_relaxed);
    const int before = generation.load(std::memory_order_relaxed);
    const int last = parties - 1;  // read before arriving: once all have arrived, `parties` may change
    const int position = arrived.fetch_add(1, std::memory_order_acq_rel);
    if (position == last) {
        arrived.store(0, std::memory_order_relaxed);
        stopped.store(stop_requested.load(std::memory_order_relaxed), std::memory_order_relaxed);
        stop_requested.store(false, std::memory_order_relaxed);
        if (shared.hopeless()) dismissed_.store(true, std::memory_order_relaxed);
        generation.store(before + 1, std::memory_order_release);
    } else {
        const Time wait =
            spin_until([&] { return generation.load(std::memory_order_acquire) != before || shared.failed(); });
        if (position == 0 && wait > Time(0)) shared.add_wait(wait);  // the longest wait
    }
    // The next wait cannot change it yet: that takes all threads, this one included.
    return stopped.load(std::memory_order_relaxed) || shared.failed();
}

}  // namespace onward
