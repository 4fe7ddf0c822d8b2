// A matrix applied to rows, some of them at once.
#include "dense.h"

#include <algorithm>
#include <cstring>

#include "denormals.h"
#include "dispatch.h"
#include "run.h"

namespace onward {

template <class Real>
Dense<Real>::Dense(const Matrix<Real>& W, const Real* b, long O, long I)
    : O(O), I(I), kernels(onward::kernels<Real>()), packed(W, b, 0, 1, O, I, kernels.L) {}

template <class Real>
void Dense<Real>::forward(const Real* x, long rows, Real* y) const {
    const FlushDenormals flush;
    const long stride = packed.blocks * kernels.L;
    const Buffer<Real> out(std::min(rows, rows_at_once) * stride);
    const Buffer<int32_t> quantized(std::min(rows, rows_at_once) * packed.quantized_size);
    for (long first = 0; first < rows; first += rows_at_once) {
        const long n = std::min(rows_at_once, rows - first);
        kernels.product(packed, x + first * I, I, n, out.data(), stride, quantized.data(), {0, packed.blocks});
        for (long row = 0; row < n; row++)
            std::memcpy(y + (first + row) * O, out.data() + row * stride, O * sizeof(Real));
    }
}

template class Dense<float>;
template class Dense<double>;

}  // namespace onward
