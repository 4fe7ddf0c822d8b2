// Recurrent layers.
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
                       v->has_h0 ? at<float>(v->h0, spaces) : nullptr, v->has_c0 ? at<float>(v->c0, spaces) : nullptr, nullptr,
                       at<float>(v->h_n, spaces), v->has_c_n ? at<float>(v->c_n, spaces) : nullptr});
    });
}

}  // namespace onward
