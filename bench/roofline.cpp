// Measures the rates of one thread with the vectors of the kernels, in processor time. Prints float32 operations per
// second, from registers and from vectors at any address, and then one rate for each argument: N, bytes per second of
// reading N bytes; N+M, times per second that N bytes are read and M bytes written.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <new>

#include "kernels/vec.h"

constexpr int L = Float<float>::L;
volatile float result;  // keeps the work from being optimized away

// The best rate of work(), which returns how much it did, over several rounds.
template <class Work>
double best_rate(Work work) {
    constexpr double seconds_per_round = 0.05;
    auto now = [] { return double(std::clock()) / CLOCKS_PER_SEC; };
    double best = 0;
    work();
    for (int round = 0; round < 7; round++) {
        const double start = now();
        double done = 0, seconds = 0;
        for (; seconds < seconds_per_round; seconds = now() - start) done += work();
        best = std::max(best, done / seconds);
    }
    return best;
}

// float32 operations, two per fma.
double fma_operations() {
    constexpr int sums = 12, n = 100'000;  // enough to hide the latency of an fma
    f32v sum[sums];
    for (int s = 0; s < sums; s++) sum[s] = broadcast(float(s));  // different values, or they would be computed once
    const f32v a = broadcast(result), b = a + 1.0f;
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 32
        for (int s = 0; s < sums; s++) sum[s] = fma(a, b, sum[s]);
    }
    for (int s = 1; s < sums; s++) sum[0] += sum[s];
    result = sum[0][0];
    return 2.0 * n * sums * L;
}

// float32 operations, two per fma, each of which reads a vector; most cross a line of the first-level cache.
double fma_operations_of_loads() {
    constexpr int sums = 12, n = 100'000;  // enough to hide the latency of an fma
    static float x[(sums + 1) * L];
    f32v sum[sums] = {};
    const f32v a = broadcast(result);
    for (int i = 0; i < n; i++) {
        const float* const shifted = x + i % L;
#pragma GCC unroll 32
        for (int s = 0; s < sums; s++) sum[s] = fma(a, load_some(shifted + s * L, L), sum[s]);
    }
    for (int s = 1; s < sums; s++) sum[0] += sum[s];
    result = sum[0][0];
    return 2.0 * n * sums * L;
}

// Reads x and writes y once, in turns of at most 4 KiB, so often that the time is long enough to measure.
double moves(const float* x, Size read, float* y, Size written) {
    constexpr Size together = 8 * L, turn = 1024;
    const Size turns = std::max<Size>(1, std::max(read, written) / turn), times = std::max<Size>(1, (1 << 20) / read);
    f32v sum[8] = {};
    const f32v out = broadcast(result);
    for (Size time = 0; time < times; time++)
        for (Size i = 0; i < turns; i++) {
            auto place = [&](Size n, Size i) { return n * i / turns / together * together; };
            for (Size at = place(read, i); at < place(read, i + 1); at += together) {
#pragma GCC unroll 8
                for (int s = 0; s < 8; s++) sum[s] += load(x + at + s * L);
            }
            for (Size at = place(written, i); at < place(written, i + 1); at += together) {
#pragma GCC unroll 8
                for (int s = 0; s < 8; s++) store_some(y + at + s * L, out, L);
            }
        }
    for (int s = 1; s < 8; s++) sum[0] += sum[s];
    result = sum[0][0];
    return double(times);
}

// Bytes, of an array read so often that the time is long enough to measure.
double read_bytes(const float* x, Size bytes) {
    constexpr int sums = 8;
    const Size times = std::max<Size>(1, (4 << 20) / bytes);
    f32v sum[sums] = {};
    for (Size time = 0; time < times; time++)
        for (Size i = 0; i < bytes / 4; i += sums * L) {
#pragma GCC unroll 8
            for (int s = 0; s < sums; s++) sum[s] += load(x + i + s * L);
        }
    for (int s = 1; s < sums; s++) sum[0] += sum[s];
    result = sum[0][0];
    return double(bytes) * double(times);
}

float* array_of(Size bytes) {
    float* const x = new (std::align_val_t(64)) float[bytes / 4 + 1];
    std::fill_n(x, bytes / 4, 1.0f);
    return x;
}

int main(int argc, char** argv) {
    std::printf("%.6g\n%.6g\n", best_rate(fma_operations), best_rate(fma_operations_of_loads));
    for (int i = 1; i < argc; i++) {
        char* rest;
        const Size bytes = std::strtoll(argv[i], &rest, 10), written = *rest ? std::atoll(rest + 1) : 0;
        float *const x = array_of(bytes), *const y = array_of(written);
        std::printf("%.6g\n", *rest ? best_rate([&] { return moves(x, bytes / 4, y, written / 4); })
                                    : best_rate([&] { return read_bytes(x, bytes); }));
        for (float* const array : {x, y}) ::operator delete[](array, std::align_val_t(64));
    }
}
