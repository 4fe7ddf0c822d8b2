// NumPy arrays: checks of those that the core reads and writes, and new ones.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "bind/gil.h"
#include "run/run.h"

namespace nb = nanobind;
using namespace nb::literals;

template <>
struct nb::detail::dtype_traits<onward::Half> {
    static constexpr nb::dlpack::dtype value{uint8_t(nb::dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = nb::detail::const_name("float16");
};

namespace python {

using onward::Size;

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

// What the core uses of NumPy.
struct NumPy {
    nb::object ndarray, empty, ascontiguousarray, float32, float64;
};

// Looked up at the first use. Not a static variable: a thread that waits for another one to initialize it would hold
// the GIL, for which the other may be waiting.
inline const NumPy& numpy() {
    static constinit std::atomic<const NumPy*> found{nullptr};  // never destroyed: Python ends first
    const NumPy* known = found.load(std::memory_order_acquire);
    if (!known) {
        const nb::object module = nb::module_::import_("numpy"), dtype = module.attr("dtype");
        std::unique_ptr<const NumPy> mine(
            new NumPy{module.attr("ndarray"), module.attr("empty"), module.attr("ascontiguousarray"), dtype("f4"),
                      dtype("f8")});
        if (found.compare_exchange_strong(known, mine.get())) known = mine.release();
    }
    return *known;
}

// A new NumPy array. Calling numpy.empty is the fastest way to create one.
template <class Real>
nb::object empty(const nb::tuple& shape) {
    return numpy().empty(shape, sizeof(Real) == 4 ? numpy().float32 : numpy().float64);
}

// The memory of a new array. The buffer protocol is the fastest way to access it.
template <class Real>
Real* memory_of(const nb::object& array) {
    Py_buffer view;
    if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_WRITABLE)) nb::raise_python_error();
    PyBuffer_Release(&view);
    return (Real*)view.buf;
}

}  // namespace python
