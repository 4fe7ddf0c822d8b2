// A matrix applied to rows.
#pragma once

#include "platform/interrupt.h"
#include "platform/packed.h"

namespace onward {

// y = W x + b for each row; W (O, I).
template <class Real>
class Dense {
public:
    Dense(const Matrix<Real>& W, const Real* b, Size O, Size I);
    void forward(const Real* x, Size rows, Real* y, Interrupt& interrupt) const;  // incomplete once interrupted
    const Panels<Real>& panels() const { return packed; }
    bool is_finite() const;  // whether no weight is an infinity or NaN, and no bias NaN; computed when first needed
    Size work() const;                                                            // multiply-adds of one row

    const Size O, I;

private:
    const Kernels<Real>& kernels;
    Packed<Real> packed;
    mutable signed char finite = -1;  // -1: unknown
};

// Adds the gradients with respect to W and b (or null), from x (rows, I) and dy (rows, O). Skips a row whose dy is all
// zeros, because its x may lie past a length and be NaN. Incomplete once interrupted.
template <class Real>
void add_gradients(const Real* dy, Size O, const Real* x, Size I, Size rows, Real* dW, Real* db, Interrupt& interrupt);

}  // namespace onward
