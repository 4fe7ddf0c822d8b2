// The lock of the Python interpreter, and threads that Python ends.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace python {

// When the process exits, Python up to 3.13 ends a daemon thread that asks for the GIL, and glibc unwinds its stack.
// That aborts at the first `noexcept` or `catch (...)`, and would run destructors of Python objects without the GIL.
// Therefore the thread waits for the end of the process instead, as in Python 3.14.
[[noreturn]] inline void wait_for_exit() {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// Calls a function that may take the GIL. The reference that glibc binds has no object, which the sanitizer would
// report.
template <class Function>
#if defined(__GLIBCXX__)
[[gnu::no_sanitize("undefined")]]
#endif
auto waiting_at_exit(const Function& function) {
#if defined(__GLIBCXX__)
    try {
        return function();
    } catch (const abi::__forced_unwind&) {
        wait_for_exit();
    }
#else
    return function();
#endif
}

// Releases the GIL for a block.
class WithoutGil {
public:
    WithoutGil() noexcept : state(PyEval_SaveThread()) {}
    ~WithoutGil() {
        waiting_at_exit([&] { PyEval_RestoreThread(state); });
    }
    WithoutGil(const WithoutGil&) = delete;

private:
    PyThreadState* const state;
};

}  // namespace python
