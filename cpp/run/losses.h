// The cross entropy of rows, and the sums that training needs, with the same bits on every processor.
#pragma once

#include "kernels/kernels.h"

namespace onward {

// The mean cross entropy over the rows of logits y (C) whose target is not negative, or 0 where there are none; dy
// becomes its gradient, which is 0 in the other rows.
template <class Real>
double cross_entropy(const Real* y, Size rows, Size C, const int64_t* targets, double smoothing, Real* dy);

}  // namespace onward
