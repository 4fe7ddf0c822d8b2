// The list of steps of a plan: it checks views, and runs the steps.
#include "run/plan.h"

#include <algorithm>
#include <stdexcept>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/interrupt.h"

namespace onward {

std::vector<Size>& Plan::restart() {
    steps.clear(), kept.clear(), space_sizes.clear();
    return space_sizes;
}

void Plan::check(const View& view) const {
    if (view.space < 0 || view.space >= Size(space_sizes.size()) || view.shape.size() != view.strides.size())
        throw std::out_of_range("a view refers to a space that does not exist, or lacks strides");
    Size low = view.offset, high = view.offset;
    bool fits = true;
    for (size_t axis = 0; axis < view.shape.size(); axis++) {
        if (view.shape[axis] < 0) throw std::out_of_range("a view has a negative size");
        Size reach = 0;
        fits = fits && !__builtin_mul_overflow(view.shape[axis] - 1, view.strides[axis], &reach);
        Size& end = reach < 0 ? low : high;
        fits = fits && !__builtin_add_overflow(end, reach, &end);
    }
    if (!is_empty(view) && (!fits || low < 0 || high >= space_sizes[view.space] / size_of(view.dtype)))
        throw std::out_of_range("a view exceeds its space");
}

void Plan::check(const View& view, DType dtype) const {
    check(view);
    if (view.dtype != dtype) throw std::invalid_argument("a view has the wrong dtype for this step");
}

// Where all spaces are small, reading the clock takes as long as a step.
bool Plan::polls_often() const {
    return std::any_of(space_sizes.begin(), space_sizes.end(), [](Size size) { return size > 1 << 20; });
}

void Plan::run(std::byte* const* spaces, Size first, Size last) const {
    if (first < 0 || last > size()) throw std::invalid_argument("the plan has fewer steps");
    const FlushDenormals flush;
    Interrupt interrupt;
    const bool is_large = polls_often();
    for (Size step = first; step < last; step++) {
        if ((is_large || step % 8 == 7) && interrupt.requested()) break;
        steps[step].run(steps[step].kept, spaces);
    }
    interrupt.throw_if_happened();
}

}  // namespace onward
