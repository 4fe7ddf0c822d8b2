// Runs blocks of rows through layers in sequence, each by a chain, on one thread or several.
#include "run/layer_program.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/threads.h"
#include "run/stack.h"

namespace onward {

namespace {

constexpr Size short_block = 16;  // rows and steps; the memory for longer ones serves blocks of any length

}  // namespace

// The memory of a block of up to max_rows rows, which later blocks reuse.
template <class Real>
struct LayerProgram<Real>::Call {
    Call(const std::vector<Stage<Real>>& stages, Size rows, Size at_once, int threads)
        : max_rows(rows), at_once(at_once), threads(threads), order(size_t(rows)) {
        std::iota(order.begin(), order.end(), Size(0));
        const Size most = std::min(rows, rows_at_once);
        for (Size block = 0; block < ceil_div(rows, rows_at_once); block++)
            chains.push_back(std::make_unique<Chain<Real>>(stages, most, ceil_div(at_once, most), threads));
    }
    const Size max_rows, at_once;
    const int threads;  // of a single block
    std::vector<Size> order;
    std::vector<State<const Real>> from;
    std::vector<State<Real>> to;
    std::vector<std::unique_ptr<Chain<Real>>> chains;  // one per block of rows
};

template <class Real>
LayerProgram<Real>::LayerProgram(std::vector<Stage<Real>> given, bool batch_first)
    : stages(std::move(given)), batch_first(batch_first), I(stages.empty() ? 0 : inputs(stages.front())),
      O(stages.empty() ? 0 : outputs(stages.back())), work(multiply_adds(stages)),
      calls(std::make_shared<Reusable<Call>>(kept_calls)) {
    if (!connected(stages)) throw std::invalid_argument("the layers do not fit together");
    for (const Stage<Real>& stage : stages)
        if (auto* stack = std::get_if<const Stack<Real>*>(&stage); stack && (*stack)->D != 1)
            throw std::invalid_argument("a layer with a reverse direction cannot stream");
}

template <class Real>
std::vector<Axes> LayerProgram<Real>::shapes(Size T, Size B, Size features) const {
    std::vector<Axes> found;
    for (const Stage<Real>& stage : stages)
        if (auto* stack = std::get_if<const Stack<Real>*>(&stage)) {
            found.push_back({(*stack)->layers, B, (*stack)->P});
            if ((*stack)->cell == Cell::lstm) found.push_back({(*stack)->layers, B, (*stack)->H});
        }
    found.push_back(batch_first ? Axes{B, T, features} : Axes{T, B, features});
    return found;
}

template <class Real>
Signature LayerProgram<Real>::signature() const {
    Signature signature;
    for (const Axes& shape : shapes(-1, -2, I)) {
        signature.inputs.push_back({dtype, {shape.begin(), shape.end()}, {}});
        signature.outputs.push_back(dtype);
    }
    return signature;
}

template <class Real>
std::unique_ptr<BoundPlan> LayerProgram<Real>::unbound() const {
    return std::make_unique<BoundPlan>(kernels<float>());
}

template <class Real>
bool LayerProgram<Real>::bind(const std::vector<Size>& axes, BoundPlan& bound) const {
    const Size T = axes.at(0), B = axes.at(1);
    std::vector<Size>& bytes = bound.plan.restart();
    bytes.assign(2, 0);  // no arena, no constants
    for (const Axes& shape : shapes(T, B, I)) bytes.push_back(bytes_of(shape, dtype));
    bound.outputs = shapes(T, B, O);
    for (const Axes& shape : bound.outputs) bytes.push_back(bytes_of(shape, dtype));
    bound.axes = axes, bound.arena_size = 0, bound.locations.clear();
    if (__builtin_mul_overflow(T * work, B, &bound.work)) throw std::overflow_error("a size is too large");
    bound.plan.add([sizes = Sizes{this, T, B}](std::byte* const* spaces) {
        sizes.program->run(sizes.T, sizes.B, spaces);
    });
    return true;
}

template <class Real>
void LayerProgram<Real>::run(Size T, Size B, std::byte* const* spaces) const {
    if (!T || !B) return;
    const Size all_work = T * B * work, at_once = T * B <= short_block ? short_block : rows_at_once;
    const int threads = int(std::min<Size>(num_threads(), all_work / worth_threads + 1));
    const int sharing = B <= rows_at_once ? threads : 1;
    auto call = calls->take([&](const Call& call) {
        return call.max_rows >= B && call.max_rows <= 2 * B && call.at_once >= at_once && call.threads >= sharing;
    });
    if (!call) call = std::make_unique<Call>(stages, B, at_once, sharing);
    const struct Return {
        Reusable<Call>& calls;
        std::unique_ptr<Call>& call;
        ~Return() { calls.give(std::move(call)); }
    } afterwards{*calls, call};

    std::byte* const* space = spaces + 2;
    const auto states = [&](auto& to) {
        to.clear();
        for (const Stage<Real>& stage : stages)
            if (auto* found = std::get_if<const Stack<Real>*>(&stage)) {
                const Stack<Real>& stack = **found;
                Real* const h = (Real*)*space++;
                Real* const c = stack.cell == Cell::lstm ? (Real*)*space++ : nullptr;
                for (Size layer = 0; layer < stack.layers; layer++)
                    to.push_back({h + layer * B * stack.P, c ? c + layer * B * stack.H : nullptr});
            }
    };
    states(call->from);
    const Real* const x = (const Real*)*space++;
    states(call->to);
    Real* const y = (Real*)*space;

    Interrupt interrupt(all_work > work_per_poll);
    const Size blocks = ceil_div(B, rows_at_once);
    const auto first_row = [&](Size block) { return B * block / blocks; };
    const auto rows = [&](auto* data, Size features, Size first) {
        const Size b_stride = batch_first ? T * features : features, t_stride = batch_first ? features : B * features;
        return Rows<std::remove_pointer_t<decltype(data)>>{data + first * b_stride, t_stride, b_stride};
    };
    const auto run = [&](Size block, int part) {
        Chain<Real>& chain = *call->chains[size_t(block)];
        const Size first = first_row(block), count = first_row(block + 1) - first;
        const Size* const order = call->order.data() + first;
        if (part == 0 && T == 1) chain.start_step(call->from, call->to, order, count);
        else if (part == 0) chain.start(call->from, order, count);
        if (chain.advance(rows(x, I, first), rows(y, O, first), T, part, interrupt) && part == 0)
            chain.finish(call->to, order);
    };
    // Threads take separate blocks of rows, or share the units of a single one.
    if (threads > 1 && blocks == 1) {
        Chain<Real>& chain = *call->chains[0];
        parallel(threads, [&](int n) { chain.set_threads(n); }, [&](int part) {
            const FlushDenormals flush;
            run(0, part);
        }, all_work);
    } else if (threads > 1) {
        int parts = 1;
        parallel(int(std::min(Size(threads), blocks)), [&](int n) { parts = n; }, [&](int part) {
            const FlushDenormals flush;
            for (Size block = part; block < blocks; block += parts) run(block, 0);
        });
    } else {
        call->chains[0]->set_threads(1);
        for (Size block = 0; block < blocks; block++) run(block, 0);
    }
    interrupt.throw_if_happened();
}

template class LayerProgram<float>;
template class LayerProgram<double>;

}  // namespace onward
