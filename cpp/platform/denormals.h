// Flushes denormal numbers to zero during the lifetime of an object, then restores the caller's mode.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace onward {

class FlushDenormals {
public:
    FlushDenormals() : saved(mode()) { set_mode(saved | flush); }
    ~FlushDenormals() { set_mode(saved); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

private:
#if defined(__SSE2__)
    static constexpr uint64_t flush = 0x8040;  // FTZ and DAZ
    static uint64_t mode() { return _mm_getcsr(); }
    static void set_mode(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
    static constexpr uint64_t flush = 1 << 24;  // FZ
    static uint64_t mode() {
        uint64_t fpcr;
        __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
        return fpcr;
    }
    static void set_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
    static constexpr uint64_t flush = 0;
    static uint64_t mode() { return 0; }
    static void set_mode(uint64_t) {}
#endif
    const uint64_t saved;
};

}  // namespace onward
