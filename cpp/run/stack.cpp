// Divides a batch into blocks of rows and its threads into teams, and runs the blocks.
#include "run/stack.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/reuse.h"
#include "platform/threads.h"
#include "run/chain.h"

namespace onward {

Size gates(Cell cell) {
    switch (cell) {
        case Cell::rnn:
        case Cell::rnn_relu: return 1;
        case Cell::lstm: return 4;
        case Cell::gru:
        case Cell::gru_reset_before: return 3;
    }
    return 0;
}

// An LSTM also records c; a GRU that resets after the product also records R_n h + b_n.
Size recorded(Cell cell) { return gates(cell) + (cell == Cell::lstm || cell == Cell::gru); }

bool worth_sharing(Size B, Cell cell, Size H, Size P) {
    constexpr Size worth_a_barrier = 50'000;  // multiply-adds
    return B * gates(cell) * H * P >= worth_a_barrier;
}

std::vector<Size> longest_first(const int64_t* lengths, Size B) {
    std::vector<Size> order(B);
    std::iota(order.begin(), order.end(), Size(0));
    if (lengths)
        std::stable_sort(order.begin(), order.end(), [&](Size a, Size b) { return lengths[a] > lengths[b]; });
    return order;
}

template <class Real>
Stack<Real>::Stack(Cell cell, const std::vector<Weights<Real>>& weights, const std::vector<Options<Real>>& options,
                   Size num_directions)
    : AnyStack(float_type<Real>, cell, weights[0].I, weights[0].H, weights[0].P, num_directions,
               Size(weights.size()) / num_directions),
      kernels(onward::kernels<Real>()),
      calls(std::make_shared<Reusable<Call>>(kept_calls)) {
    const Size G = gates(cell), L = kernels.L;
    auto pack = [&](const Matrix<Real>& matrix, const Real* bias, Size first, Size G, Size N,
                    Size K) -> const Panels<Real>& {
        return packed.emplace_back(matrix, bias, first, G, N, K, L);
    };
    for (const Weights<Real>& w : weights) {
        Direction<Real> d{cell, w.I, w.H, w.P, pack(w.W, w.b_W, 0, G, w.H, w.I)};
        const Size first_gates = cell == Cell::gru_reset_before ? 2 : G;  // those of the first product
        d.recurrent = pack(w.R, w.b_R, 0, first_gates, w.H, w.P);
        if (first_gates < G) d.candidate = pack(w.R, w.b_R, first_gates, 1, w.H, w.P);
        if (w.W_hr.numbers) d.projection = pack(w.W_hr, nullptr, 0, 1, w.P, w.H);
        if (w.peephole) d.peephole = pack({Format::native, w.peephole}, nullptr, 0, 3, w.H, 1);
        d.standard = options.empty();
        if (!d.standard) d.options = options[directions.size() % D];
        directions.push_back(d);
    }
}

template <class Real>
Size Stack<Real>::work() const {
    Size sum = 0;
    for (const Packed<Real>& panels : packed) sum += multiply_adds<Real>(panels, kernels.L);
    return sum;
}

// The memory of a call of one block: up to max_rows rows and any number of steps, `at_once` of both at a time.
// Allocating it takes as long as some steps, so that later calls reuse it.
template <class Real>
struct Stack<Real>::Call {
    Call(const Stack& stack, Size max_rows, Size at_once, int threads)
        : max_rows(max_rows), at_once(at_once), threads(threads), order(max_rows),
          chain(stack, max_rows, ceil_div(at_once, max_rows), threads) {
        std::iota(order.begin(), order.end(), Size(0));
        lengths.reserve(max_rows);
    }
    const Size max_rows, at_once;
    const int threads;
    std::vector<Size> order, lengths;
    std::vector<State<const Real>> from;
    std::vector<State<Real>> to;
    Chain<Real> chain;
};

namespace {

constexpr Size short_call = 16;   // rows and steps
constexpr Size rows_of_calls = 8;  // batches of so many sizes use the same memory

// Makes one entry per layer and direction, from arrays (layers * D, B, P) and (layers * D, B, H).
template <class Real, class Number>
void divide(const Stack<Real>& stack, Size B, Number* h, Number* c, std::vector<State<Number>>& states) {
    states.clear();
    for (Size i = 0; i < stack.layers * stack.D; i++)
        states.push_back({h ? h + i * B * stack.P : nullptr, c ? c + i * B * stack.H : nullptr});
}

// The rows of one block of an array.
template <class Number, class Real>
Rows<Number> in_block(Rows<Number> rows, const Sequence<Real>& s, const Size* order) {
    if (s.lengths)
        rows.order = order;
    else
        rows.data += order[0] * rows.b_stride;  // unsorted rows are consecutive
    return rows;
}

// One entry per layer and direction.
template <class Real>
std::vector<Recording<Real>> recordings(const Stack<Real>& stack, const Sequence<Real>& s, const Size* order) {
    std::vector<Recording<Real>> recordings;
    for (Size i = 0; i < stack.layers * stack.D; i++) {
        auto rows = [&](Real* data, Size features) {
            return in_block(Rows<Real>{data + i * s.T * s.B * features, s.B * features, features}, s, order);
        };
        recordings.push_back({rows(s.gates, recorded(stack.cell) * stack.H)});
        if (s.sums) recordings.back().sums = rows(s.sums, gates(stack.cell) * stack.H);
    }
    return recordings;
}

template <class Real>
void clear_past_lengths(const Sequence<Real>& s, const Size* order, Size rows, Size features) {
    for (Size b = 0; s.lengths && b < rows; b++)
        for (Size t = s.lengths[order[b]]; t < s.T; t++) std::memset(s.y.at(t, order[b]), 0, features * sizeof(Real));
}

}  // namespace

// The layers of two directions pass on whole sequences, which only short calls keep.
template <class Real>
bool Stack<Real>::is_one_block(const Sequence<Real>& s, int useful) const {
    const bool is_short = s.T * s.B <= short_call;
    return !s.lengths && !s.gates && s.B <= rows_at_once && (useful == 1 || s.B < 2 * rows_worth_a_thread) &&
           (is_short || D == 1 || layers == 1);
}

// All threads share the units.
template <class Real>
void Stack<Real>::forward_block(const Sequence<Real>& s, int useful, Size units, Size work) const {
    const Size at_once = s.T * s.B <= short_call ? short_call : rows_at_once;
    const Size max_rows = s.B <= 2 ? s.B : ceil_div(s.B, rows_of_calls) * rows_of_calls;
    Interrupt interrupt(at_once > short_call);
    std::unique_ptr<Call> call;
    parallel(
        useful,
        [&](int n) {
            const int threads = int(std::min(Size(n), units));
            call = calls->take([&](const Call& call) {
                return call.max_rows >= max_rows && call.at_once >= at_once && call.threads == threads;
            });
            if (!call) call = std::make_unique<Call>(*this, max_rows, at_once, threads);
        },
        [&](int part) {
            if (part >= call->threads) return;
            const FlushDenormals flush;
            Chain<Real>& chain = call->chain;
            if (part == 0) {
                divide(*this, s.B, s.h0, s.c0, call->from);
                divide(*this, s.B, s.h_n, s.c_n, call->to);
                if (s.T == 1 && D == 1) {
                    chain.start_step(call->from, call->to, call->order.data(), s.B);
                } else {
                    call->lengths.assign(size_t(s.B), s.T);
                    chain.start(call->from, call->order.data(), s.B, call->lengths.data());
                }
            }
            if (chain.advance(s.x, s.y, s.T, part, interrupt) && part == 0) chain.finish(call->to, call->order.data());
        },
        work);
    interrupt.throw_if_happened();
    if (!call->chain.is_dismissed()) calls->give(std::move(call));
}

template <class Real>
void Stack<Real>::forward(const Sequence<Real>& s) const {
    if (!s.B) return;
    const Size units = (worth_sharing(s.B, cell, H, P) ? ceil_div(H, kernels.L) : 1) * D;
    const Size all_work = s.T * s.B * work();
    const int useful = int(std::min({Size(num_threads()), std::max(units, s.B / rows_worth_a_thread),
                                     all_work / worth_threads + 1}));
    if (is_one_block(s, useful)) return forward_block(s, useful, units, all_work);
    const std::vector<Size> order = longest_first(s.lengths, s.B);
    std::vector<Size> lengths(s.B, s.T);
    for (Size b = 0; s.lengths && b < s.B; b++) lengths[b] = s.lengths[order[b]];
    std::vector<State<const Real>> from;
    std::vector<State<Real>> to;
    divide(*this, s.B, s.h0, s.c0, from), divide(*this, s.B, s.h_n, s.c_n, to);
    Interrupt interrupt;

    // Threads take separate rows of a large batch and share the units of a small one: a team runs each block of
    // rows.
    Size blocks = ceil_div(s.B, rows_at_once);
    auto first_row = [&](size_t i) { return s.B * Size(i) / blocks; };
    int team_size = 1;
    std::vector<std::unique_ptr<Chain<Real>>> teams;
    std::vector<std::vector<Recording<Real>>> block_recordings;
    parallel(
        useful,
        [&](int n) {
            const Size row_parts = std::clamp(s.B / rows_worth_a_thread, Size(1), Size(n));
            team_size = int(std::min(n / row_parts, units));
            blocks = std::max(blocks, row_parts);
            for (Size i = 0; i < row_parts; i++)
                teams.push_back(std::make_unique<Chain<Real>>(*this, ceil_div(s.B, blocks),
                                                              std::max(lengths[0], Size(1)), team_size));
            for (size_t i = 0; s.gates && i < size_t(blocks); i++)
                block_recordings.push_back(recordings(*this, s, order.data() + first_row(i)));
        },
        [&](int part) {
            const FlushDenormals flush;
            const size_t team = part / team_size;
            const int team_part = part % team_size;
            for (size_t i = team; team < teams.size() && i < size_t(blocks); i += teams.size()) {
                Chain<Real>& chain = *teams[team];
                const Size first = first_row(i), rows = first_row(i + 1) - first;
                const Size* const block_order = order.data() + first;
                if (team_part == 0) {
                    chain.start(from, block_order, rows, lengths.data() + first);
                    clear_past_lengths(s, block_order, rows, D * P);
                }
                if (!chain.advance(in_block(s.x, s, block_order), in_block(s.y, s, block_order), lengths[first],
                                   team_part, interrupt, s.gates ? block_recordings[i].data() : nullptr))
                    return;
                if (team_part == 0) chain.finish(to, block_order);
            }
        },
        all_work);
    interrupt.throw_if_happened();
}

template <class Real>
void Stack<Real>::run(const Sequence<void>& s) const {
    const Rows<const Real> x{(const Real*)s.x.data, s.x.t_stride, s.x.b_stride};
    const Rows<Real> y{(Real*)s.y.data, s.y.t_stride, s.y.b_stride};
    forward({s.T, s.B, x, y, (const Real*)s.h0, (const Real*)s.c0, s.lengths, (Real*)s.h_n, (Real*)s.c_n});
}

template class Stack<float>;
template class Stack<double>;

}  // namespace onward
