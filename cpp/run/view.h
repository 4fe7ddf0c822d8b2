// Strided, typed views of the memory of a plan, and loops over their elements.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace onward {

enum class Reduction { sum, maximum };

enum class Comparison { equal, not_equal, less, less_or_equal };

enum class DType { float32, float64, int32, int64, int8, uint8, boolean };

constexpr Size size_of(DType dtype) {
    switch (dtype) {
        case DType::int8:
        case DType::uint8:
        case DType::boolean: return 1;
        case DType::float32:
        case DType::int32: return 4;
        case DType::float64:
        case DType::int64: return 8;
    }
    return 0;
}

template <class Real>
constexpr DType float_type = std::is_same_v<Real, double> ? DType::float64 : DType::float32;

// Calls f with a value of the C++ type of a dtype. A boolean is stored as a byte, 0 or 1.
template <class Function>
auto with_type(DType dtype, Function f) {
    switch (dtype) {
        case DType::float64: return f(double());
        case DType::int32: return f(int32_t());
        case DType::int64: return f(int64_t());
        case DType::int8: return f(int8_t());
        case DType::uint8:
        case DType::boolean: return f(uint8_t());
        case DType::float32: break;
    }
    return f(float());
}

// A number for each axis of a view, stored in place.
class Axes {
public:
    static constexpr size_t most = 16;

    Axes() = default;
    Axes(std::initializer_list<Size> items) {
        for (const Size item : items) push_back(item);
    }
    Axes(const Axes& other) : count(other.count) { std::copy_n(other.numbers, count, numbers); }
    Axes& operator=(const Axes& other) {
        std::copy_n(other.numbers, count = other.count, numbers);
        return *this;
    }
    size_t size() const { return count; }
    bool empty() const { return count == 0; }
    Size* begin() { return numbers; }
    Size* end() { return numbers + count; }
    const Size* begin() const { return numbers; }
    const Size* end() const { return numbers + count; }
    Size& operator[](size_t axis) { return numbers[axis]; }
    const Size& operator[](size_t axis) const { return numbers[axis]; }
    Size& back() { return numbers[count - 1]; }
    const Size& back() const { return numbers[count - 1]; }
    const Size& at(size_t axis) const {
        if (axis >= count) throw std::out_of_range("a view has too few axes");
        return numbers[axis];
    }
    void push_back(Size number) {
        if (count == most) throw std::out_of_range("a view has too many axes");
        numbers[count++] = number;
    }
    // Removes the axes from `first` to `last` - 1.
    void drop(size_t first, size_t last) { std::copy(numbers + last, end(), numbers + first), count -= last - first; }
    bool operator==(const Axes& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

private:
    size_t count = 0;
    Size numbers[most];
};

// An array in one of a plan's spaces: 0 is the arena, 1 holds the constants; the inputs and then the outputs of a call
// follow. Offset and strides count elements.
struct View {
    Size space = 0, offset = 0;
    Axes shape, strides;
    DType dtype = DType::float32;
};

inline bool is_empty(const View& view) { return std::count(view.shape.begin(), view.shape.end(), 0) > 0; }

inline Size elements(const Axes& shape) {
    return std::accumulate(shape.begin(), shape.end(), Size(1), std::multiplies());
}

inline bool is_contiguous(const View& view) {
    Size stride = 1;
    for (size_t axis = view.shape.size(); axis-- > 0; stride *= view.shape[axis])
        if (view.shape[axis] != 1 && view.strides[axis] != stride) return false;
    return true;
}

// Where the first element of a view is.
struct Place {
    Size space, offset;
    Place(const View& view) : space(view.space), offset(view.offset * size_of(view.dtype)) {}
};

template <class T>
T* at(const Place& place, std::byte* const* spaces) {
    return (T*)(spaces[place.space] + place.offset);
}

// Memory for what the steps of a plan keep. It is used again as a whole, and grows only if what follows is larger.
class Memory {
public:
    // Uninitialized memory for n objects that need no destructor. Throws std::bad_alloc.
    template <class T>
    T* take(Size n = 1) {
        static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= sizeof(Size));
        if (n > PTRDIFF_MAX / Size(sizeof(T))) throw std::bad_alloc();
        return (T*)bytes(size_t(n) * sizeof(T));
    }
    template <class T>
    T* keep(T object) {
        return new (take<T>()) T(std::move(object));
    }
    void clear() { block = used = 0; }

private:
    void* bytes(size_t n);

