// Gathers the states of streams block by block, advances them by one step, and scatters them back.
#include "run/pool.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>

#include "platform/denormals.h"
#include "platform/threads.h"

namespace onward {

// Marks the streams of a call as claimed during the call, which finds ids that are not open or occur twice.
template <class Real>
class Pool<Real>::Claim {
public:
    Claim(const Pool& pool, const Size* ids, Size n) : status(pool.status), ids(ids) {
        for (; count < n; count++) {
            const Size id = ids[count], capacity = Size(status.size());
            const bool known = id >= 0 && id < capacity;
            if (known && status[id] == open_) {
                status[id] = claimed;
                continue;
            }
            const std::string which = "ids[" + std::to_string(count) + "] is " + std::to_string(id);
            const bool twice = known && status[id] == claimed;
            release();
            if (!known) throw std::invalid_argument(which + ", but the ids of this pool are 0 to " +
                                                    std::to_string(capacity - 1));
            throw std::invalid_argument(which + (twice ? ", which occurs twice: pass each id once per call"
                                                       : ", but that stream is not open"));
        }
    }
    ~Claim() { release(); }
    Claim(const Claim&) = delete;

private:
    void release() {
        for (Size i = 0; i < count; i++) status[ids[i]] = open_;
    }
    std::vector<Status>& status;
    const Size* const ids;
    Size count = 0;
};

template <class Real>
Pool<Real>::Pool(const std::vector<Stage<Real>>& stages, Size capacity, Size max_capacity)
    : stages(stages), sizes(state_sizes(stages)), max_capacity(max_capacity), work(multiply_adds(stages)),
      states(sizes, 0) {
    reserve(capacity);
}

// Makes room for n streams. Changes nothing if memory runs out.
template <class Real>
void Pool<Real>::reserve(Size n) {
    const Size before = Size(status.size());
    free.reserve(n);  // first, because its check of n prevents overflow in the sizes below
    OwnedStates<Real> larger(sizes, n);
    for (size_t i = 0; before && i < sizes.size(); i++) {
        std::copy_n(states.arrays[i].h, before * sizes[i].P, larger.arrays[i].h);
        if (sizes[i].H) std::copy_n(states.arrays[i].c, before * sizes[i].H, larger.arrays[i].c);
    }
    status.resize(n, closed);  // nothing below can fail
    for (Size id = n - 1; id >= before; id--) free.push_back(id);
    std::rotate(free.begin(), free.end() - (n - before), free.end());  // old ids are opened before new ones
    states = std::move(larger);
}

template <class Real>
void Pool<Real>::clear(Size id) {
    for (size_t i = 0; i < sizes.size(); i++) {
        const auto& [P, H] = sizes[i];
        std::fill_n(states.arrays[i].h + id * P, P, Real(0));
        if (H) std::fill_n(states.arrays[i].c + id * H, H, Real(0));
    }
}

template <class Real>
void Pool<Real>::get(const Size* ids, Size n, const std::vector<State<Real>>& to) const {
    for (size_t i = 0; i < sizes.size(); i++)
        for (Size row = 0; row < n; row++) {
            const auto& [P, H] = sizes[i];
            std::copy_n(states.arrays[i].h + ids[row] * P, P, to[i].h + row * P);
            if (H) std::copy_n(states.arrays[i].c + ids[row] * H, H, to[i].c + row * H);
        }
}

template <class Real>
void Pool<Real>::put(const Size* ids, Size n, const std::vector<State<const Real>>& from) {
    for (Size row = 0; row < n; row++) clear(ids[row]);
    for (size_t i = 0; i < sizes.size(); i++)
        for (Size row = 0; row < n; row++) {
            const auto& [P, H] = sizes[i];
            if (from[i].h) std::copy_n(from[i].h + row * P, P, states.arrays[i].h + ids[row] * P);
            if (from[i].c) std::copy_n(from[i].c + row * H, H, states.arrays[i].c + ids[row] * H);
        }
}

// Makes room for n more streams, with the lock held.
template <class Real>
void Pool<Real>::reserve_more(Size n) {
    const Size capacity = Size(status.size()), open = capacity - Size(free.size());
    if (n > max_capacity - open)
        throw std::length_error(std::to_string(n) + " more would make " + std::to_string(open + n) +
                                " open streams, but max_capacity is " + std::to_string(max_capacity));
    if (n > Size(free.size())) reserve(std::min(std::max(2 * capacity, open + n), max_capacity));
}

template <class Real>
void Pool<Real>::make_room(Size n) {
    const auto lock = interruptible_lock(mutex);
    reserve_more(n);
}

template <class Real>
void Pool<Real>::open(Size n, Size* ids) {
    const auto lock = interruptible_lock(mutex);
    reserve_more(n);
    for (Size i = 0; i < n; i++, free.pop_back()) {
        ids[i] = free.back();
        status[ids[i]] = open_;
        clear(ids[i]);
    }
}

template <class Real>
void Pool<Real>::close(const Size* ids, Size n) {
    const auto lock = interruptible_lock(mutex);
    { const Claim claim(*this, ids, n); }
    for (Size i = 0; i < n; i++) {
        status[ids[i]] = closed;
        free.push_back(ids[i]);  // room was reserved
    }
}

template <class Real>
void Pool<Real>::step(const Size* ids, Size n, const Real* x, Real* y, const std::function<bool()>& confirm) {
    const auto lock = interruptible_lock(mutex);
    { const Claim claim(*this, ids, n); }
    const Size I = inputs(stages.front()), O = outputs(stages.back());
    const std::vector<State<const Real>> from = onward::as_const(states.arrays);
    Size blocks = ceil_div(n, rows_at_once), parts = 1;
    auto first_row = [&](Size block) { return n * block / blocks; };
    Interrupt interrupt(n * work > work_per_poll);
    parallel(
        int(std::clamp(n / rows_worth_a_thread, Size(1), Size(num_threads()))),
        [&](int threads) {
            parts = threads;
            blocks = std::max(blocks, parts);
            while (Size(chains.size()) < parts)
                chains.push_back(std::make_unique<Chain<Real>>(stages, rows_at_once, 1, 1));
            if (Size(order.size()) >= n) return;
            after = OwnedStates<Real>(sizes, n);
            order.resize(n);
            std::iota(order.begin(), order.end(), Size(0));
        },
        [&](int part) {
            const FlushDenormals flush;
            Chain<Real>& chain = *chains[part];
            for (Size block = part; block < blocks; block += parts) {
                if (block > part && interrupt.requested()) return;
                const Size first = first_row(block), count = first_row(block + 1) - first;
                chain.start(from, ids + first, count);
                if (!count) continue;
                const Rows<const Real> in{x + first * I, count * I, I};
                if (!chain.advance(in, {y + first * O, count * O, O}, 1, 0, interrupt)) return;
                chain.finish(after.arrays, order.data() + first);
            }
        });
    interrupt.throw_if_happened();
    if (!confirm()) throw Interrupted();
    exchange(ids, n);
    if (confirm()) return;  // again, because it takes long to exchange many states
    exchange(ids, n);
    throw Interrupted();
}

// Exchanges the states of streams and those after the step.
template <class Real>
void Pool<Real>::exchange(const Size* ids, Size n) {
    for (size_t i = 0; i < sizes.size(); i++)
        for (Size row = 0; row < n; row++) {
            const auto& [P, H] = sizes[i];
            const auto& [now, then] = std::tie(states.arrays[i], after.arrays[i]);
            std::swap_ranges(now.h + ids[row] * P, now.h + (ids[row] + 1) * P, then.h + row * P);
            if (H) std::swap_ranges(now.c + ids[row] * H, now.c + (ids[row] + 1) * H, then.c + row * H);
        }
}

// Does not lock for a signal handler that interrupts a step: until the end, a step changes no state.
template <class Real>
std::unique_lock<CallMutex> Pool<Real>::lock_to_read() const {
    if (mutex.is_mine()) return {};
    return interruptible_lock(mutex);
}

template <class Real>
void Pool<Real>::state(const Size* ids, Size n, const std::vector<State<Real>>& to) const {
    const auto lock = lock_to_read();
    const Claim claim(*this, ids, n);
    get(ids, n, to);
}

template <class Real>
void Pool<Real>::set_state(const Size* ids, Size n, const std::vector<State<const Real>>& from) {
    const auto lock = interruptible_lock(mutex);
    const Claim claim(*this, ids, n);
    put(ids, n, from);
}

template <class Real>
void Pool<Real>::restore(const Size* ids, Size n, const std::vector<State<const Real>>& from) {
    const auto lock = interruptible_lock(mutex);
    const Size top = n ? ids[n - 1] + 1 : 0;
    if (top > max_capacity)
        throw std::length_error("the largest id is " + std::to_string(top - 1) + ", but max_capacity is " +
                                std::to_string(max_capacity));
    if (top > Size(status.size())) reserve(top);
    std::fill(status.begin(), status.end(), closed);
    for (Size i = 0; i < n; i++) status[ids[i]] = open_;
    put(ids, n, from);
    free.clear();
    for (Size id = Size(status.size()) - 1; id >= 0; id--)
        if (status[id] == closed) free.push_back(id);
}

template <class Real>
Size Pool<Real>::size() const {
    const auto lock = lock_to_read();
    return Size(status.size() - free.size());
}

template <class Real>
Size Pool<Real>::capacity() const {
    const auto lock = lock_to_read();
    return Size(status.size());
}

template <class Real>
std::vector<Size> Pool<Real>::ids() const {
    const auto lock = lock_to_read();
    std::vector<Size> open;
    for (Size id = 0; id < Size(status.size()); id++)
        if (status[id] == open_) open.push_back(id);
    return open;
}

template class Pool<float>;
template class Pool<double>;

}  // namespace onward
