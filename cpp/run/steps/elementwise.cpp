// Elementwise steps: arithmetic, comparisons and activation functions.
#include "run/plan.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>

namespace onward {

namespace {

// One element of a binary operation on a dtype other than float32. Integers wrap; of booleans, the maximum is "or" and
// the minimum is "and".
template <class T>
T combined(Binary operation, T a, T b) {
    if constexpr (std::is_integral_v<T>) {
        using Unsigned = std::make_unsigned_t<T>;
        const Unsigned u = Unsigned(a), v = Unsigned(b);
        switch (operation) {
            case Binary::add: return T(Unsigned(u + v));
            case Binary::subtract: return T(Unsigned(u - v));
            case Binary::multiply: return T(Unsigned(u * v));
            case Binary::minimum: return std::min(a, b);
            default: return std::max(a, b);
        }
    } else {
        switch (operation) {
            case Binary::add: return a + b;
            case Binary::subtract: return a - b;
            case Binary::multiply: return a * b;
            case Binary::divide: return a / b;
            case Binary::minimum: return a < b || a != a ? a : b;
            case Binary::maximum: break;
        }
        return a > b || a != a ? a : b;
    }
}

template <class T>
bool compared(Comparison operation, T a, T b) {
    switch (operation) {
        case Comparison::equal: return a == b;
        case Comparison::not_equal: return a != b;
        case Comparison::less: return a < b;
        case Comparison::less_or_equal: break;
    }
    return a <= b;
}

// y[i] = f(a[i], b[i]) for the runs of a loop.
template <class T, class Result, class Function>
void for_pairs(const std::array<std::byte*, 3>& p, Size n, const std::array<Size, 3>& step, Function f) {
    const T *const a = (const T*)p[0], *const b = (const T*)p[1];
    Result* const y = (Result*)p[2];
    for (Size i = 0; i < n; i++) y[i * step[2]] = Result(f(a[i * step[0]], b[i * step[1]]));
}

}  // namespace

void Plan::activate(Activation<float> function, const View& x, const View& y) {
    check_floats({&x, &y});
    steps.push_back([this, function, loops = Loops<2>({&x, &y})](std::byte* const* spaces) {
        loops.run<float>(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<1>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                if (operand_steps[0] == 0) {
                    kernels.activate(function, 1, operands[0], out);
                    std::fill_n(out, count, *out);
                } else {
                    kernels.activate(function, count, operands[0], out);
                }
            });
        });
    });
}

void Plan::unary(Unary operation, const View& x, const View& y) {
    check_floats({&x, &y});
    steps.push_back([this, operation, loops = Loops<2>({&x, &y})](std::byte* const* spaces) {
        loops.run<float>(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<1>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                if (operand_steps[0] == 0) {
                    kernels.unary(operation, 1, operands[0], out);
                    std::fill_n(out, count, *out);
                } else {
                    kernels.unary(operation, count, operands[0], out);
                }
            });
        });
    });
}

void Plan::binary(Binary operation, const View& a, const View& b, const View& y) {
    check(a), check(b, a.dtype), check(y, a.dtype);
    if (a.dtype != DType::float32)
        return with_type(a.dtype, [&]<class T>(T) {
            if (std::is_integral_v<T> && operation == Binary::divide)
                throw std::invalid_argument("integers cannot be divided");
            steps.push_back([operation, loops = Loops<3>({&a, &b, &y})](std::byte* const* spaces) {
                loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                    for_pairs<T, T>(p, n, step, [=](T u, T v) { return combined(operation, u, v); });
                });
            });
        });
    steps.push_back([this, operation, loops = Loops<3>({&a, &b, &y})](std::byte* const* spaces) {
        loops.run<float>(spaces, [&](const auto& p, Size n, const auto& step) {
            with_contiguous<2>(p, n, step, [&](Size count, auto operands, auto operand_steps, float* out) {
                kernels.binary(operation, count, operands[0], operand_steps[0], operands[1], operand_steps[1], out);
            });
        });
    });
}

void Plan::compare(Comparison operation, const View& a, const View& b, const View& y) {
    check(a), check(b, a.dtype), check(y, DType::boolean);
    with_type(a.dtype, [&]<class T>(T) {
        steps.push_back([operation, loops = Loops<3>({&a, &b, &y})](std::byte* const* spaces) {
            loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                for_pairs<T, uint8_t>(p, n, step, [=](T u, T v) { return compared(operation, u, v); });
            });
        });
    });
}

}  // namespace onward
