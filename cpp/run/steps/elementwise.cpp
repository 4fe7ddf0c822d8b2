// Elementwise steps: arithmetic, comparisons and activation functions.
#include "platform/dispatch.h"
#include "run/plan.h"
#include "run/steps/elements.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>

namespace onward {

namespace {

// The elements of a run one behind the other; those that are not adjacent are copied to a buffer.
template <class T>
const T* adjacent(const T* p, Size n, Size step, T* buffer) {
    if (step == 1) return p;
    copy_run(p, step, n, buffer, 1);
    return buffer;
}

// y[i] = f(a[i], b[i]) for the runs of a loop.
template <class T, class Result, class Function>
void for_pairs(const std::array<std::byte*, 3>& p, Size length, const std::array<Size, 3>& step, Function f) {
    T buffers[2][block];
    for (Size first = 0; first < length; first += block) {
        const Size n = std::min(block, length - first);
        const T* const a = adjacent((const T*)p[0] + first * step[0], n, step[0], buffers[0]);
        const T* const b = adjacent((const T*)p[1] + first * step[1], n, step[1], buffers[1]);
        Result* const y = (Result*)p[2] + first * step[2];
        if (step[2] == 1)
            for (Size i = 0; i < n; i++) y[i] = Result(f(a[i], b[i]));
        else
            for (Size i = 0; i < n; i++) y[i * step[2]] = Result(f(a[i], b[i]));
    }
}

template <class T, class Run>
void with_comparison(Comparison operation, Run run) {
    switch (operation) {
        case Comparison::equal: return run([](T a, T b) { return a == b; });
        case Comparison::not_equal: return run([](T a, T b) { return a != b; });
        case Comparison::less: return run([](T a, T b) { return a < b; });
        case Comparison::less_or_equal: return run([](T a, T b) { return a <= b; });
    }
}

}  // namespace

template <class Function>
void Plan::each_element(const View& x, const View& y, Function f) {
    check_floats({&x, &y});
    add([f, blocks = Blocks(kept, {&x, &y})](std::byte* const* spaces) {
        blocks.run(spaces, [&](Size n, const float* const* operands, const Size* steps, float* out) {
            f(steps[0] == 0 ? 1 : n, operands[0], out);
            if (steps[0] == 0) std::fill_n(out, n, *out);
        });
    });
}

void Plan::activate(Activation<float> function, const View& x, const View& y) {
    each_element(x, y, [=, this](Size n, const float* from, float* to) { kernels.activate(function, n, from, to); });
}

void Plan::unary(Unary operation, const View& x, const View& y) {
    if (x.dtype == DType::float32)
        return each_element(x, y, [=, this](Size n, const float* from, float* to) {
            kernels.unary(operation, n, from, to);
        });
    check(x), check(y, x.dtype);
    if (x.dtype == DType::float64 && !onward::kernels<double>().unary)
        throw std::invalid_argument("this build of the core has no functions of float64");
    auto add_step = [&]<class T>(T, auto f) {
        add([f, loops = Loops<2>(kept, {&x, &y})](std::byte* const* spaces) {
            loops.run<T>(spaces, [=](const auto& p, Size n, const auto& step) {
                for (Size i = 0; i < n; i++) p[1][i * step[1]] = f(p[0][i * step[0]]);
            });
        });
    };
    with_type(x.dtype, [&]<class T>(T zero) {
        if constexpr (std::is_same_v<T, double>) {
            add_step(zero, [operation, &wide = onward::kernels<double>()](double v) {
                double result;
                wide.unary(operation, 1, &v, &result);
                return result;
            });
        } else if constexpr (std::is_integral_v<T>) {
            using Unsigned = std::make_unsigned_t<T>;
            switch (operation) {
                case Unary::absolute:
                    return add_step(zero, [](T v) { return v < 0 ? T(Unsigned(0) - Unsigned(v)) : v; });
                case Unary::negative: return add_step(zero, [](T v) { return T(Unsigned(0) - Unsigned(v)); });
                case Unary::sign: return add_step(zero, [](T v) { return T((v > 0) - (v < 0)); });
                default: throw std::invalid_argument("integers do not have this function");
            }
        }
    });
}

void Plan::binary(Binary operation, const View& a, const View& b, const View& y) {
    check(a), check(b, a.dtype), check(y, a.dtype);
    if (a.dtype != DType::float32)
        return with_type(a.dtype, [&]<class T>(T) {
            with_operation<T>(operation, [&](auto f) {
                add([f, loops = Loops<3>(kept, {&a, &b, &y})](std::byte* const* spaces) {
                    loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                        for_pairs<T, T>(p, n, step, f);
                    });
                });
            });
        });
    add([this, operation, blocks = Blocks(kept, {&a, &b, &y})](std::byte* const* spaces) {
        blocks.run(spaces, [&](Size n, const float* const* operands, const Size* steps, float* out) {
            kernels.binary(operation, n, operands[0], steps[0], operands[1], steps[1], out);
        });
    });
}

void Plan::compare(Comparison operation, const View& a, const View& b, const View& y) {
    check(a), check(b, a.dtype), check(y, DType::boolean);
    with_type(a.dtype, [&]<class T>(T) {
        with_comparison<T>(operation, [&](auto f) {
            add([f, loops = Loops<3>(kept, {&a, &b, &y})](std::byte* const* spaces) {
                loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                    for_pairs<T, uint8_t>(p, n, step, f);
                });
            });
        });
    });
}

}  // namespace onward
