// The bytes of a file, which are in memory or read in parts.
#pragma once

#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "kernels/kernels.h"

namespace onward {

// What a file throws that cannot be read.
struct NotReadable : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Content {
public:
    // Memory; if it `stays`, it starts at a multiple of 64 bytes, and outlives what refers to it.
    Content(const std::byte* memory, Size size, bool stays) : size(size), stays(stays), memory(memory) {}
    // A file, which the caller closes.
    explicit Content(std::FILE* file);

    const Size size;
    const bool stays;

    // Copies the bytes [first, first + n), which exist. Throws NotReadable.
    const std::byte* copy(Size first, Size n, std::byte* to) const;
    // Those bytes, which are copied unless they stay in memory.
    const std::byte* read(Size first, Size n, std::byte* to) const {
        return stays ? memory + first : copy(first, n, to);
    }

    // A checksum of the bytes from `first` on: 8 interleaved sums of words. Throws NotReadable.
    uint64_t checksum(Size first) const;

private:
    const std::byte* const memory = nullptr;
    std::FILE* const file = nullptr;
};

}  // namespace onward
