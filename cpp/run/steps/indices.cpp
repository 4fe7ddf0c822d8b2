// Steps that read or write elements at indices that are known only when they run.
#include <limits>
#include <string>

#include "run/plan.h"
#include "run/steps/elements.h"

namespace onward {

namespace {

// The axes of an array that indices (.., D) select; the indices of one element are `step` apart.
struct Selection {
    struct Axis {
        Size n, stride;
    };
    std::span<const Axis> axes;
    Size step;
    const char* name;

    // Where the element is that some indices select. Throws BadValue.
    template <class Index>
    Size operator()(const Index* index) const {
        Size place = 0;
        for (const auto [n, stride] : axes) {
            const int64_t found = *index;
            if (found < -n || found >= n) {
                const bool is_negative = found == std::numeric_limits<int64_t>::min();
                const std::string index = is_negative ? "a negative index" : "the index " + std::to_string(found);
                throw BadValue(std::string(name) + ": " + index + " is out of range for an axis of size " +
                               std::to_string(n));
            }
            place += (found < 0 ? found + n : found) * stride;
            index += step;
        }
        return place;
    }

    // The axis that some numbers select, if it is the only one and they count its elements from the first.
    template <class Index>
    const Axis* only_axis(const Index* index, Size count, Size apart) const {
        if (axes.size() != 1) return nullptr;
        int64_t signs = 0;
        for (Size i = 0; i < count; i++) signs |= index[i * apart] | (axes[0].n - 1 - index[i * apart]);
        return signs < 0 ? nullptr : &axes[0];
    }
};

// Splits a view (n.., I..) into the selection of its first axes and the view of the first element (I..), and takes the
// last axis from the view of the indices (I.., D).
Selection split(Memory& memory, View& selected, View& indices, const Axes& shape, const char* name) {
    if (indices.shape.size() != shape.size() + 1) throw std::invalid_argument("indices have the wrong number of axes");
    const size_t depth = size_t(indices.shape.back());
    const Size step = indices.strides.back();
    auto drop_last = [](Axes& axes) {
        Axes rest;
        for (size_t axis = 0; axis + 1 < axes.size(); axis++) rest.push_back(axes[axis]);
        axes = rest;
    };
    drop_last(indices.shape), drop_last(indices.strides);
    if (selected.shape.size() != depth + shape.size()) throw std::invalid_argument("indices select other axes");
    auto* const axes = memory.take<Selection::Axis>(Size(depth));
    for (size_t axis = 0; axis < depth; axis++) axes[axis] = {selected.shape[axis], selected.strides[axis]};
    selected.shape.drop(0, depth), selected.strides.drop(0, depth);
    if (selected.shape != shape || indices.shape != shape)
        throw std::invalid_argument("the shapes of a selection do not match");
    return {{axes, depth}, step, name};
}

template <class Function>
void with_index(DType dtype, Function f) {
    if (dtype != DType::int32 && dtype != DType::int64)
        throw std::invalid_argument("indices must have dtype int32 or int64");
    dtype == DType::int32 ? f(int32_t()) : f(int64_t());
}

}  // namespace

void Plan::take(const View& x, const View& indices, const View& y, const char* name) {
    check(x), check(indices), check(y), check_same(x, y);
    View from = x, places = indices;
    const Selection selection = split(kept, from, places, y.shape, name);
    with_index(indices.dtype, [&]<class Index>(Index) {
        with_element(x.dtype, [&]<class T>(T) {
            add([selection, loops = Loops<3>(kept, {&places, &from, &y})](std::byte* const* spaces) {
                const Index* checked = nullptr;  // most rows have the same indices
                const Selection::Axis* axis = nullptr;
                loops.run<std::byte>(spaces, [&](const auto& p, Size n, const auto& step) {
                    const Index* const index = (const Index*)p[0];
                    const T* const from = (const T*)p[1];
                    T* const to = (T*)p[2];
                    if (step[0] == 0) return copy_run(from + selection(index), step[1], n, to, step[2]);
                    if (index != checked) axis = selection.only_axis(index, n, step[0]), checked = index;
                    if (axis && step[0] == 1 && step[1] == 0 && step[2] == 1)
                        for (Size i = 0; i < n; i++) to[i] = from[index[i] * axis->stride];
                    else if (axis)
                        for (Size i = 0; i < n; i++)
                            to[i * step[2]] = from[i * step[1] + index[i * step[0]] * axis->stride];
                    else
                        for (Size i = 0; i < n; i++)
                            to[i * step[2]] = from[i * step[1] + selection(index + i * step[0])];
                });
            });
        });
    });
}

void Plan::put(const std::optional<Binary>& operation, const View& x, const View& indices, const View& y,
               const char* name) {
    check(x), check(indices), check(y), check_same(x, y);
    View to = y, places = indices;
    const Selection selection = split(kept, to, places, x.shape, name);
    auto add_step = [&]<class T, class Index>(T, Index, auto f) {
        add([selection, f, loops = Loops<3>(kept, {&places, &to, &x}, true)](std::byte* const* spaces) {
            loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                const Index* const index = (const Index*)p[0];
                T* const to = (T*)p[1];
                const T* const from = (const T*)p[2];
                for (Size i = 0; i < n; i++) {
                    T* const place = to + i * step[1] + selection(index + i * step[0]);
                    *place = f(*place, from[i * step[2]]);
                }
            });
        });
    };
    with_index(indices.dtype, [&](auto index) {
        if (!operation)
            return with_element(x.dtype, [&]<class T>(T element) {
                add_step(element, index, [](T, T update) { return update; });
            });
        with_type(x.dtype, [&]<class T>(T number) {
            with_combination<T>(*operation, [&](auto f) {
                add_step(number, index, [f](T a, T b) { return T(f(a, b)); });
            });
        });
    });
}

}  // namespace onward
