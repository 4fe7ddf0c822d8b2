// Convolutions whose vectors hold adjacent windows: those with few outputs.
#include <algorithm>
#include <stdexcept>

#include "platform/denormals.h"
#include "platform/temporary.h"
#include "platform/threads.h"
#include "run/plan.h"

namespace onward {

namespace {

constexpr Size windows_at_once = 512;  // whose outputs are gathered, if those in memory are not adjacent

}  // namespace

void Plan::filter(const View& x, const View& weights, const View* bias, const View& y) {
    check_floats({&x, &weights, bias ? bias : &x, &y});
    const size_t row_axes = y.shape.size() - 1;
    if (y.shape.size() < 2 || x.shape.size() < row_axes || weights.shape.size() != 2)
        throw std::invalid_argument("the arguments of a filter have the wrong number of axes");
    const size_t last = row_axes - 1;
    const Offsets in(kept, x, 0, last), out(kept, y, 0, last), found(kept, x, row_axes, x.shape.size());
    const Size lines = in.count, n = y.shape[last], terms = found.count, outputs = y.shape.back();
    if (!std::equal(y.shape.begin(), y.shape.end() - 1, x.shape.begin()) || weights.shape != Axes{terms, outputs} ||
        !is_contiguous(weights) || (bias && (bias->shape != Axes{outputs} || !is_contiguous(*bias))) ||
        (x.strides[last] != 1 && n > 1))
        throw std::out_of_range("the views of a filter have the wrong shapes or strides");
    const Size y_step = y.strides[last], y_output = y.strides.back(), work = lines * n * terms * outputs;
    const Filters<float> base{nullptr, n, terms, outputs, found.list(kept), nullptr, outputs, nullptr, -0.0f, nullptr,
                              y_output};
    const bool has_bias = bias;
    const Place bias_place = bias ? *bias : View{};
    add([=, this, x = Place(x), weights = Place(weights), y = Place(y)](std::byte* const* spaces) {
        Filters<float> whole = base;
        whole.weights = at<float>(weights, spaces);
        whole.bias = has_bias ? at<float>(bias_place, spaces) : nullptr;
        int parts = 1;
        const int useful = int(std::min<Size>(num_threads(), work / worth_threads + 1));
        parallel(useful, [&](int count) { parts = count; }, [&](int part) {
            const FlushDenormals flush;
            Filters<float> own = whole;
            const Temporary<float> gathered(y_step == 1 ? 0 : outputs * windows_at_once);
            const Size most = y_step == 1 ? n : windows_at_once, end = lines * n * (part + 1) / parts;
            for (Size first = lines * n * part / parts; first < end; first += own.n) {
                const Size line = first / n, place = first % n;
                own.n = std::min({end - first, n - place, most});
                own.x = at<float>(x, spaces) + in[line] + place;
                float* const to = at<float>(y, spaces) + out[line] + place * y_step;
                own.y = y_step == 1 ? to : gathered.data(), own.y_stride = y_step == 1 ? y_output : windows_at_once;
                kernels.filter(own);
                for (Size output = 0; y_step != 1 && output < outputs; output++)
                    for (Size i = 0; i < own.n; i++)
                        to[i * y_step + output * y_output] = gathered.data()[output * windows_at_once + i];
            }
        }, work);
    });
}

}  // namespace onward
