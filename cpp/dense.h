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

// Adds the gradients by W and, unless it is null, b, of rows of x (I) and of the gradients dy (O) by y. A row of dy
// without a number other than 0 counts for nothing: its x may lie past a length, and be NaN.
template <class Real>
void add_gradients(const Real* dy, long O, const Real* x, long I, long rows, Real* dW, Real* db);

}  // namespace onward
