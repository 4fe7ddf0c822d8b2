// Linear attention: recurrences whose states are matrices.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "platform/interrupt.h"
#include "run/plan.h"
#include "run/steps/parts.h"

namespace onward {

namespace {

// The vectors (B, T, heads, size) of an array, or nothing.
struct Vectors {
    Place place;
    Size row, step, head;  // strides
    bool exists;

    explicit Vectors(const View* view)
        : place(view ? *view : View{}), row(view ? view->strides[0] : 0), step(view ? view->strides[1] : 0),
          head(view ? view->strides[2] : 0), exists(view) {}
    float* at(std::byte* const* spaces, Size b, Size t, Size h) const {
        return exists ? onward::at<float>(place, spaces) + b * row + t * step + h * head : nullptr;
    }
};

}  // namespace

void Plan::linear_attention(float scale, const View& q, const View& k, const View& v, const View* before,
                            const View* decay, const View* beta, const View& y, const View& after) {
    check_floats({&q, &k, &v, &y, &after});
    for (const View* view : {before, decay, beta})
        if (view) check(*view, DType::float32);
    for (const View* view : {&q, &k, &v, &y, decay, beta})
        if (view && (view->shape.size() != 4 || (view->shape[3] != 1 && view->strides[3] != 1)))
            throw std::invalid_argument("linear attention needs vectors of adjacent numbers");
    const Size B = k.shape[0], T = k.shape[1], heads = k.shape[2], keys = k.shape[3], values = v.shape[3];
    const Size queries = heads > 0 ? q.shape[2] / heads : 0;
    const Axes state{B, heads, keys, values};
    if (q.shape != Axes{B, T, heads * queries, keys} || v.shape != Axes{B, T, heads, values} ||
        y.shape != Axes{B, T, heads * queries, values} || queries < 1 || after.shape != state ||
        (before && before->shape != state) || (beta && beta->shape != Axes{B, T, heads, 1}) ||
        (decay && decay->shape != Axes{B, T, heads, keys} && decay->shape != Axes{B, T, heads, 1}))
        throw std::invalid_argument("the shapes of linear attention do not match");
    if (!is_contiguous(after) || (before && !is_contiguous(*before)) || (queries > 1 && q.strides[2] != keys) ||
        (queries > 1 && y.strides[2] != values))
        throw std::invalid_argument("linear attention needs adjacent states, and adjacent queries of a head");
    const Vectors qs(&q), ks(&k), vs(&v), decays(decay), betas(beta), ys(&y);
    const Size size = keys * values, decay_step = decay && decay->shape[3] > 1 ? 1 : 0;
    add([=, this, from = Place(before ? *before : after), to = Place(after), has_state = before != nullptr](
            std::byte* const* spaces) {
        Interrupt interrupt;
        const Size work = B * T * heads * (queries + 2) * size, tokens_per_poll = work_per_poll / (3 * size + 1) + 1;
        in_parts(B * heads, B * heads, work, [&](Size row, Size end) {
            for (; row < end; row++) {
                const Size b = row / heads, h = row % heads;
                float* const state = at<float>(to, spaces) + row * size;
                const float* before = has_state ? at<float>(from, spaces) + row * size : state;
                if (!has_state) std::fill_n(state, size, 0.f);
                else if (T == 0) std::copy_n(before, size, state);
                for (Size t = 0; t < T; t++, before = state) {
                    if (t % tokens_per_poll == tokens_per_poll - 1 && interrupt.requested()) break;
                    kernels.linear_attention({keys, values, queries, qs.at(spaces, b, t, h * queries),
                                              ks.at(spaces, b, t, h), vs.at(spaces, b, t, h),
                                              decays.at(spaces, b, t, h), decay_step, betas.at(spaces, b, t, h),
                                              scale, before, state, ys.at(spaces, b, t, h * queries)});
                }
            }
        });
        interrupt.throw_if_happened();
    });
}

}  // namespace onward
