// The lock of the calls of a stream or pool.
#pragma once

#include <nanobind/nanobind.h>

#include <mutex>

#include "bind/arrays.h"
#include "platform/interrupt.h"

namespace python {

// Python code holds it, too.
class CallLock {
public:
    void enter() {
        if (mutex.is_mine()) throw onward::Reentrant();
        if (mutex.try_lock()) return;
        const WithoutGil release;  // the thread that holds the lock may need the GIL
        onward::interruptible_lock(mutex).release();
    }
    void exit(const nb::args&) { mutex.unlock(); }
    // Holds the lock while it lives.
    struct Held {
        CallLock& lock;
        explicit Held(CallLock& lock) : lock(lock) { lock.enter(); }
        ~Held() { lock.mutex.unlock(); }
        Held(const Held&) = delete;
    };
    bool is_mine() const { return mutex.is_mine(); }

    // Runs a call that changes what the lock protects: `compute` returns the output, a function that makes the change,
    // one that undoes it, and the arrays of both. The error of a signal handler undoes the change. None arrives between
    // the change and the return, where the output would be lost, unless something large is freed there: the arrays
    // live until the next call.
    nb::object run(const nb::callable& compute) {
        const Held held(*this);
        kept.reset();
        nb::object output, change, undo;
        {
            const auto found = nb::cast<nb::tuple>(compute());
            output = found[0], change = found[1], undo = found[2], kept = found[3];
        }
        try {
            change();
            if (PyErr_CheckSignals()) throw nb::python_error();
        } catch (const nb::python_error&) {
            undo();
            throw;
        }
        return output;
    }

private:
    onward::CallMutex mutex;
    nb::object kept;
};

}  // namespace python
