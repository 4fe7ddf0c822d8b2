// The cross entropy of rows.
#include "run/losses.h"

#include <algorithm>

#include "platform/denormals.h"
#include "platform/dispatch.h"

namespace onward {

template <class Real>
double cross_entropy(const Real* y, Size rows, Size C, const int64_t* targets, double smoothing, Real* dy) {
    const FlushDenormals flush;
    const Kernels<Real>& kernels = onward::kernels<Real>();
    const double count = double(std::count_if(targets, targets + rows, [](int64_t target) { return target >= 0; }));
    double total = 0;
    for (Size row = 0; row < rows; row++, y += C, dy += C) {
        if (targets[row] >= 0)
            total += kernels.training.cross_entropy(C, y, targets[row], smoothing, count, dy);
        else
            std::fill_n(dy, C, Real(0));
    }
    return count ? total / count : 0;
}

template double cross_entropy(const float*, Size, Size, const int64_t*, double, float*);
template double cross_entropy(const double*, Size, Size, const int64_t*, double, double*);

}  // namespace onward