    struct Block {
        std::unique_ptr<std::byte[]> memory;
        size_t size;
    };
    std::vector<Block> blocks;
    size_t block = 0, used = 0;
};

// The offsets of the elements of some axes of a view, in order. `line` of them at a time are `stride` apart.
class Offsets {
public:
    Offsets(Memory& memory, const View& view, size_t first, size_t last);
    // The offset of an element, of which there must be at least one.
    Size operator[](Size element) const {
        Size offset = 0;
        for (Size axis = depth; axis-- > 1; element /= axes[axis].n)
            offset += element % axes[axis].n * axes[axis].stride;
        return depth ? offset + element * axes[0].stride : offset;
    }
    // All of them one behind the other.
    const Size* list(Memory& memory) const;
    void fill(Size first, Size n, Size* to) const;  // writes those of n elements from the first one on
    // Keeps all of them in memory, unless they are evenly spaced. Then they need not be computed in each run.
    void keep(Memory& memory) {
        if (line < count) kept = list(memory);
    }
    // Those of n elements from the first one on, which are kept or written to a buffer.
    const Size* some(Size first, Size n, Size* buffer) const {
        if (kept) return kept + first;
        fill(first, n, buffer);
        return buffer;
    }

    Size count = 1, line = 1, stride = 0;

    // Goes through the elements from one on, and divides only to find that one.
    class Walk {
    public:
        Walk(const Offsets& offsets, Size first);
        void skip(Size n);  // n elements of the present line
        Size offset = 0, left;  // of the present element, and how many elements its line has from here on

    private:
        const Offsets& offsets;
        Size at[Axes::most];
    };

private:
    struct Axis {
        Size n, stride;
    };
    const Axis* axes = nullptr;  // those that cannot be merged with the next one
    Size depth = 0;
    const Size* kept = nullptr;
};

// Iterates over the elements of views of one shape, merging axes where the strides allow it.
struct AnyLoops {
    AnyLoops(Memory& memory, const View* const* views, size_t count, bool in_order = false);
    // Calls call(body, pointers, n, steps, rows, strides) for each run of the innermost of the outer loops, of which
    // there must be one: in such a run, the pointers move on by the strides from row to row. One function for all
    // bodies keeps the program small.
    using Call = void (*)(const void* body, std::byte* const* pointers, Size n, const Size* steps, Size rows,
                          const Size* strides);
    void run(std::byte** pointers, Size count, const void* body, Call call) const;

    // For each view: its space, its offset in bytes and its stride in elements. The outer loops, each a size and the
    // strides in bytes.
    const Size *spaces = nullptr, *offsets = nullptr, *inner_steps = nullptr, *outer = nullptr;
    Size inner = 1, depth = 0;
};

template <int N>
class Loops {
public:
    // Follows the memory order of the last view, or, if `in_order`, the order of its axes. Broadcasts the others to
    // its shape: a leading axis that a view lacks, or an axis of size 1, has stride 0. Throws std::invalid_argument
    // if their shapes do not permit that.
    Loops(Memory& memory, const std::array<const View*, N>& views, bool in_order = false)
        : loops(memory, views.data(), N, in_order) {}
    // Calls body(pointers, n, steps) for each run of the innermost loop. The pointers have type T*; steps count
    // elements.
    template <class T, class Body>
    void run(std::byte* const* spaces, const Body& body) const {
        std::byte* pointers[N];
        if (loops.inner == 0) return;
        for (int i = 0; i < N; i++) pointers[i] = spaces[loops.spaces[i]] + loops.offsets[i];
        if (loops.depth == 0) run_rows<T, Body>(&body, pointers, loops.inner, loops.inner_steps, 1, loops.inner_steps);
        else loops.run(pointers, N, &body, run_rows<T, Body>);
    }

private:
    template <class T, class Body>
#ifdef __OPTIMIZE_SIZE__
    [[gnu::noinline]]  // `run` would have a copy of its own
#endif
    static void run_rows(const void* body, std::byte* const* pointers, Size n, const Size* steps, Size rows,
                         const Size* strides) {
        std::array<std::byte*, N> p;
        std::array<T*, N> typed;
        std::array<Size, N> own;
        for (int i = 0; i < N; i++) p[i] = pointers[i], own[i] = steps[i];
        for (; rows > 0; rows--) {
            for (int i = 0; i < N; i++) typed[i] = (T*)p[i];
            (*(const Body*)body)(typed, n, own);
            for (int i = 0; i < N; i++) p[i] += strides[i];
        }
    }

