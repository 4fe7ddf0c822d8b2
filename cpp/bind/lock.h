// The lock of the calls of a stream or pool.
#pragma once

#include <nanobind/nanobind.h>

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
    void unlock() { mutex.unlock(); }
    bool is_mine() const { return mutex.is_mine(); }

private:
    onward::CallMutex mutex;
};

}  // namespace python
