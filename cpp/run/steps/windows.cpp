// Sliding windows: pooling, and convolutions in which each channel has its own kernel.
#include <algorithm>
#include <stdexcept>

#include "platform/denormals.h"
#include "platform/threads.h"
#include "run/plan.h"

namespace onward {

namespace {

constexpr Size windows_at_once = 128;  // whose places are computed together

}  // namespace

// A weighted sum of windows that are adjacent, rather than their channels: one filter for each channel.
void Plan::filter_channels(const View& x, const View& weights, const View* bias, const View& y) {
    const size_t last = y.shape.size() - 2, channel_axis = x.shape.size() - 1;
    const Offsets in(kept, x, 0, last), out(kept, y, 0, last), found(kept, x, last + 1, channel_axis);
    const Size lines = in.count, n = y.shape[last], taps = found.count, channels = y.shape.back();
    if (!std::equal(y.shape.begin(), y.shape.end() - 1, x.shape.begin()) || x.shape.back() != channels ||
        weights.shape != Axes{taps, channels} || !is_contiguous(weights) ||
        (n > 1 && (x.strides[last] != 1 || y.strides[last] != 1)) ||
        (bias && (bias->shape != Axes{channels} || !is_contiguous(*bias))))
        throw std::out_of_range("the views of a window have the wrong shapes or strides");
    const Filters<float> base{nullptr, n, taps, 1, found.list(kept), nullptr, channels, nullptr, 0.0f, nullptr, 0};
    const Size x_step = x.strides.back(), y_step = y.strides.back(), work = lines * n * taps * channels;
    const bool has_bias = bias;
    const Place bias_place = bias ? *bias : View{};
    add([=, this, x = Place(x), weights = Place(weights), y = Place(y)](std::byte* const* spaces) {
        int parts = 1;
        const Size all = lines * channels;
        const int useful = int(std::min({Size(num_threads()), all, work / worth_threads + 1}));
        parallel(useful, [&](int count) { parts = count; }, [&](int part) {
            const FlushDenormals flush;
            Filters<float> own = base;
            for (Size i = all * part / parts; i < all * (part + 1) / parts; i++) {
                const Size line = i / channels, channel = i % channels;
                own.x = at<float>(x, spaces) + in[line] + channel * x_step;
                own.weights = at<float>(weights, spaces) + channel;
                own.bias = has_bias ? at<float>(bias_place, spaces) + channel : nullptr;
                own.y = at<float>(y, spaces) + out[line] + channel * y_step;
                kernels.filter(own);
            }
        }, work);
    });
}

void Plan::window(Window operation, const View& x, const View* weights, const View* bias, const View& y) {
    check_floats({&x, weights ? weights : &x, bias ? bias : &x, &y});
    const bool has_weights = weights, has_bias = bias;
    if (y.shape.empty() || x.shape.size() < y.shape.size() || (operation == Window::weighted_sum) != has_weights)
        throw std::invalid_argument("the arguments of a window do not match its operation");
    auto is_adjacent = [](const View& view) { return view.strides.back() == 1 || view.shape.back() <= 1; };
    if (weights && y.shape.size() > 1 && !(is_adjacent(x) && is_adjacent(y)))
        return filter_channels(x, *weights, bias, y);
    const size_t row_axes = y.shape.size() - 1, last = x.shape.size() - 1;
    const Size channels = y.shape.back();
    Offsets in(kept, x, 0, row_axes), out(kept, y, 0, row_axes);
    in.keep(kept), out.keep(kept);
    const Offsets found(kept, x, row_axes, last);
    const Size rows = out.count, taps = found.count;
    bool fits = std::equal(y.shape.begin(), y.shape.end() - 1, x.shape.begin()) && x.shape.back() == channels &&
                taps > 0 && is_adjacent(x) && is_adjacent(y);
    if (weights) fits = fits && weights->shape == Axes{taps, channels} && is_adjacent(*weights) &&
                        (weights->strides[0] == channels || taps == 1);
    if (bias) fits = fits && bias->shape == Axes{channels} && is_adjacent(*bias);
    if (!fits) throw std::out_of_range("the views of a window have the wrong shapes or strides");
    const Size work = rows * taps * channels;
    const Place weights_place = weights ? *weights : View{}, bias_place = bias ? *bias : View{};
    const Size* const offsets = found.list(kept);
    add([=, this, x = Place(x), y = Place(y)](std::byte* const* spaces) {
        const Windows<float> whole{at<float>(x, spaces), at<float>(y, spaces), nullptr, nullptr, in.stride, 0,
                                   channels, offsets, taps, has_weights ? at<float>(weights_place, spaces) : nullptr,
                                   has_bias ? at<float>(bias_place, spaces) : nullptr};
        int parts = 1;
        const int useful = int(std::min<Size>(num_threads(), work / worth_threads + 1));
        parallel(useful, [&](int n) { parts = n; }, [&](int part) {
            const FlushDenormals flush;
            Windows<float> own = whole;
            const Size end = rows * (part + 1) / parts;
            for (Size first = rows * part / parts; first < end; first += own.rows) {
                Size buffers[2][windows_at_once];
                own.rows = std::min(end - first, windows_at_once);
                own.places = in.some(first, own.rows, buffers[0]), own.y_places = out.some(first, own.rows, buffers[1]);
                kernels.window(operation, own);
            }
        }, work);
    });
}

}  // namespace onward
