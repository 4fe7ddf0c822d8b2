// Recurrent layers.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "run/plan.h"

namespace onward {

namespace {

// The place of a view that may be missing.
struct PlaceOrNull {
    bool exists;
    Place place;
    explicit PlaceOrNull(const View* view) : exists(view), place(view ? *view : View{}) {}
    template <class T>
    T* at(std::byte* const* spaces) const {
        return exists ? onward::at<T>(place, spaces) : nullptr;
    }
};

}  // namespace

void Plan::recurrent(const AnyStack& stack, const View& x, const View* h0, const View* c0, const View& y,
                     const View& h_n, const View* c_n, const View* lengths, const char* name) {
    for (const View* view : {&x, h0, c0, &y, &h_n, c_n})
        if (view) check(*view, stack.dtype);
    auto has_rows = [](const View& view, Size features) {
        return view.shape.size() == 3 && view.shape[2] == features && (features == 1 || view.strides[2] == 1);
    };
    if (!has_rows(x, stack.I) || !has_rows(y, stack.D * stack.P) || !std::equal(&x.shape[0], &x.shape[2], &y.shape[0]))
        throw std::invalid_argument("the views of a recurrent layer do not match its weights");
    const Size LD = stack.layers * stack.D, B = x.shape[1];
    auto is_state = [](const View* view, const Axes& shape) {
        return !view || (view->shape == shape && is_contiguous(*view));
    };
    const Axes h{LD, B, stack.P}, c{LD, B, stack.H};
    if ((stack.cell == Cell::lstm) != (c_n != nullptr) || !is_state(h0, h) || !is_state(&h_n, h) ||
        !is_state(c0, c) || !is_state(c_n, c))
        throw std::invalid_argument("the states of a recurrent layer do not match its weights");
    if (lengths) check(*lengths, DType::int64);
    if (!is_state(lengths, {B})) throw std::invalid_argument("a recurrent layer needs one length for each row");
    const PlaceOrNull first_h(h0), first_c(c0), last_c(c_n), places(lengths);
    const std::array<Size, 2> x_strides{x.strides[0], x.strides[1]}, y_strides{y.strides[0], y.strides[1]};
    add([=, &stack, T = x.shape[0], x = Place(x), y = Place(y), h_n = Place(h_n)](std::byte* const* spaces) {
        const auto* const steps = places.at<int64_t>(spaces);
        for (Size b = 0; steps && b < B; b++)
            if (steps[b] < 0 || steps[b] > T)
                throw BadValue(std::string(name) + ": lengths[" + std::to_string(b) + "] is " +
                               std::to_string(steps[b]) + ", expected 0 to " + std::to_string(T) +
                               ", because x has " + std::to_string(T) + " time steps");
        stack.run({T, B, {at<void>(x, spaces), x_strides[0], x_strides[1]},
                   {at<void>(y, spaces), y_strides[0], y_strides[1]}, first_h.at<void>(spaces),
                   first_c.at<void>(spaces), steps, at<void>(h_n, spaces), last_c.at<void>(spaces)});
    });
}

void Plan::masked_steps(const View& mask, const View& counted, const View& lengths, const View& sources) {
    check(mask, DType::boolean);
    for (const View* view : {&counted, &lengths, &sources}) check(*view, DType::int64);
    const Size T = mask.shape.at(0), B = mask.shape.at(1), D = sources.shape.at(2);
    if (counted.shape != mask.shape || lengths.shape != Axes{B} ||
        sources.shape != Axes{T, B, D} || D < 1 || D > 2 || !is_contiguous(counted) ||
        !is_contiguous(lengths) || !is_contiguous(sources))
        throw std::invalid_argument("the shapes of masked steps do not match");
    const Size t_stride = mask.strides[0], b_stride = mask.strides[1];
    add([=, mask = Place(mask), counted = Place(counted), lengths = Place(lengths), sources = Place(sources)](
            std::byte* const* spaces) {
        const uint8_t* const flags = at<uint8_t>(mask, spaces);
        int64_t *const x_rows = at<int64_t>(counted, spaces), *const y_rows = at<int64_t>(sources, spaces);
        for (Size b = 0; b < B; b++) {
            auto flag = [&](Size t) { return flags[t * t_stride + b * b_stride] != 0; };
            Size n = 0, total = 0;
            for (Size t = 0; t < T; t++) total += flag(t);
            for (Size t = 0, others = total; t < T; t++) {
                auto y_row = [&](Size step, Size d) { return (step * B + b) * D + d; };
                const bool counts = flag(t);
                x_rows[(counts ? n : others++) * B + b] = t * B + b;
                // In reverse, the step before a masked one is the next one in time.
                if (D == 2) y_rows[(t * B + b) * D + 1] = y_row(n < total ? n : T, 1);
                n += counts;
                y_rows[(t * B + b) * D] = y_row(n > 0 ? n - 1 : T, 0);
            }
            at<int64_t>(lengths, spaces)[b] = total;
        }
    });
}

void Plan::quantized_lstm(const QuantizedLSTM& lstm, const View& x, const View* h0, const View* c0, const View& y,
                          const View& h_n, const View& c_n) {
    check_floats({&x, h0 ? h0 : &x, c0 ? c0 : &x, &y, &h_n, &c_n});
    auto has_size = [](const View& view, Size n) { return elements(view.shape) == n && is_contiguous(view); };
    // The sizes of an array without elements may be too large to be multiplied.
    const Size T = x.shape.at(0), B = x.shape.at(1), state = is_empty(x) ? 0 : lstm.D * B * lstm.H;
    if (is_empty(x) || !has_size(x, T * B * lstm.I) || !has_size(y, T * state) || !has_size(h_n, state) ||
        !has_size(c_n, state) || (h0 && !has_size(*h0, state)) || (c0 && !has_size(*c0, state)))
        throw std::invalid_argument("the views of a quantized LSTM do not match its weights");
    const PlaceOrNull first_h(h0), first_c(c0);
    add([=, &lstm, x = Place(x), y = Place(y), h_n = Place(h_n), c_n = Place(c_n)](std::byte* const* spaces) {
        lstm.forward({T, B, at<float>(x, spaces), at<float>(y, spaces), first_h.at<float>(spaces),
                      first_c.at<float>(spaces), at<float>(h_n, spaces), at<float>(c_n, spaces)});
    });
}

}  // namespace onward
