// What the steps of a plan keep: loops over views, and the offsets of their elements.
#include "run/view.h"

namespace onward {

namespace {

// An offset; that of an axis without elements may overflow.
Size product(Size stride, Size n) { return Size(uint64_t(stride) * uint64_t(n)); }

}  // namespace

void* Memory::bytes(size_t n) {
    constexpr size_t least = 1 << 12;
    n = (n + sizeof(Size) - 1) / sizeof(Size) * sizeof(Size);
    for (; block < blocks.size(); block++, used = 0)
        if (n <= blocks[block].size - used) break;
    if (block == blocks.size()) {
        const size_t size = std::max(n, least);
        blocks.push_back({std::unique_ptr<std::byte[]>(new std::byte[size]), size});
    }
    void* const found = blocks[block].memory.get() + used;
    used += n;
    return found;
}

Offsets::Offsets(Memory& memory, const View& view, size_t first, size_t last) {
    Axis* const merged = memory.take<Axis>(Size(last - first));
    for (size_t axis = first; axis < last; axis++) {
        const Size n = view.shape[axis], own = view.strides[axis];
        if (__builtin_mul_overflow(count, n, &count)) throw std::out_of_range("a view has too many elements");
        if (n == 1) continue;
        if (depth && merged[depth - 1].stride == product(own, n))
            merged[depth - 1] = {merged[depth - 1].n * n, own};
        else
            merged[depth++] = {n, own};
    }
    axes = merged;
    if (!count) depth = 0;  // there is no element whose place on an axis without any could be found
    if (depth) line = merged[depth - 1].n, stride = merged[depth - 1].stride;
}

const Size* Offsets::list(Memory& memory) const {
    Size* const found = memory.take<Size>(count);
    fill(0, count, found);
    return found;
}

void Offsets::fill(Size first, Size n, Size* to) const {
    const Size* const end = to + n;
    for (Walk walk(*this, first); to < end;) {
        const Size length = std::min(Size(end - to), walk.left);
        for (Size i = 0; i < length; i++) to[i] = walk.offset + i * stride;
        to += length, walk.skip(length);
    }
}

Offsets::Walk::Walk(const Offsets& offsets, Size first) : left(offsets.line), offsets(offsets) {
    for (Size axis = offsets.depth; axis-- > 0;) {
        const auto& [n, stride] = offsets.axes[axis];
        at[axis] = axis ? first % n : first;
        first = axis ? first / n : 0;
        offset += at[axis] * stride;
    }
    if (offsets.depth) left -= at[offsets.depth - 1];
}

void Offsets::Walk::skip(Size n) {
    offset += n * offsets.stride, left -= n;
    if (left > 0) return;
    left = offsets.line;
    if (offsets.depth == 0) return;
    Size axis = offsets.depth - 1;
    for (at[axis] = 0, offset -= left * offsets.stride; axis-- > 0;) {
        const auto& [size, stride] = offsets.axes[axis];
        offset += stride;
        if (++at[axis] < size) return;
        offset -= at[axis] * stride, at[axis] = 0;
    }
}

AnyLoops::AnyLoops(Memory& memory, const View* const* views, size_t count, bool in_order) {
    const View& last = *views[count - 1];
    const size_t axes = last.shape.size(), width = count + 1;
    for (size_t i = 0; i < count; i++) {
        const View& view = *views[i];
        if (view.shape.size() > axes) throw std::invalid_argument("an operand of a step has too many axes");
        for (size_t axis = 0, missing = axes - view.shape.size(); axis < view.shape.size(); axis++)
            if (view.shape[axis] != 1 && view.shape[axis] != last.shape[missing + axis])
                throw std::invalid_argument("an operand of a step does not broadcast to its result");
    }
    if (is_empty(last)) {
        inner = 0;
        return;
    }
    Size* const fixed = memory.take<Size>(Size(3 * count));
    Size *const own_spaces = fixed, *const own_offsets = fixed + count, *const steps = fixed + 2 * count;
    // Row by row, the size of an axis and its strides; the axes from the largest stride of the last view on.
    Size* const rows = memory.take<Size>(Size(axes * width));
    size_t used = 0;
    for (size_t axis = 0; axis < axes; axis++) {
        if (last.shape[axis] == 1) continue;
        const Size stride = std::abs(last.strides[axis]);
        size_t place = used++;
        for (; !in_order && place > 0 && std::abs(rows[place * width - 1]) < stride; place--)
            std::copy_n(rows + (place - 1) * width, width, rows + place * width);
        Size* const row = rows + place * width;
        row[0] = last.shape[axis];
        for (size_t i = 0; i < count; i++) {
            const size_t missing = axes - views[i]->shape.size();
            row[1 + i] = axis < missing || views[i]->shape[axis - missing] == 1 ? 0 : views[i]->strides[axis - missing];
        }
    }
    for (size_t i = 0; i < count; i++) {
        const View& view = *views[i];
        own_spaces[i] = view.space, own_offsets[i] = view.offset * size_of(view.dtype), steps[i] = 0;
    }
    Size merged = 0;  // rows
    for (size_t n = 0; n < used; n++) {
        const Size* const row = rows + n * width;
        Size* const before = merged > 0 ? rows + (merged - 1) * Size(width) : rows;
        bool merges = merged > 0;
        for (size_t i = 1; merges && i < width; i++) merges = before[i] == product(row[i], row[0]);
        Size* const to = merges ? before : rows + merged++ * Size(width);
        const Size size = merges ? before[0] * row[0] : row[0];
        std::copy_n(row, width, to);
        to[0] = size;
    }
    spaces = own_spaces, offsets = own_offsets, inner_steps = steps, outer = rows;
    if (merged == 0) return;
    depth = merged - 1;
    inner = rows[depth * Size(width)];
    std::copy_n(rows + depth * Size(width) + 1, count, steps);
    for (Size axis = 0; axis < depth; axis++)
        for (size_t i = 0; i < count; i++) rows[axis * Size(width) + 1 + Size(i)] *= size_of(views[i]->dtype);
}

void AnyLoops::run(std::byte** pointers, Size count, const void* body, Call call) const {
    const Size width = count + 1, last = depth - 1;
    const Size* const row = outer + last * width;
    Size counts[Axes::most] = {};
    for (;;) {
        call(body, pointers, inner, inner_steps, row[0], row + 1);
        Size axis = last - 1;
        for (; axis >= 0; axis--) {
            const Size* const own = outer + axis * width;
            for (Size i = 0; i < count; i++) pointers[i] += own[1 + i];
            if (++counts[axis] < own[0]) break;
            for (Size i = 0; i < count; i++) pointers[i] -= own[0] * own[1 + i];
            counts[axis] = 0;
        }
        if (axis < 0) return;
    }
}

}  // namespace onward
