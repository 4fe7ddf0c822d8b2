// Runs the directions of a layer backward, one after the other, each on all threads.
#include "run/backward.h"

#include <algorithm>
#include <memory>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/threads.h"

namespace onward {

template <class Real>
Backward<Real>::Backward(Cell cell, const std::vector<Weights<Real>>& weights)
    : cell(cell), I(weights[0].I), H(weights[0].H), P(weights[0].P), D(Size(weights.size())),
      kernels(onward::kernels<Real>()) {
    auto pack = [&](const Matrix<Real>& matrix, std::vector<int> gates, Size H, Size N) -> const Panels<Real>& {
        return packed.emplace_back(Packed<Real>::transposed((const Real*)matrix.numbers, gates, H, N, kernels.L));
    };
    for (const Weights<Real>& w : weights) {  // in the native format, as the bindings have checked
        DirectionBackward<Real> d{cell, w.I, H, P, recorded(cell)};
        switch (cell) {
            case Cell::rnn:
            case Cell::rnn_relu: d.input = pack(w.W, {0}, H, w.I), d.recurrent = pack(w.R, {0}, H, P); break;
            case Cell::lstm:
                d.input = pack(w.W, {0, 1, 2, 3}, H, w.I), d.recurrent = pack(w.R, {0, 1, 2, 3}, H, P); break;
            case Cell::gru: d.input = pack(w.W, {0, 1, 2}, H, w.I), d.recurrent = pack(w.R, {2, 0, 1}, H, P); break;
            case Cell::gru_reset_before:
                d.input = pack(w.W, {0, 1, 2}, H, w.I), d.recurrent = pack(w.R, {0, 1}, H, P);
                d.candidate = pack(w.R, {2}, H, P);
        }
        if (w.W_hr.numbers) d.projection = pack(w.W_hr, {0}, P, H);
        directions.push_back(d);
    }
}

template <class Real>
void Backward<Real>::run(const SequenceBackward<Real>& s) const {
    if (!s.B) return;
    const std::vector<Size> order = longest_first(s.lengths, s.B);
    std::vector<Size> lengths(s.B, s.T);
    for (Size b = 0; s.lengths && b < s.B; b++) lengths[b] = s.lengths[order[b]];
    std::vector<RunBackward<Real>> runs;
    Interrupt interrupt;
    std::unique_ptr<Barrier> barrier;
    int threads = 1;
    parallel(
        int(std::min<Size>(num_threads(), worth_sharing(s.B, cell, H, P) ? ceil_div(H, kernels.L) : 1)),
        [&](int n) {
            threads = n;
            barrier = std::make_unique<Barrier>(n);
            for (Size i = 0; i < D; i++) runs.emplace_back(kernels, directions[i], s, i, order, lengths, n);
        },
        [&](int part) {
            const FlushDenormals flush;
            for (const RunBackward<Real>& run : runs)
                if (!run.run(part, threads, *barrier, interrupt)) return;
        });
    interrupt.throw_if_happened();
}

template class Backward<float>;
template class Backward<double>;

}  // namespace onward
