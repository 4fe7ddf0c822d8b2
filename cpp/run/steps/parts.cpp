// Shares the items of a step between threads.
#include "run/steps/parts.h"

#include <algorithm>

#include "platform/denormals.h"
#include "platform/threads.h"

namespace onward {

void in_parts(Size count, Size most, Size work, const void* f, RunPart run) {
    int parts = 1;
    const int useful = int(std::min({Size(num_threads()), most, work / worth_threads + 1}));
    parallel(useful, [&](int n) { parts = n; }, [&](int part) {
        const FlushDenormals flush;
        run(f, count * part / parts, count * (part + 1) / parts);
    }, work);
}

}  // namespace onward
