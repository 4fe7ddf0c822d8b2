// Sliding windows over rows of channels: pooling, and convolutions in which each channel has its own kernel.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Window;
using onward::Windows;

// y[row][c] = start(c) combined with the elements of channel c in the window, one after the other, plus 0, which turns
// -0 into 0: a maximum may return either.
template <class Real, class Start, class Combine>
void for_windows(const Windows<Real>& w, Real* y, Size y_stride, Start start, Combine combine) {
    constexpr int L = Float<Real>::L;
    for (Size row = 0; row < w.rows; row++)
        for (Size c = 0; c < w.channels; c += L) {
            const Real* const x = w.x + row * w.stride + c;
            const Size n = w.channels - c;
            vec_of<Real> total = start(x, c, n);
            for (Size tap = 0; tap < w.taps; tap++) total = combine(total, load_some(x + w.offsets[tap], n), tap, c, n);
            store_some(y + row * y_stride + c, total + Real(0), n);
        }
}

// A maximum starts with the first element; taking it twice changes nothing.
template <class Real>
void window(Window operation, const Windows<Real>& w, Real* y, Size y_stride) {
    using Vec = vec_of<Real>;
    auto first = [&](const Real* x, Size, Size n) { return load_some(x + w.offsets[0], n); };
    auto bias = [&](const Real*, Size c, Size n) { return w.bias ? load_some(w.bias + c, n) : Vec{}; };
    switch (operation) {
        case Window::maximum:
            return for_windows(w, y, y_stride, first, [](Vec a, Vec b, auto...) { return larger<Real>(a, b); });
        case Window::sum:
            return for_windows(w, y, y_stride, bias, [](Vec a, Vec b, auto...) { return a + b; });
        case Window::weighted_sum:
            return for_windows(w, y, y_stride, bias, [&](Vec a, Vec b, Size tap, Size c, Size n) {
                return fma(b, load_some(w.weights + tap * w.channels + c, n), a);
            });
    }
}

}  // namespace
