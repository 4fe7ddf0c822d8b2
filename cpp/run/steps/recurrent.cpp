// Recurrent layers.
#include <algorithm>
#include <stdexcept>

#include "run/plan.h"

namespace onward {

void Plan::recurrent(const Stack<float>& stack, const View& x, const View* h0, const View* c0, const View& y,
                     const View& h_n, const View* c_n, const View* lengths, const std::string& name) {
    for (const View* view : {&x, h0, c0, &y, &h_n, c_n})
        if (view) check(*view, DType::float32);
    using Shape = std::vector<Size>;
    auto has_rows = [](const View& view, Size features) {
        return view.shape.size() == 3 && view.shape[2] == features && (features == 1 || view.strides[2] == 1);
    };
    if (!has_rows(x, stack.I) || !has_rows(y, stack.D * stack.P) || !std::equal(&x.shape[0], &x.shape[2], &y.shape[0]))
        throw std::invalid_argument("the views of a recurrent layer do not match its weights");
    const Size LD = stack.layers * stack.D, B = x.shape[1];
    auto is_state = [](const View* view, const Shape& shape) {
        return !view || (view->shape == shape && is_contiguous(*view));
    };
    const Shape h{LD, B, stack.P}, c{LD, B, stack.H};
    if ((stack.cell == Cell::lstm) != (c_n != nullptr) || !is_state(h0, h) || !is_state(&h_n, h) ||
        !is_state(c0, c) || !is_state(c_n, c))
        throw std::invalid_argument("the states of a recurrent layer do not match its weights");
    if (lengths) check(*lengths, DType::int64);
    if (!is_state(lengths, {B})) throw std::invalid_argument("a recurrent layer needs one length for each row");
    struct Views {
        View x, h0, c0, y, h_n, c_n, lengths;
        bool has_h0, has_c0, has_c_n, has_lengths;
        std::string name;
    };
    auto v = std::make_shared<Views>(Views{x, h0 ? *h0 : View{}, c0 ? *c0 : View{}, y, h_n, c_n ? *c_n : View{},
                                           lengths ? *lengths : View{}, h0 != nullptr, c0 != nullptr, c_n != nullptr,
                                           lengths != nullptr, name});
    steps.push_back([&stack, v](std::byte* const* spaces) {
        const Size T = v->x.shape[0], B = v->x.shape[1];
        const int64_t* const steps = v->has_lengths ? at<int64_t>(v->lengths, spaces) : nullptr;
        for (Size b = 0; steps && b < B; b++)
            if (steps[b] < 0 || steps[b] > T)
                throw std::out_of_range(v->name + ": lengths[" + std::to_string(b) + "] is " +
                                        std::to_string(steps[b]) + ", expected 0 to " + std::to_string(T) +
                                        ", because x has " + std::to_string(T) + " time steps");
        stack.forward({T, B, {at<float>(v->x, spaces), v->x.strides[0], v->x.strides[1]},
                       {at<float>(v->y, spaces), v->y.strides[0], v->y.strides[1]},
                       v->has_h0 ? at<float>(v->h0, spaces) : nullptr, v->has_c0 ? at<float>(v->c0, spaces) : nullptr,
                       steps, at<float>(v->h_n, spaces), v->has_c_n ? at<float>(v->c_n, spaces) : nullptr});
    });
}

void Plan::masked_steps(const View& mask, const View& counted, const View& lengths, const View& sources) {
    check(mask, DType::boolean);
    for (const View* view : {&counted, &lengths, &sources}) check(*view, DType::int64);
    const Size T = mask.shape.at(0), B = mask.shape.at(1), D = sources.shape.at(2);
    if (counted.shape != mask.shape || lengths.shape != std::vector<Size>{B} ||
        sources.shape != std::vector<Size>{T, B, D} || D < 1 || D > 2 || !is_contiguous(counted) ||
        !is_contiguous(lengths) || !is_contiguous(sources))
        throw std::invalid_argument("the shapes of masked steps do not match");
    steps.push_back([=](std::byte* const* spaces) {
        const uint8_t* const flags = at<uint8_t>(mask, spaces);
        int64_t *const x_rows = at<int64_t>(counted, spaces), *const y_rows = at<int64_t>(sources, spaces);
        for (Size b = 0; b < B; b++) {
            auto flag = [&](Size t) { return flags[t * mask.strides[0] + b * mask.strides[1]] != 0; };
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
    const Size T = x.shape.at(0), B = x.shape.at(1), state = lstm.D * B * lstm.H;
    if (T < 1 || B < 1 || !has_size(x, T * B * lstm.I) || !has_size(y, T * state) || !has_size(h_n, state) ||
        !has_size(c_n, state) || (h0 && !has_size(*h0, state)) || (c0 && !has_size(*c0, state)))
        throw std::invalid_argument("the views of a quantized LSTM do not match its weights");
    struct Views {
        View x, h0, c0, y, h_n, c_n;
    };
    const bool has_h0 = h0, has_c0 = c0;
    const Views v{x, h0 ? *h0 : View{}, c0 ? *c0 : View{}, y, h_n, c_n};
    steps.push_back([&lstm, v, T, B, has_h0, has_c0](std::byte* const* spaces) {
        lstm.forward({T, B, at<float>(v.x, spaces), at<float>(v.y, spaces),
                      has_h0 ? at<float>(v.h0, spaces) : nullptr, has_c0 ? at<float>(v.c0, spaces) : nullptr,
                      at<float>(v.h_n, spaces), at<float>(v.c_n, spaces)});
    });
}

}  // namespace onward
