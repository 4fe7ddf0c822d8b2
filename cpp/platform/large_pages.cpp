// Divides large pages among weights.
#include "platform/large_pages.h"

#include <cstdint>
#include <functional>
#include <mutex>
#include <new>


#if !defined(_WIN32)
#include <pthread.h>
#endif

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace onward {

namespace {

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)  // which finds reads past the end of separate memory only
constexpr bool shares_pages = true;
#else
constexpr bool shares_pages = false;
#endif

constexpr size_t line = 64, page = size_t(1) << 21, region = 8 * page;  // bytes

// A fork waits until it is free, so that a child never inherits it locked.
std::mutex& pages_mutex() {
    static std::mutex mutex;
#if !defined(_WIN32)
    static const int registered = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
    (void)registered;
#endif
    return mutex;
}

// The unused parts of regions, in the order of their addresses. A page takes memory once it is used. A region is freed
// when all of it is unused, but the last one is kept: filling a page with zeros takes a tenth of a small model's first
// call.
class Unused {
public:
    std::byte* take(size_t bytes) {
        const std::lock_guard lock(pages_mutex());
        Range** place = &first;
        while (*place && (*place)->bytes < bytes) place = &(*place)->next;
        if (!*place) {
            // the line behind it keeps two regions apart, so that ranges of both are never joined
            auto* const memory = (std::byte*)::operator new(region + line, std::align_val_t(page));
            prefer_large_pages(memory, region);
            place = add(memory, region);
            regions++;
        }
        Range* const range = *place;
        const size_t rest = range->bytes - bytes;
        *place = rest ? new ((std::byte*)range + bytes) Range{rest, range->next} : range->next;
        return (std::byte*)range;
    }

    void give(std::byte* memory, size_t bytes) {
        const std::lock_guard lock(pages_mutex());
        Range** const place = add(memory, bytes);
        Range* const range = *place;
        if (range->bytes < region || regions == 1) return;
        regions--;
        *place = range->next;
        ::operator delete(range, std::align_val_t(page));
    }

private:
    struct Range {  // at the start of the memory itself
        size_t bytes;
        Range* next;
        std::byte* end() { return (std::byte*)this + bytes; }
    };
    // Joins adjacent ranges, and returns where the list refers to the new one.
    Range** add(std::byte* memory, size_t bytes) {
        Range** place = &first;
        while (*place && std::less<>()((*place)->end(), memory)) place = &(*place)->next;
        if (*place && (*place)->end() == memory)
            (*place)->bytes += bytes;
        else
            *place = new (memory) Range{bytes, *place};
        Range* const range = *place;
        if (Range* const next = range->next; next && range->end() == (std::byte*)next)
            *range = {range->bytes + next->bytes, next->next};
        return place;
    }

    Range* first = nullptr;
    size_t regions = 0;
};

Unused unused;

size_t whole_lines(size_t bytes) { return (bytes + line - 1) / line * line; }

}  // namespace

void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef __linux__
    if (bytes < page) return;
    const size_t before = std::uintptr_t(memory) % size_t(sysconf(_SC_PAGESIZE));
    madvise((std::byte*)memory - before, bytes + before, MADV_HUGEPAGE);
#endif
}

WeightMemory::WeightMemory(size_t bytes) {
    if (!bytes) return;
    bytes = whole_lines(bytes);
    std::byte* memory;
    if (shares_pages && bytes <= page)
        memory = unused.take(bytes);
    else
        prefer_large_pages(memory = (std::byte*)::operator new(bytes, std::align_val_t(line)), bytes);
    data_ = {memory, Delete{bytes}};
}

void WeightMemory::Delete::operator()(std::byte* memory) const {
    if (shares_pages && bytes <= page)
        unused.give(memory, bytes);
    else
        ::operator delete(memory, std::align_val_t(line));
}

}  // namespace onward
