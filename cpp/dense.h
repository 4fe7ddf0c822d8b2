// A matrix applied to rows.
#pragma once

#include "packed.h"

namespace onward {

// y = W x + b for each row; W (O, I).
template <class Real>
class Dense {
public:
    Dense(const Matrix<Real>& W, const Real* b, long O, long I);
    void forward(const Real* x, long rows, Real* y) const;

    const long O, I;

private:
    const Kernels<Real>& kernels;
    Packed<Real> packed;
};

}  // namespace onward
