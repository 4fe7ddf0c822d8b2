// Steps that move, select or convert elements of any dtype.
#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "run/plan.h"
#include "run/steps/elements.h"
#include "run/steps/transpose.h"

namespace onward {

namespace {

// The axis along which elements are adjacent in memory, or the number of axes.
size_t adjacent_axis(const View& view) {
    size_t axis = 0;
    while (axis < view.shape.size() && (view.strides[axis] != 1 || view.shape[axis] < 2)) axis++;
    return axis;
}

// Converts a number as NumPy does on x86: a float is truncated, and one that is out of range, or NaN, becomes the
// smallest number of 32 or 64 bits; smaller integers keep the low bits.
template <class To, class From>
To converted(From x) {
    if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
        using Wide = std::conditional_t<sizeof(To) == 8, int64_t, int32_t>;
        constexpr From limit = From(uint64_t(1) << (8 * sizeof(Wide) - 1));
        constexpr From low = sizeof(From) == 8 && sizeof(Wide) == 4 ? -limit - 1 : -limit;
        const bool fits = x < limit && (low == -limit ? x >= low : x > low);
        return To(fits ? Wide(x) : std::numeric_limits<Wide>::min());
    } else {
        return To(x);
    }
}

// Copies the elements of a view, unless they stay where they are.
template <class T>
inline void copy_elements(const Loops<2>& loops, std::byte* const* spaces) {
    loops.run<T>(spaces, [](const auto& p, Size n, const auto& step) {
        if (p[0] != p[1]) copy_run(p[0], step[0], n, p[1], step[1]);
    });
}

}  // namespace

void Plan::copy(const View& x, const View& y) {
    check(x), check(y), check_same(x, y);
    if (add_transposition(x, y)) return;
    with_element(x.dtype, [&]<class T>(T) {
        add([loops = Loops<2>(kept, {&x, &y})](std::byte* const* spaces) { copy_elements<T>(loops, spaces); });
    });
}

// Adds a copy between views whose elements are adjacent along different axes, of which blocks are transposed at a time;
// returns whether the views are such ones.
bool Plan::add_transposition(const View& x, const View& y) {
    const size_t i = adjacent_axis(y), j = adjacent_axis(x);
    if (x.shape != y.shape || i == j || std::max(i, j) >= y.shape.size() || x.strides[i] == 0 || is_empty(y) ||
        std::min(y.shape[i], y.shape[j]) < 2)
        return false;
    View from = x, to = y;
    from.shape[i] = from.shape[j] = to.shape[i] = to.shape[j] = 1;
    with_element(x.dtype, [&]<class T>(T) {
        add([this, loops = Loops<2>(kept, {&from, &to}), from_step = x.strides[i], to_step = y.strides[j],
             n = y.shape[i], m = y.shape[j]](std::byte* const* spaces) {
            loops.run<T>(spaces, [=, this](const auto& p, Size count, const auto& step) {
                for (Size k = 0; k < count; k++)
                    transpose<T>(kernels, p[0] + k * step[0], from_step, n, m, p[1] + k * step[1], to_step);
            });
        });
    });
    return true;
}

void Plan::fill_border(const View& x, const View& y, std::span<const Size> low, std::span<const Size> high) {
    check(x), check(y), check_same(x, y);
    if (low.size() != y.shape.size() || high.size() != y.shape.size())
        throw std::invalid_argument("a box needs two bounds for each axis");
    auto* const sides = kept.take<Loops<2>>(2 * Size(y.shape.size()));  // before and after the box, axis by axis
    Size count = 0;
    View rest = y;
    for (size_t axis = 0; axis < y.shape.size(); axis++) {
        if (low[axis] < 0 || low[axis] > high[axis] || high[axis] > y.shape[axis])
            throw std::invalid_argument("a box exceeds its view");
        auto slice = [&](Size first, Size last) {
            View part = rest;
            part.offset += first * part.strides[axis], part.shape[axis] = last - first;
            return part;
        };
        for (const View& side : {slice(0, low[axis]), slice(high[axis], y.shape[axis])})
            if (!is_empty(side)) new (sides + count++) Loops<2>(kept, {&x, &side});
        rest = slice(low[axis], high[axis]);
    }
    with_element(x.dtype, [&]<class T>(T) {
        add([sides, count](std::byte* const* spaces) {
            for (Size side = 0; side < count; side++) copy_elements<T>(sides[side], spaces);
        });
    });
}

void Plan::numbers(std::span<const Size> numbers, const View& y) {
    check(y, DType::int64);
    if (!is_contiguous(y) || Size(numbers.size()) != elements(y.shape))
        throw std::invalid_argument("a list of numbers needs a contiguous result of its size");
    add([y = Place(y), numbers](std::byte* const* spaces) {
        std::copy(numbers.begin(), numbers.end(), at<int64_t>(y, spaces));
    });
}

void Plan::range(Size first, Size step, const View& y) {
    check(y, DType::int64);
    if (!is_contiguous(y)) throw std::invalid_argument("a range needs a contiguous result");
    add([y = Place(y), n = elements(y.shape), first, step](std::byte* const* spaces) {
        int64_t* const to = at<int64_t>(y, spaces);
        for (Size i = 0; i < n; i++) to[i] = first + i * step;
    });
}

void Plan::where(const View& condition, const View& a, const View& b, const View& y) {
    check(condition, DType::boolean), check(a), check(b), check(y), check_same(a, b), check_same(a, y);
    with_element(y.dtype, [&]<class T>(T) {
        add([loops = Loops<4>(kept, {&condition, &a, &b, &y})](std::byte* const* spaces) {
            loops.run<std::byte>(spaces, [](const auto& p, Size n, const auto& step) {
                const auto* const flag = (const uint8_t*)p[0];
                const T *const a = (const T*)p[1], *const b = (const T*)p[2];
                T* const y = (T*)p[3];
                for (Size i = 0; i < n; i++) y[i * step[3]] = flag[i * step[0]] ? a[i * step[1]] : b[i * step[2]];
            });
        });
    });
}

void Plan::cast(const View& x, const View& y) {
    check(x), check(y);
    auto add_step = [&](auto convert) {
        add([loops = Loops<2>(kept, {&x, &y}), convert](std::byte* const* spaces) {
            loops.run<std::byte>(spaces, convert);
        });
    };
    with_type(x.dtype, [&]<class From>(From) {
        if (y.dtype == DType::boolean)
            return add_step([](const auto& p, Size n, const auto& step) {
                for (Size i = 0; i < n; i++) ((uint8_t*)p[1])[i * step[1]] = ((const From*)p[0])[i * step[0]] != 0;
            });
        with_type(y.dtype, [&]<class To>(To) {
            add_step([](const auto& p, Size n, const auto& step) {
                const From* const from = (const From*)p[0];
                To* const to = (To*)p[1];
                if (step[0] == 1 && step[1] == 1)
                    for (Size i = 0; i < n; i++) to[i] = converted<To>(from[i]);
                else
                    for (Size i = 0; i < n; i++) to[i * step[1]] = converted<To>(from[i * step[0]]);
            });
        });
    });
}

}  // namespace onward
