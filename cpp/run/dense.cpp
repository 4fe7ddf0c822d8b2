// Applies a matrix to blocks of rows.
#include "run/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/temporary.h"
#include "run/run.h"

namespace onward {

template <class Real>
Dense<Real>::Dense(const Matrix<Real>& W, const Real* b, Size O, Size I)
    : O(O), I(I), kernels(onward::kernels<Real>()), packed(W, b, 0, 1, O, I, kernels.L) {}

template <class Real>
bool Dense<Real>::is_finite() const {
    if (packed.quantized_size) return true;
    signed char known = __atomic_load_n(&finite, __ATOMIC_RELAXED);
    if (known < 0) {  // 0 times an infinity or NaN is NaN
        const Size units = packed.blocks * kernels.L;
        const Buffer<Real> zeros = Buffer<Real>::zeros(I), out(units);
        kernels.product(packed, {zeros.data(), I}, 1, out.data(), units, nullptr, {0, packed.blocks});
        known = std::none_of(out.data(), out.data() + units, [](Real y) { return std::isnan(y); });
        __atomic_store_n(&finite, known, __ATOMIC_RELAXED);
    }
    return known;
}

template <class Real>
Size Dense<Real>::work() const {
    return multiply_adds<Real>(packed, kernels.L);
}

template <class Real>
void Dense<Real>::forward(const Real* x, Size rows, Real* y, Interrupt& interrupt) const {
    const FlushDenormals flush;
    const Size stride = packed.blocks * kernels.L;
    const Temporary<Real> out(std::min(rows, rows_at_once) * stride);
    const Temporary<int32_t> quantized(std::min(rows, rows_at_once) * packed.quantized_size);
    Size work_since_poll = 0;
    for (Size first = 0; first < rows; first += rows_at_once) {
        const Size n = std::min(rows_at_once, rows - first);
        kernels.product(packed, {x + first * I, I}, n, out.data(), stride, quantized.data(), {0, packed.blocks});
        for (Size row = 0; row < n; row++)
            std::memcpy(y + (first + row) * O, out.data() + row * stride, O * sizeof(Real));
        work_since_poll += n * work();
        if (work_since_poll > work_per_poll) {
            if (interrupt.requested()) return;
            work_since_poll = 0;
        }
    }
}

template <class Real>
void add_gradients(const Real* dy, Size O, const Real* x, Size I, Size rows, Real* dW, Real* db,
                   Interrupt& interrupt) {
    const FlushDenormals flush;
    const Kernels<Real>& kernels = onward::kernels<Real>();
    const Size L = kernels.L, dy_stride = (ceil_div(O, L) + 1) * L, x_stride = (ceil_div(I, L) + 1) * L;
    const Size most = std::min(rows, rows_backward_at_once);
    const Buffer<Real> chunk(most * (dy_stride + x_stride));
    Real *const dy_rows = chunk.data(), *const x_rows = dy_rows + most * dy_stride;
    for (Size row = 0; row < rows && !interrupt.requested();) {
        Size n = 0;
        for (; row < rows && n < most; row++, dy += O, x += I) {
            if (std::all_of(dy, dy + O, [](Real d) { return d == 0; })) continue;
            std::memcpy(dy_rows + n * dy_stride, dy, O * sizeof(Real));
            std::memcpy(x_rows + n * x_stride, x, I * sizeof(Real));
            n++;
        }
        kernels.training.outer(n, dy_rows, dy_stride, O, x_rows, x_stride, I, dW);
        if (db) kernels.training.add_rows(n, dy_rows, dy_stride, O, db);
    }
}

template void add_gradients(const float*, Size, const float*, Size, Size, float*, float*, Interrupt&);
template void add_gradients(const double*, Size, const double*, Size, Size, double*, double*, Interrupt&);
template class Dense<float>;
template class Dense<double>;

}  // namespace onward
