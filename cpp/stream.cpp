// Steps a layer's state on, one row and one time step a call.
#include "stream.h"

#include <limits>

#include "denormals.h"

namespace onward {

template <class Real>
Stream<Real>::Stream(const Stack<Real>& stack)
    : stack(stack), lengths(1, std::numeric_limits<long>::max()), between(2 * stack.P) {
    runs.reserve(stack.layers);
    for (const Direction<Real>& direction : stack.directions)
        runs.emplace_back(stack.kernels, direction, false, lengths, 1, 1, 1);
}

template <class Real>
Stream<Real>::~Stream() = default;

template <class Real>
void Stream<Real>::step(const Real* x, Real* y) {
    const FlushDenormals flush;
    Barrier alone(1);
    for (long layer = 0; layer < stack.layers; layer++) {
        Real* const out = layer == stack.layers - 1 ? y : between.data() + layer % 2 * stack.P;
        runs[layer].advance({x, 0, 0}, {out, 0, 0}, t, t + 1, 0, 1, alone);
        x = out;
    }
    t++;
}

template <class Real>
void Stream<Real>::state(Real* h, Real* c) const {
    const long row = 0;
    for (long layer = 0; layer < stack.layers; layer++)
        runs[layer].finish(h + layer * stack.P, c ? c + layer * stack.H : nullptr, &row, t);
}

template <class Real>
void Stream<Real>::set_state(const Real* h, const Real* c) {
    const long row = 0;
    for (long layer = 0; layer < stack.layers; layer++)
        runs[layer].start(h ? h + layer * stack.P : nullptr, c ? c + layer * stack.H : nullptr, &row, t);
}

template class Stream<float>;
template class Stream<double>;

}  // namespace onward
