// Loops over blocks of adjacent elements.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "run/view.h"

namespace onward {

namespace {

constexpr Size short_run = 128;  // elements, fewer than which take less time than the call of a kernel

// Memory for a block of each view of a step.
float* buffer(size_t view) {
    thread_local std::vector<float> memory(Blocks::most_views * size_t(block));
    return memory.data() + view * size_t(block);
}

// Copies runs of n elements, `step` apart, one behind the other; the runs are `stride` apart. Most runs are short, such
// as the 16 states of a selective scan.
void gather(const float* from, Size step, Size stride, Size n, Size rows, float* to) {
    typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
    for (Size row = 0; row < rows; row++, from += stride, to += n) {
        Size k = 0;
        if (step == 0)
            for (const Four x = {*from, *from, *from, *from}; k + 16 <= n; k += 16) {
                Four* const y = (Four*)(to + k);
                y[0] = x, y[1] = x, y[2] = x, y[3] = x;
            }
        else if (step == 1)
            for (; k + 16 <= n; k += 16) std::memcpy(to + k, from + k, 16 * sizeof(float));
        for (; k < n; k++) to[k] = from[k * step];
    }
}

void scatter(const float* from, Size step, Size stride, Size n, Size rows, float* to) {
    for (Size row = 0; row < rows; row++, from += n, to += stride)
        for (Size k = 0; k < n; k++) to[k * step] = from[k];
}

}  // namespace

Blocks::Blocks(Memory& memory, const View* const* views, size_t count, bool any_length)
    : loops(memory, views, count), count(count), any_length(any_length) {
    if (count > most_views) throw std::invalid_argument("a step has too many views");
    if (loops.depth == 0 || loops.inner == 0 || loops.inner >= short_run) return;
    const Size* const row = loops.outer + (loops.depth - 1) * Size(count + 1);
    const Size y_step = std::abs(loops.inner_steps[count - 1]), y_stride = std::abs(row[count]) / Size(sizeof(float));
    if (y_stride < y_step * loops.inner && y_step < y_stride * row[0]) return;  // rows may overlap: add one by one
    loops.depth--;
    Size* const strides = memory.take<Size>(Size(count));
    for (size_t i = 0; i < count; i++) strides[i] = row[1 + i] / Size(sizeof(float));
    row_count = row[0], row_strides = strides, rows = std::max(Size(1), block / loops.inner);
}

void Blocks::run(std::byte* const* spaces, const void* f, Call call) const {
    if (loops.inner == 0) return;
    std::byte* p[most_views];
    for (size_t i = 0; i < count; i++) p[i] = spaces[loops.spaces[i]] + loops.offsets[i];
    Size counts[Axes::most] = {};
    for (;;) {
        if (row_strides) run_rows(p, f, call);
        else run_line(p, f, call);
        Size axis = loops.depth - 1;
        for (; axis >= 0; axis--) {
            const Size* const outer = loops.outer + axis * Size(count + 1);
            for (size_t i = 0; i < count; i++) p[i] += outer[1 + i];
            if (++counts[axis] < outer[0]) break;
            for (size_t i = 0; i < count; i++) p[i] -= outer[0] * outer[1 + i];
            counts[axis] = 0;
        }
        if (axis < 0) return;
    }
}

// The elements of one run of the innermost loop.
void Blocks::run_line(std::byte* const* p, const void* f, Call call) const {
    const size_t operands = count - 1;
    const Size* const steps = loops.inner_steps;
    const Size all = loops.inner, y_step = steps[operands];
    auto is_plain = [](Size step) { return step == 0 || step == 1; };
    const bool is_direct = std::all_of(steps, steps + operands, is_plain) && (y_step == 1 || all == 1);
    const Size most = is_direct && any_length ? all : block;
    const float* from[most_views];
    Size from_steps[most_views];
    for (Size first = 0; first < all; first += most) {
        const Size n = std::min(most, all - first);
        for (size_t i = 0; i < operands; i++) {
            from[i] = (const float*)p[i] + first * steps[i], from_steps[i] = steps[i];
            if (is_plain(steps[i])) continue;
            gather(from[i], steps[i], 0, n, 1, buffer(i));
            from[i] = buffer(i), from_steps[i] = 1;
        }
        float* const y = (float*)p[operands] + first * y_step;
        const bool in_place = y_step == 1 || n == 1;
        call(f, n, from, from_steps, in_place ? y : buffer(operands));
        if (!in_place) scatter(buffer(operands), y_step, 0, n, 1, y);
    }
}

// The runs of the two innermost loops, several in a block.
void Blocks::run_rows(std::byte* const* p, const void* f, Call call) const {
    const size_t operands = count - 1;
    const Size n = loops.inner;
    const Size* const steps = loops.inner_steps;
    auto is_dense = [&](size_t i) { return steps[i] == 1 && row_strides[i] == n; };
    const float* from[most_views];
    Size from_steps[most_views];
    for (Size first = 0; first < row_count; first += rows) {
        const Size some = std::min(rows, row_count - first);
        for (size_t i = 0; i < operands; i++) {
            const Size step = steps[i], stride = row_strides[i];
            from[i] = (const float*)p[i] + first * stride, from_steps[i] = step == 0 && stride == 0 ? 0 : 1;
            if (from_steps[i] == 0 || is_dense(i)) continue;
            if (stride != 0 || first == 0) gather(from[i], step, stride, n, some, buffer(i));
            from[i] = buffer(i);
        }
        float* const y = (float*)p[operands] + first * row_strides[operands];
        const bool in_place = is_dense(operands);
        call(f, n * some, from, from_steps, in_place ? y : buffer(operands));
        if (!in_place) scatter(buffer(operands), steps[operands], row_strides[operands], n, some, y);
    }
}

}  // namespace onward
