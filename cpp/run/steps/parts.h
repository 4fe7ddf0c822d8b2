// Shares the items of a step between threads.
#pragma once

#include "kernels/kernels.h"

namespace onward {

using RunPart = void (*)(const void* f, Size first, Size last);

void in_parts(Size count, Size most, Size work, const void* f, RunPart run);

// Calls f(first, last) for parts of `count` items, at most `most`, in parallel if that saves time for so much work in
// multiply-adds. Denormals are flushed meanwhile.
template <class Function>
void in_parts(Size count, Size most, Size work, const Function& f) {
    in_parts(count, most, work, &f, [](const void* f, Size first, Size last) { (*(const Function*)f)(first, last); });
}

}  // namespace onward
