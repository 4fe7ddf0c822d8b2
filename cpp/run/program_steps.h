// Reads the steps of programs: the methods of Plan, called with their arguments in order.
#pragma once

#include <deque>
#include <span>

#include "run/program.h"

namespace onward {

using AnyStep = const Program::Step*;

// What steps are read from, and the memory that they keep.
struct Reader {
    Words& words;
    Memory& memory;
    std::deque<FusedOperations>& operations;
    int depth = 0;  // loops around the step

    // A list whose items `read` returns.
    template <class T, class Read>
    std::span<const T> each(Read read) {
        const Size n = words.count();
        T* const items = memory.take<T>(n);
        for (Size i = 0; i < n; i++) new (items + i) T(read());
        return {items, size_t(n)};
    }
    template <class T>
    std::span<const T> list() {
        return each<T>([this] { return words.read<T>(); });
    }
};

// Reads one step. Throws std::out_of_range or std::invalid_argument if the words are damaged.
AnyStep read_step(Reader reader);

}  // namespace onward
