// A matrix applied to rows.
#pragma once

#include "platform/packed.h"

namespace onward {

// y = W x + b for each row; W (O, I).
template <class Real>
class Dense {
public:
    Dense(const Matrix<Real>& W, const Real* b, Size O, Size I);
    void forward(const Real* x, Size rows, Real* y) const;

    const Size O, I;

private:
    const Kernels<Real>& kernels;
    Packed<Real> packed;
};

// Adds the gradients by W and, unless it is null, b, of rows of x (I) and of the gradients dy (O) by y. A row of dy
// without a number other than 0 counts for nothing: its x may lie past a length, and be NaN.
template <class Real>
void add_gradients(const Real* dy, Size O, const Real* x, Size I, Size rows, Real* dW, Real* db);

}  // namespace onward
