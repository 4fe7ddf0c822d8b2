// Sliding windows: pooling, and convolutions in which each channel has its own kernel.
#include <algorithm>
#include <stdexcept>

#include "run/plan.h"
#include "run/steps/parts.h"

namespace onward {

namespace {

constexpr Size windows_at_once = 128;  // whose places are computed together

}  // namespace

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
    const Size* const offsets = found.list(kept);  // first: it refuses numbers of taps with which the work overflows
    const Size work = rows * taps * channels;
    const Place weights_place = weights ? *weights : View{}, bias_place = bias ? *bias : View{};
    add([=, this, x = Place(x), y = Place(y)](std::byte* const* spaces) {
        const Windows<float> whole{at<float>(x, spaces), at<float>(y, spaces), nullptr, nullptr, in.stride, 0,
                                   channels, offsets, taps, has_weights ? at<float>(weights_place, spaces) : nullptr,
                                   has_bias ? at<float>(bias_place, spaces) : nullptr};
        in_parts(rows, rows, work, [&](Size first, Size end) {
            Windows<float> own = whole;
            for (; first < end; first += own.rows) {
                Size buffers[2][windows_at_once];
                own.rows = std::min(end - first, windows_at_once);
                own.places = in.some(first, own.rows, buffers[0]), own.y_places = out.some(first, own.rows, buffers[1]);
                kernels.window(operation, own);
            }
        });
    });
}

}  // namespace onward
