// Runs an LSTM layer that quantizes its input and its state dynamically.
//
// The scale and the zero point of x follow from all of its elements, those of h from all rows at a step. Rows therefore
// depend on each other; threads only share the units, and each of them quantizes all rows.
#include "run/quantized_lstm.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/interrupt.h"
#include "platform/temporary.h"
#include "platform/threads.h"
#include "run/run.h"
#include "run/stack.h"

namespace onward {

QuantizedLSTM::QuantizedLSTM(const std::vector<QuantizedDirection>& weights,
                             const std::vector<Options<float>>& options, bool reverse, Size I, Size H)
    : I(I), H(H), D(Size(weights.size())), kernels(onward::kernels<float>()), bytes(selected().bytes),
      reverse(reverse) {
    for (const QuantizedDirection& w : weights) {
        auto pack = [&](const Matrix<float>& matrix, const float* bias, Size G, Size K) -> const Panels<float>& {
            return packed.emplace_back(matrix, bias, 0, G, H, K, kernels.L);
        };
        Direction<float> d{Cell::lstm, I, H, H, pack(w.W, w.bias, 4, I), pack(w.R, nullptr, 4, H)};
        if (w.peephole) d.peephole = pack({Format::native, w.peephole}, nullptr, 3, 1);
        d.standard = options.empty();
        if (!d.standard) d.options = options[directions.size()];
        directions.push_back(d);
    }
}

// The memory of one call. States are padded to whole blocks; h of step t is in h[t % 2].
struct QuantizedLSTM::Run {
    Run(const QuantizedLSTM& lstm, const QuantizedSequence& s, int parts)
        : padded(ceil_div(lstm.H, lstm.kernels.L) * lstm.kernels.L), z_stride(4 * padded),
          steps_at_once(std::max(Size(1), rows_at_once / s.B)), x_size(lstm.directions[0].input.quantized_size),
          h_size(lstm.directions[0].recurrent.quantized_size), x(s.T * s.B * x_size),
          z(std::min(steps_at_once, s.T) * s.B * z_stride), quantized(parts * s.B * h_size),
          states(3 * s.B * padded), h{states.data(), states.data() + s.B * padded},
          c(h[1] + s.B * padded), barrier(parts) {}

    const Size padded, z_stride, steps_at_once, x_size, h_size;
    const Temporary<int32_t> x;          // quantized
    const Temporary<float> z;            // W x + bias of some steps
    const Temporary<int32_t> quantized;  // h, for each thread
    const Temporary<float> states;
    float *const h[2], *const c;
    Barrier barrier;
};

void QuantizedLSTM::forward(const QuantizedSequence& s) const {
    const Size blocks = ceil_div(H, kernels.L), B = s.B;
    Interrupt interrupt;
    std::optional<Run> run;
    auto copy_rows = [&](float* to, Size to_stride, const float* from, Size from_stride) {
        for (Size b = 0; b < B; b++) std::memcpy(to + b * to_stride, from + b * from_stride, H * sizeof(float));
    };
    auto start = [&](Size d) {
        std::memset(run->states.data(), 0, 3 * B * run->padded * sizeof(float));
        if (s.h0) copy_rows(run->h[0], run->padded, s.h0 + d * B * H, H);
        if (s.c0) copy_rows(run->c, run->padded, s.c0 + d * B * H, H);
    };
    const Size work = s.T * B * D * 4 * H * (I + H);
    const int useful = worth_sharing(B, Cell::lstm, H, H)
                           ? int(std::min({Size(num_threads()), blocks, work / worth_threads + 1}))
                           : 1;
    auto plan = [&](int parts) {
        run.emplace(*this, s, parts);
        const FlushDenormals flush;
        bytes.quantize_rows({s.x, I}, s.T * B, I, run->x.data(), run->x_size);
    };
    parallel(useful, plan, [&](int part) {
        const FlushDenormals flush;
        Run& r = *run;
        Share own = share(blocks, part, r.barrier.parties);
        int32_t* const quantized = r.quantized.data() + part * B * r.h_size;
        for (Size d = 0; d < D; d++) {
            const bool backward = reverse || d == 1;
            if (part == 0) start(d);
            if (r.barrier.wait()) return;
            for (Size first = 0; first < s.T; first += r.steps_at_once) {
                const Size steps = std::min(r.steps_at_once, s.T - first);
                const Size earliest = backward ? s.T - first - steps : first;
                own.backward = false;
                kernels.product(directions[d].input, {(const float*)(r.x.data() + earliest * B * r.x_size), r.x_size},
                                steps * B, r.z.data(), r.z_stride, nullptr, own);
                for (Size n = first; n < first + steps; n++) {
                    const Size t = backward ? s.T - 1 - n : n;
                    float* const h_next = r.h[(n + 1) % 2];
                    own.backward = n % 2 == 1;
                    kernels.gates(directions[d], {B, r.z.data() + (t - earliest) * B * r.z_stride, r.h[n % 2], h_next,
                                                  r.c, r.c, nullptr, quantized, nullptr}, own);
                    const bool stop = part == 0 && n % 8 == 7 && interrupt.requested();
                    if (r.barrier.wait(stop)) return;
                    if (r.barrier.dismissed()) {
                        if (part > 0) return;
                        r.barrier.parties = 1, own.last = blocks;
                    }
                    if (part == 0) copy_rows(s.y + (t * D + d) * B * H, H, h_next, r.padded);
                }
            }
            if (part == 0) {
                copy_rows(s.h_n + d * B * H, H, r.h[s.T % 2], r.padded);
                copy_rows(s.c_n + d * B * H, H, r.c, r.padded);
            }
            if (r.barrier.wait()) return;
        }
    }, work);
    interrupt.throw_if_happened();
}

}  // namespace onward