    AnyLoops loops;
};

constexpr Size block = 512;  // floats of a strided run gathered at once

// Loops over float32 views of one shape, the last of which is written, in blocks of adjacent elements: an operand that
// is neither contiguous nor a single number, and a y that is not contiguous, are copied through a small buffer. Short
// runs form one block together.
class Blocks {
public:
    static constexpr size_t most_views = 8;

    // Broadcasts the other views to the last one. If not `any_length`, blocks have at most `block` elements.
    Blocks(Memory& memory, std::initializer_list<const View*> views)
        : Blocks(memory, views.begin(), views.size(), true) {}
    Blocks(Memory& memory, const View* const* views, size_t count, bool any_length);
    // Calls f(n, operands, steps, y) for each block. The step of an operand is 0 for a single number, otherwise 1.
    template <class Function>
    void run(std::byte* const* spaces, const Function& f) const {
        run(spaces, &f, [](const void* f, Size n, const float* const* operands, const Size* steps, float* y) {
            (*(const Function*)f)(n, operands, steps, y);
        });
    }

private:
    using Call = void (*)(const void* f, Size n, const float* const* operands, const Size* steps, float* y);
    void run(std::byte* const* spaces, const void* f, Call call) const;
    void run_line(std::byte* const* p, const void* f, Call call) const;
    void run_rows(std::byte* const* p, const void* f, Call call) const;

    AnyLoops loops;
    size_t count;
    Size rows = 1;                          // runs of the innermost loop in a block
    Size row_count = 1;                     // of the loop around it, if a block has several
    const Size* row_strides = nullptr;      // in elements
    bool any_length;
};

// Calls f(n, operands, y) for the runs of one loop. An operand that is neither contiguous nor a single number, and a y
// that is not contiguous, are copied through a small buffer.
template <size_t N, class Function>
void with_contiguous(const std::array<float*, N + 1>& p, Size n, const std::array<Size, N + 1>& steps, Function f) {
    float gathered[N + 1][block];
    if (std::all_of(steps.begin(), steps.end() - 1, [](Size step) { return step == 0 || step == 1; }) &&
        (steps[N] == 1 || n == 1)) {
        std::array<const float*, N> operands;
        std::array<Size, N> operand_steps;
        for (size_t i = 0; i < N; i++) operands[i] = p[i], operand_steps[i] = steps[i];
        return f(n, operands, operand_steps, p[N]);
    }
    for (Size first = 0; first < n; first += block) {
        const Size count = std::min(block, n - first);
        std::array<const float*, N> operands;
        std::array<Size, N> operand_steps;
        for (size_t i = 0; i < N; i++) {
            for (Size k = 0; k < count; k++) gathered[i][k] = p[i][(first + k) * steps[i]];
            operands[i] = gathered[i], operand_steps[i] = 1;
        }
        float* const y = p[N] + first * steps[N];
        for (Size k = 0; k < count; k++) gathered[N][k] = y[k * steps[N]];
        f(count, operands, operand_steps, gathered[N]);
        for (Size k = 0; k < count; k++) y[k * steps[N]] = gathered[N][k];
    }
}

}  // namespace onward
