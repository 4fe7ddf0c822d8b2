// NumPy's C API, the fastest way to read and to create arrays.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
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
    PyObject* (*array_at)(PyTypeObject* type, PyObject* dtype, int axes, const Py_ssize_t* shape,
                          const Py_ssize_t* strides, void* data, int flags, PyObject* object);  // likewise
    int (*set_base)(PyObject* array, PyObject* base);  // owns the base
    nb::object ascontiguousarray, float32, float64, int8, int64;

    NumPy() {
        const nb::module_ module = nb::module_::import_("numpy");
        ascontiguousarray = module.attr("ascontiguousarray");
        float32 = module.attr("dtype")("f4"), float64 = module.attr("dtype")("f8");
        int8 = module.attr("dtype")("i1"), int64 = module.attr("dtype")("i8");
        const nb::object table = nb::module_::import_("numpy._core._multiarray_umath").attr("_ARRAY_API");
        void** const functions = (void**)PyCapsule_GetPointer(table.ptr(), nullptr);
        if (!functions) nb::raise_python_error();
        const unsigned version = ((unsigned (*)())functions[0])() >> 24;
        if (version != 1 && version != 2) throw nb::import_error("onward supports the versions 1 and 2 of NumPy's ABI");
        ndarray = (PyTypeObject*)functions[2];
        empty = (decltype(empty))functions[184];
        array_at = (decltype(array_at))functions[94];
        set_base = (decltype(set_base))functions[282];
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

constexpr Size line = 64;  // bytes in a cache line

// An array at an address of memory that another one owns.
inline nb::object array_at(nb::object memory, std::byte* data, std::span<const Size> shape, const nb::object& dtype) {
    constexpr int flags = 0x1 | 0x100 | 0x400;  // contiguous, aligned, writeable
    const nb::object array = nb::steal(numpy().array_at(
        numpy().ndarray, nb::object(dtype).release().ptr(), int(shape.size()), (const Py_ssize_t*)shape.data(), nullptr,
        data, flags, nullptr));
    if (!array.is_valid() || numpy().set_base(array.ptr(), memory.release().ptr())) nb::raise_python_error();
    return array;
}

// A new array that starts at a cache line, as vectors do.
inline nb::object empty_aligned(std::span<const Size> shape, const nb::object& dtype, Size bytes) {
    const Size all[] = {bytes + line};
    nb::object memory = empty(all, numpy().int8);
    std::byte* const first = memory_of<std::byte>(memory);
    std::byte* const data = first + (line - Size(uintptr_t(first) % line)) % line;
    return array_at(std::move(memory), data, shape, dtype);
}

template <class Real>
nb::object empty(std::span<const Size> shape) {
    return empty(shape, sizeof(Real) == 4 ? numpy().float32 : numpy().float64);
}

}  // namespace python
