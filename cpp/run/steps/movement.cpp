// Steps that move, select or convert elements of any dtype.
#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "run/plan.h"

namespace onward {

namespace {

// Calls f with an integer of the size of an element, for steps that only move elements.
template <class Function>
auto with_element(DType dtype, Function f) {
    switch (size_of(dtype)) {
        case 1: return f(uint8_t());
        case 4: return f(uint32_t());
    }
    return f(uint64_t());
}

void check_same(const View& a, const View& b) {
    if (a.dtype != b.dtype) throw std::invalid_argument("the views of this step must have one dtype");
}

template <class T>
void copy_run(const T* from, Size from_step, Size n, T* to, Size to_step) {
    if (from_step == 1 && to_step == 1)
        std::memcpy(to, from, n * sizeof(T));
    else if (from_step == 0 && to_step == 1)
        std::fill_n(to, n, *from);
    else
        for (Size i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
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

}  // namespace

void Plan::copy(const View& x, const View& y) {
    check(x), check(y), check_same(x, y);
    with_element(x.dtype, [&]<class T>(T) {
        add([loops = Loops<2>(kept, {&x, &y})](std::byte* const* spaces) {
            loops.run<T>(spaces, [](const auto& p, Size n, const auto& step) {
                copy_run(p[0], step[0], n, p[1], step[1]);
            });
        });
    });
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
            for (Size side = 0; side < count; side++)
                sides[side].run<T>(spaces, [](const auto& p, Size n, const auto& step) {
                    copy_run(p[0], step[0], n, p[1], step[1]);
                });
        });
    });
}

void Plan::gather(const View& x, std::span<const Size> table, const View& y) {
    check(y), check_same(x, y);
    if (!is_contiguous(y) || Size(table.size()) != elements(y.shape))
        throw std::invalid_argument("a table of offsets needs a contiguous result of its size");
    for (const Size offset : table)
        if (x.offset + offset < 0 || (x.offset + offset + 1) * size_of(x.dtype) > space_sizes.at(x.space))
            throw std::out_of_range("a table of offsets exceeds its space");
    with_element(x.dtype, [&]<class T>(T) {
        add([x = Place(x), y = Place(y), table](std::byte* const* spaces) {
            const T* const from = at<T>(x, spaces);
            T* const to = at<T>(y, spaces);
            for (size_t i = 0; i < table.size(); i++) to[i] = from[table[i]];
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

void Plan::take(const View& x, const View& indices, const View& y, const char* name) {
    check(x), check(indices), check(y), check_same(x, y);
    const size_t index_axes = indices.shape.size();
    if (x.shape.empty() || y.shape.size() != x.shape.size() - 1 + index_axes ||
        !std::equal(indices.shape.begin(), indices.shape.end(), y.shape.begin()) ||
        !std::equal(x.shape.begin() + 1, x.shape.end(), y.shape.begin() + index_axes))
        throw std::invalid_argument("the shapes of a selection of rows do not match");
    // The loops cover one row; the rows of x and y are `stride` and `places` away.
    View from = x, to = y;
    from.shape.drop(1), from.strides.drop(1);
    to.shape.drop(index_axes), to.strides.drop(index_axes);
    const Offsets places(kept, y, 0, index_axes), index_places(kept, indices, 0, index_axes);
    const Size n = x.shape[0], stride = x.strides[0];
    auto add_step = [&]<class T, class Index>(T, Index) {
        add([=, first = Place(indices), loops = Loops<2>(kept, {&from, &to})](std::byte* const* spaces) {
            const Index* const index = at<Index>(first, spaces);
            for (Size i = 0; i < places.count; i++) {
                const int64_t row = index[index_places[i]];
                if (row < -n || row >= n)
                    throw BadValue(std::string(name) + ": the index " + std::to_string(row) +
                                   " is out of range for an axis of size " + std::to_string(n));
                const Size x_place = (row < 0 ? row + n : row) * stride, y_place = places[i];
                loops.run<T>(spaces, [=](const auto& p, Size count, const auto& step) {
                    copy_run(p[0] + x_place, step[0], count, p[1] + y_place, step[1]);
                });
            }
        });
    };
    if (indices.dtype != DType::int32 && indices.dtype != DType::int64)
        throw std::invalid_argument("indices must have dtype int32 or int64");
    with_element(x.dtype, [&]<class T>(T element) {
        indices.dtype == DType::int32 ? add_step(element, int32_t()) : add_step(element, int64_t());
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
