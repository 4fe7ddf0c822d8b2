// Checks of the NumPy arrays that the core reads and writes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "bind/gil.h"
#include "bind/numpy.h"
#include "run/run.h"

using namespace nb::literals;

template <>
struct nb::detail::dtype_traits<onward::Half> {
    static constexpr nb::dlpack::dtype value{uint8_t(nb::dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = nb::detail::const_name("float16");
};

namespace python {

using In = nb::ndarray<nb::ro, nb::device::cpu>;
using Out = nb::ndarray<nb::device::cpu>;
using OptionalIn = std::optional<In>;
using OptionalOut = std::optional<Out>;

// The memory of an array. Checks its dtype, its shape (-1: any size), and that its axes from `contiguous_from` on are
// C-contiguous.
template <class Real, class Array>
Real* data_of(const Array& array, const char* name, std::initializer_list<Size> shape, Size contiguous_from = 0) {
    bool fits = array.dtype() == nb::dtype<std::remove_const_t<Real>>() && array.ndim() == shape.size();
    Size stride = 1;
    for (Size axis = Size(shape.size()) - 1; fits && axis >= 0; axis--) {
        const Size size = Size(array.shape(axis)), expected = shape.begin()[axis];
        fits = (expected == -1 || size == expected) &&
               (axis < contiguous_from || size <= 1 || !array.size() || array.stride(axis) == stride);
        stride *= size;
    }
    if (!fits) throw nb::value_error((std::string(name) + " has the wrong dtype, shape or strides").c_str());
    return (Real*)array.data();
}

template <class Real, class Array>
Real* data_of(const std::optional<Array>& array, const char* name, std::initializer_list<Size> shape) {
    return array ? data_of<Real>(*array, name, shape) : nullptr;
}

template <class Real, class Array>
onward::Rows<Real> rows_of(const Array& array, const char* name, std::initializer_list<Size> shape) {
    Real* const data = data_of<Real>(array, name, shape, 2);
    return {data, Size(array.stride(0)), Size(array.stride(1))};
}

// The first address of the elements of an array, and the one past the last.
struct Extent {
    uintptr_t first, last;

    // Whether two arrays surely share no memory. If not, Python finds out exactly.
    bool is_apart(const Extent& other) const { return last <= other.first || other.last <= first; }
};

// An object of the core, in the precision of its weights.
template <template <class> class Object>
using EitherPrecision = std::variant<Object<float>, Object<double>>;

inline bool is_float32(const In& weights) {
    if (weights.dtype() == nb::dtype<float>()) return true;
    if (weights.dtype() == nb::dtype<double>()) return false;
    throw nb::value_error("weights must be float32 or float64");
}

}  // namespace python
