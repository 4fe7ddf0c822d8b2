// Loops: a body of steps that runs repeatedly, on slices of arrays and with states that stay in memory.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "platform/interrupt.h"
#include "platform/temporary.h"
#include "run/plan.h"

namespace onward {

namespace {

constexpr Size runs_per_poll = 32;  // iterations, where reading the clock takes as long as a step

// Where the slices of an array are: the lowest element of slice 0, and the distance of slices in bytes.
struct Moving {
    Place first;
    Size stride;
    bool backward;
};

struct State {
    Place initial, result, spare;
    Size bytes;
};

}  // namespace

struct Plan::Loop {
    Size count, outer;  // iterations, and the spaces around the loop
    const Place *counter, *condition;
    std::span<const Moving> slices;
    std::span<const State> states;
    std::span<const Step> steps;
};

void Plan::loop(Size count, const View* counter, const View* condition, std::span<const Slices> slices,
                std::span<const Carry> carries, const LoopBody& body) {
    if (count < 0) throw std::invalid_argument("a loop runs a negative number of times");
    Loop loop{count, Size(space_sizes.size()), nullptr, nullptr, {}, {}, {}};
    auto number = [this](const View* view, DType dtype) -> const Place* {
        if (!view) return nullptr;
        check(*view, dtype);
        if (is_empty(*view)) throw std::invalid_argument("a loop counts in a view without elements");
        return kept.keep(Place(*view));
    };
    loop.counter = number(counter, DType::int64), loop.condition = number(condition, DType::boolean);
    std::vector<Size> own;
    Moving* const moving = kept.take<Moving>(Size(slices.size()));
    for (size_t i = 0; i < slices.size(); i++) {
        const auto& [whole, axis, backward] = slices[i];
        check(whole);
        if (axis < 0 || axis >= Size(whole.shape.size()) || whole.shape[axis] != count)
            throw std::invalid_argument("an array does not have a slice for each iteration");
        View first = whole;
        Size last = 0;  // the highest offset from the lowest one
        for (Size other = 0; other < Size(whole.shape.size()); other++) {
            if (other == axis || is_empty(whole)) continue;
            const Size reach = (whole.shape[other] - 1) * whole.strides[other];
            first.offset += std::min(reach, Size(0)), last += std::abs(reach);
        }
        const Size size = size_of(whole.dtype);
        new (moving + i) Moving{Place(first), whole.strides[axis] * size, backward};
        own.push_back(is_empty(whole) ? 0 : (last + 1) * size);
    }
    State* const states = kept.take<State>(Size(carries.size()));
    for (size_t i = 0; i < carries.size(); i++) {
        const auto& [initial, result, spare] = carries[i];
        for (const View* view : {&initial, &result, &spare}) {
            check(*view, initial.dtype);
            if (!is_contiguous(*view) || view->shape != initial.shape)
                throw std::invalid_argument("the states of a loop must be contiguous and have one shape");
        }
        const Size bytes = elements(initial.shape) * size_of(initial.dtype);
        new (states + i) State{Place(initial), Place(result), Place(spare), bytes};
        own.insert(own.end(), 2, bytes);
    }
    space_sizes.insert(space_sizes.end(), own.begin(), own.end());
    const size_t first = steps.size();
    if (count > 0) body.add(*this);
    Step* const inner = kept.take<Step>(Size(steps.size() - first));
    std::copy(steps.begin() + first, steps.end(), inner);
    loop.slices = {moving, slices.size()}, loop.states = {states, carries.size()};
    loop.steps = {inner, steps.size() - first};
    steps.resize(first), space_sizes.resize(size_t(loop.outer));
    add([this, loop](std::byte* const* spaces) { run_loop(loop, spaces); });
}

// A run reads one of two places of a state and writes the other, so that the last run writes the result.
void Plan::run_loop(const Loop& loop, std::byte* const* spaces) const {
    const auto& [count, outer, counter, condition, slices, states, body] = loop;
    const Temporary<std::byte*> memory(outer + Size(slices.size() + 2 * states.size()));
    std::copy_n(spaces, outer, memory.data());
    std::byte** const own = memory.data() + outer;
    std::byte** const carried = own + slices.size();
    for (size_t k = 0; k < slices.size(); k++)
        own[k] = at<std::byte>(slices[k].first, spaces) + (slices[k].backward ? (count - 1) * slices[k].stride : 0);
    for (size_t k = 0; k < states.size(); k++) {
        carried[2 * k] = at<std::byte>(states[k].initial, spaces);
        carried[2 * k + 1] = at<std::byte>(count % 2 ? states[k].result : states[k].spare, spaces);
    }
    Interrupt interrupt;
    const bool is_large = polls_often();
    Size i = 0;
    for (; i < count && (!condition || *at<uint8_t>(*condition, spaces)); i++) {
        if (counter) *at<int64_t>(*counter, spaces) = i;
        if (is_large || i % runs_per_poll == runs_per_poll - 1) interrupt.requested(), interrupt.throw_if_happened();
        for (const Step& step : body) step.run(step.kept, memory.data());
        for (size_t k = 0; k < slices.size(); k++) own[k] += slices[k].backward ? -slices[k].stride : slices[k].stride;
        for (size_t k = 0; k < states.size(); k++) {
            carried[2 * k] = carried[2 * k + 1];
            carried[2 * k + 1] = at<std::byte>((count - i) % 2 ? states[k].spare : states[k].result, spaces);
        }
    }
    for (size_t k = 0; k < states.size(); k++)  // fewer runs may leave it elsewhere
        if (std::byte* const result = at<std::byte>(states[k].result, spaces); carried[2 * k] != result)
            std::memmove(result, carried[2 * k], states[k].bytes);
}

}  // namespace onward
