// Measures the fma rate and the read rates of one thread with the vectors of the kernels, in processor time. Prints
// float32 operations per second, then bytes per second for each array size given in bytes.
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
    constexpr int sums = vector_registers == 32 ? 12 : 6, n = 100'000;
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

int main(int argc, char** argv) {
    std::printf("%.6g\n", best_rate(fma_operations));
    for (int i = 1; i < argc; i++) {
        const Size bytes = std::atoll(argv[i]);
        float* const x = new (std::align_val_t(64)) float[bytes / 4];
        std::fill_n(x, bytes / 4, 1.0f);
        std::printf("%.6g\n", best_rate([&] { return read_bytes(x, bytes); }));
        ::operator delete[](x, std::align_val_t(64));
    }
}
