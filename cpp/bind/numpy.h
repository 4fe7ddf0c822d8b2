// NumPy's C API, the fastest way to read and to create arrays.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

#include "kernels/kernels.h"

namespace nb = nanobind;

namespace python {

using onward::Size;

// The first members of NumPy's arrays and dtypes, which are the same in its versions 1 and 2.
struct DTypeObject {
    PyObject object;
    PyTypeObject* scalar;
    char kind, character, byte_order, flags;
    int number;
};

struct ArrayObject {
    PyObject object;
    std::byte* data;
    int axes;
    Py_ssize_t *shape, *strides;  // the strides in bytes
    PyObject* base;
    const DTypeObject* dtype;
    int flags;

    std::span<const Py_ssize_t> sizes() const { return {shape, size_t(axes)}; }
    bool is_contiguous() const { return flags & 1; }
    bool is_writeable() const { return flags & 0x400; }
    // Whether its elements are aligned and have the byte order of this machine.
    bool is_native() const { return flags & 0x100 && (dtype->byte_order == '=' || dtype->byte_order == '|'); }
    template <class Real>
    bool holds() const {
        return is_native() && dtype->number == (sizeof(Real) == 4 ? 11 : 12);
    }
};

// The parts of NumPy that the core uses.
struct NumPy {
    PyTypeObject* ndarray;
    PyObject* (*empty)(int axes, const Py_ssize_t* shape, PyObject* dtype, int columns_first);  // owns the dtype
    nb::object ascontiguousarray, float32, float64, int64;

    NumPy() {
        const nb::module_ module = nb::module_::import_("numpy");
        ascontiguousarray = module.attr("ascontiguousarray");
        float32 = module.attr("dtype")("f4"), float64 = module.attr("dtype")("f8"), int64 = module.attr("dtype")("i8");
        const nb::object table = nb::module_::import_("numpy._core._multiarray_umath").attr("_ARRAY_API");
        void** const functions = (void**)PyCapsule_GetPointer(table.ptr(), nullptr);
        if (!functions) nb::raise_python_error();
        const unsigned version = ((unsigned (*)())functions[0])() >> 24;
        if (version != 1 && version != 2) throw nb::import_error("onward supports the versions 1 and 2 of NumPy's ABI");
        ndarray = (PyTypeObject*)functions[2];
        empty = (decltype(empty))functions[184];
    }
};

// Looked up at the first use. Not a static variable: a thread that waits for another one to initialize it would hold
// the GIL, for which the other may be waiting.
inline const NumPy& numpy() {
    static constinit std::atomic<const NumPy*> found{nullptr};  // never destroyed: Python ends first
    const NumPy* known = found.load(std::memory_order_acquire);
    if (!known) {
        std::unique_ptr<const NumPy> mine(new NumPy);
        if (found.compare_exchange_strong(known, mine.get())) known = mine.release();
    }
    return *known;
}

// The array that an object is; null if it is none. A subclass of ndarray may behave differently.
inline const ArrayObject* array_in(PyObject* object) {
    return Py_TYPE(object) == numpy().ndarray ? (const ArrayObject*)object : nullptr;
}

// The memory of an array, which must be an ndarray.
template <class Real>
Real* memory_of(const nb::object& array) {
    return (Real*)((const ArrayObject*)array.ptr())->data;
}

// A new array.
inline nb::object empty(std::span<const Size> shape, const nb::object& dtype) {
    static_assert(sizeof(Size) == sizeof(Py_ssize_t));
    PyObject* const array =
        numpy().empty(int(shape.size()), (const Py_ssize_t*)shape.data(), nb::object(dtype).release().ptr(), 0);
    if (!array) nb::raise_python_error();
    return nb::steal(array);
}

template <class Real>
nb::object empty(std::span<const Size> shape) {
    return empty(shape, sizeof(Real) == 4 ? numpy().float32 : numpy().float64);
}

}  // namespace python
