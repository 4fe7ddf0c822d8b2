// Reads the bytes of a file, and computes their checksum.
#include "run/content.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "platform/packed.h"

namespace onward {

namespace {

void require(bool holds) {
    if (!holds) throw NotReadable("the file cannot be read");
}

Size size_of(std::FILE* file) {
    require(std::fseek(file, 0, SEEK_END) == 0);
    const Size size = std::ftell(file);
    require(size >= 0);
    return size;
}

}  // namespace

Content::Content(std::FILE* file) : size(size_of(file)), stays(false), file(file) {
    std::setvbuf(file, nullptr, _IONBF, 0);
}

const std::byte* Content::copy(Size first, Size n, std::byte* to) const {
    if (memory) return (const std::byte*)std::memcpy(to, memory + first, size_t(n));
    require(std::fseek(file, long(first), SEEK_SET) == 0 && std::fread(to, 1, size_t(n), file) == size_t(n));
    return to;
}

uint64_t Content::checksum(Size first) const {
    constexpr uint64_t prime = 0x9e3779b97f4a7c15;
    constexpr Size sums = 8, block = 8 * sums, part = 1024 * block;  // which stays in cache
    uint64_t found[sums];
    for (Size i = 0; i < sums; i++) found[i] = uint64_t(i + 1);
    const Buffer<std::byte> copy(memory ? 0 : part);
    std::byte last[block] = {};
    for (Size start = first; start < size; start += part) {
        const Size n = std::min(part, size - start);
        const std::byte* const bytes = memory ? memory + start : this->copy(start, n, copy.data());
        for (Size done = 0; done < n; done += block) {
            const std::byte* words = bytes + done;
            if (n - done < block) words = (const std::byte*)std::memcpy(last, words, size_t(n - done));
            for (Size i = 0; i < sums; i++) {
                uint64_t word;
                std::memcpy(&word, words + 8 * i, 8);
                found[i] = std::rotl((found[i] ^ word) * prime, 29);
            }
        }
    }
    uint64_t sum = uint64_t(size - first);
    for (const uint64_t each : found) sum = std::rotl((sum ^ each) * prime, 29);
    return sum;
}

}  // namespace onward
