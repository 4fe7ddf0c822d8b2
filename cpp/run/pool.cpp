// Gathers the states of the streams named, by blocks, takes them a step on, and scatters them again.
#include "run/pool.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "platform/denormals.h"
#include "platform/threads.h"

namespace onward {

// Marks the streams of a call while it lives, so that one named twice is found.
template <class Real>
class Pool<Real>::Named {
public:
    Named(const Pool& pool, const Size* ids, Size n) : status(pool.status), ids(ids) {
        for (; count < n; count++) {
            const Size id = ids[count], capacity = Size(status.size());
            const bool known = id >= 0 && id < capacity;
            if (known && status[id] == open_) {
                status[id] = named;
                continue;
            }
            const std::string which = "ids[" + std::to_string(count) + "] is " + std::to_string(id);
            restore();
            if (!known)
                throw std::invalid_argument(which + ", but this pool has ids from 0 to " +
                                            std::to_string(capacity - 1));
            throw std::invalid_argument(
                which + (status[id] == closed ? ", a stream that is not open"
                                              : ", which is named twice: name each stream once a call"));
        }
    }
    ~Named() { restore(); }
    Named(const Named&) = delete;

private:
    void restore() {
        for (Size i = 0; i < count; i++) status[ids[i]] = open_;
    }
    std::vector<Status>& status;
    const Size* const ids;
    Size count = 0;
};

template <class Real>
Pool<Real>::Pool(const std::vector<Stage<Real>>& stages, Size capacity, Size max_capacity)
    : stages(stages), sizes(state_sizes(stages)), max_capacity(max_capacity), memory(2 * sizes.size()),
      states(sizes.size()) {
    reserve(capacity);
}

// Room for n streams. If memory runs out, all stays as it was.
template <class Real>
void Pool<Real>::reserve(Size n) {
    const Size before = Size(status.size());
    free.reserve(n);  // first: n is then so small that no size below overflows
    std::vector<Buffer<Real>> larger;
    for (const auto& [P, H] : sizes)
        for (const Size size : {P, H}) {
            larger.emplace_back(n * size);
            if (const Real* const old = memory[larger.size() - 1].data())
                std::memcpy(larger.back().data(), old, before * size * sizeof(Real));
        }
    status.resize(n, closed);  // from here on nothing can fail
    for (Size id = n - 1; id >= before; id--) free.push_back(id);
    std::rotate(free.begin(), free.end() - (n - before), free.end());  // ids that were there come first
    memory = std::move(larger);
    for (size_t i = 0; i < sizes.size(); i++) states[i] = {memory[2 * i].data(), memory[2 * i + 1].data()};
}

template <class Real>
void Pool<Real>::clear(Size id) {
    for (size_t i = 0; i < sizes.size(); i++) {
        std::fill_n(states[i].h + id * sizes[i].P, sizes[i].P, Real(0));
        if (sizes[i].H) std::fill_n(states[i].c + id * sizes[i].H, sizes[i].H, Real(0));
    }
}

// Copies in the states (n, P) and (n, H) of each layer; without one, zeros.
template <class Real>
void Pool<Real>::put(const Size* ids, Size n, const std::vector<State<const Real>>& from) {
    for (Size row = 0; row < n; row++) clear(ids[row]);
    for (size_t i = 0; i < sizes.size(); i++)
        for (Size row = 0; row < n; row++) {
            const auto& [P, H] = sizes[i];
            if (from[i].h) std::copy_n(from[i].h + row * P, P, states[i].h + ids[row] * P);
            if (from[i].c) std::copy_n(from[i].c + row * H, H, states[i].c + ids[row] * H);
        }
}

template <class Real>
void Pool<Real>::open(Size n, Size* ids) {
    const std::lock_guard lock(mutex);
    const Size capacity = Size(status.size()), needed = capacity - Size(free.size()) + n;
    if (needed > max_capacity)
        throw std::length_error(std::to_string(n) + " more would make " + std::to_string(needed) +
                                " open streams, but max_capacity is " + std::to_string(max_capacity));
    if (needed > capacity) reserve(std::min(std::max(2 * capacity, needed), max_capacity));
    for (Size i = 0; i < n; i++, free.pop_back()) {
        ids[i] = free.back();
        status[ids[i]] = open_;
        clear(ids[i]);
    }
}

template <class Real>
void Pool<Real>::close(const Size* ids, Size n) {
    const std::lock_guard lock(mutex);
    { const Named named(*this, ids, n); }
    for (Size i = 0; i < n; i++) {
        status[ids[i]] = closed;
        free.push_back(ids[i]);  // room was reserved
    }
}

template <class Real>
void Pool<Real>::step(const Size* ids, Size n, const Real* x, Real* y) {
    const std::lock_guard lock(mutex);
    const Named named(*this, ids, n);
    const Size I = inputs(stages.front()), O = outputs(stages.back());
    const std::vector<State<const Real>> from = sources();
    Size blocks = ceil_div(n, rows_at_once), parts = 1;
    parallel(
        int(std::clamp(n / rows_worth_a_thread, Size(1), Size(num_threads()))),
        [&](int threads) {
            parts = threads;
            blocks = std::max(blocks, parts);
            while (Size(chains.size()) < parts) chains.push_back(std::make_unique<Chain<Real>>(stages, rows_at_once));
        },
        [&](int part) {
            const FlushDenormals flush;
            for (Size block = part; block < blocks; block += parts) {
                const Size first = n * block / blocks, rows = n * (block + 1) / blocks - first;
                if (!rows) continue;
                Chain<Real>& chain = *chains[part];
                chain.start(from, ids + first, rows);
                chain.advance({x + first * I, rows * I, I}, {y + first * O, rows * O, O}, 1);
                chain.finish(states, ids + first);
            }
        });
}

template <class Real>
void Pool<Real>::state(const Size* ids, Size n, const std::vector<State<Real>>& to) const {
    const std::lock_guard lock(mutex);
    const Named named(*this, ids, n);
    for (size_t i = 0; i < sizes.size(); i++)
        for (Size row = 0; row < n; row++) {
            const auto& [P, H] = sizes[i];
            std::copy_n(states[i].h + ids[row] * P, P, to[i].h + row * P);
            if (H) std::copy_n(states[i].c + ids[row] * H, H, to[i].c + row * H);
        }
}

template <class Real>
void Pool<Real>::set_state(const Size* ids, Size n, const std::vector<State<const Real>>& from) {
    const std::lock_guard lock(mutex);
    const Named named(*this, ids, n);
    put(ids, n, from);
}

template <class Real>
void Pool<Real>::restore(const Size* ids, Size n, const std::vector<State<const Real>>& from) {
    const std::lock_guard lock(mutex);
    const Size top = n ? ids[n - 1] + 1 : 0;
    if (top > max_capacity)
        throw std::length_error("ids up to " + std::to_string(top - 1) + ", but max_capacity is " +
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
    const std::lock_guard lock(mutex);
    return Size(status.size() - free.size());
}

template <class Real>
Size Pool<Real>::capacity() const {
    const std::lock_guard lock(mutex);
    return Size(status.size());
}

template <class Real>
std::vector<Size> Pool<Real>::ids() const {
    const std::lock_guard lock(mutex);
    std::vector<Size> open;
    for (Size id = 0; id < Size(status.size()); id++)
        if (status[id] == open_) open.push_back(id);
    return open;
}

template <class Real>
std::vector<State<const Real>> Pool<Real>::sources() const {
    std::vector<State<const Real>> from;
    for (const State<Real>& state : states) from.push_back({state.h, state.c});
    return from;
}

template class Pool<float>;
template class Pool<double>;

}  // namespace onward
