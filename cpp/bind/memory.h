// The memory of an object with bytes, such as a memoryview.
#pragma once

#include <cstdint>

#include "bind/arrays.h"

namespace python {

// Lets nobody change or free the memory while it is read.
class Memory {
public:
    explicit Memory(nb::handle object) {
        if (PyObject_GetBuffer(object.ptr(), &buffer, PyBUF_SIMPLE)) throw nb::python_error();
    }
    Memory(const Memory&) = delete;
    ~Memory() { PyBuffer_Release(&buffer); }
    const uint8_t* data() const { return (const uint8_t*)buffer.buf; }
    Size size() const { return Size(buffer.len); }

private:
    Py_buffer buffer;
};

}  // namespace python
