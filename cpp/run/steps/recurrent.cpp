// Recurrent layers.
#include <stdexcept>

#include "run/plan.h"

namespace onward {

void Plan::recurrent(const Stack<float>& stack, const View& x, const View* h0, const View* c0, const View& y,
                     const View& h_n, const View* c_n) {
    for (const View* view : {&x, h0, c0, &y, &h_n, c_n})
        if (view) check(*view, DType::float32);
    struct Views {
        View x, h0, c0, y, h_n, c_n;
        bool has_h0, has_c0, has_c_n;
    };
    auto v = std::make_shared<Views>(Views{x, h0 ? *h0 : View{}, c0 ? *c0 : View{}, y, h_n, c_n ? *c_n : View{},
                                           h0 != nullptr, c0 != nullptr, c_n != nullptr});
    steps.push_back([&stack, v](std::byte* const* spaces) {
        stack.forward({v->x.shape[0], v->x.shape[1], {at<float>(v->x, spaces), v->x.strides[0], v->x.strides[1]},
                       {at<float>(v->y, spaces), v->y.strides[0], v->y.strides[1]},
                       v->has_h0 ? at<float>(v->h0, spaces) : nullptr, v->has_c0 ? at<float>(v->c0, spaces) : nullptr,
                       nullptr, at<float>(v->h_n, spaces), v->has_c_n ? at<float>(v->c_n, spaces) : nullptr});
    });
}

void Plan::quantized_lstm(const QuantizedLSTM& lstm, const View& x, const View* h0, const View* c0, const View& y,
                          const View& h_n, const View& c_n) {
    check_floats({&x, h0 ? h0 : &x, c0 ? c0 : &x, &y, &h_n, &c_n});
    auto size = [](const View& view) { return Size(offsets_of(view, 0, view.shape.size()).size()); };
    const Size T = x.shape.at(0), B = x.shape.at(1), state = lstm.D * B * lstm.H;
    if (size(x) != T * B * lstm.I || size(y) != T * state || size(h_n) != state || size(c_n) != state ||
        (h0 && size(*h0) != state) || (c0 && size(*c0) != state))
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
