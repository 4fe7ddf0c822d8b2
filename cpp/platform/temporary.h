// Memory of a thread for the time of a function.
#pragma once

#include <cstdint>
#include <new>
#include <vector>

#include "platform/packed.h"

namespace onward {

// Uninitialized memory for n numbers until the end of a scope, aligned to a cache line. Threads keep small blocks for
// later calls, so that these allocate nothing.
template <class Number>
class Temporary;

class ThreadMemory {
    template <class Number>
    friend class Temporary;

    static constexpr Size most_kept = Size(4) << 20;  // bytes of a block

    struct Block {
        Buffer<std::byte> memory;
        Size size;
    };

    static ThreadMemory& own() {
        thread_local ThreadMemory memory;
        return memory;
    }
    std::byte* take(Size bytes) {
        if (taken == blocks.size()) blocks.push_back({Buffer<std::byte>(), 0});
        Block& block = blocks[taken];
        if (block.size < bytes) {
            block = {Buffer<std::byte>(), 0};  // first, so that both need not fit
            block = {Buffer<std::byte>(bytes), bytes};
        }
        taken++;
        return block.memory.data();
    }
    void give_back() {
        Block& block = blocks[--taken];
        if (block.size > most_kept) block = {Buffer<std::byte>(), 0};
    }

    std::vector<Block> blocks;  // the scopes of their users are nested
    size_t taken = 0;
};

template <class Number>
class Temporary {
public:
    // Throws std::bad_alloc.
    explicit Temporary(Size n) : memory((Number*)ThreadMemory::own().take(bytes(n))) {}
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    ~Temporary() { ThreadMemory::own().give_back(); }
    Number* data() const { return memory; }

private:
    static Size bytes(Size n) {
        if (n > PTRDIFF_MAX / Size(sizeof(Number))) throw std::bad_alloc();
        return n * Size(sizeof(Number));
    }

    Number* const memory;
};

}  // namespace onward
