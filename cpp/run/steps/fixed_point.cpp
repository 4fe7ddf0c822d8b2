// Steps on integers that stand for real numbers: rescaling by fixed-point factors, tables, exact reductions.
#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

#include "platform/dispatch.h"
#include "run/plan.h"

namespace onward {

namespace {

// The upper half of 2 a b, rounded to nearest, ties up; only -2^31 squared exceeds the range.
int32_t high_product(int32_t a, int32_t b) {
    const int64_t product = (int64_t(a) * b + (int64_t(1) << 30)) >> 31;
    return int32_t(std::min<int64_t>(product, std::numeric_limits<int32_t>::max()));
}

// x times multiplier / 2^(31 - shift), rounded once to nearest, ties up.
int64_t rescaled(int64_t x, int32_t multiplier, int32_t shift) {
    const int32_t n = std::clamp(31 - shift, 1, 63), k = std::min(n, 16);
    const int64_t rest = x & ((int64_t(1) << k) - 1);
    return ((x >> k) * multiplier + ((rest * multiplier + (int64_t(1) << (n - 1))) >> k)) >> (n - k);
}

// The number on the line between two elements of a table, rounded, ties up.
int32_t on_line(const int32_t* table, Size x, Size bits, Size last) {
    const Size place = std::clamp<Size>(x, 0, last << bits);
    const Size first = std::min(place >> bits, last - 1), rest = place - (first << bits);
    const int64_t rise = int64_t(table[first + 1]) - table[first];
    return int32_t(table[first] + ((rise * rest + (int64_t(1) << (bits - 1))) >> bits));
}

// Calls f with a value of the C++ type of a dtype of integers.
template <class Function>
void with_integer(DType dtype, Function f) {
    with_type(dtype, [&]<class T>(T zero) {
        if constexpr (std::is_integral_v<T>) f(zero);
        else throw std::invalid_argument("a step on integers got floats");
    });
}

}  // namespace

Rescaling Plan::rescaling(Size zero_point, Size low, Size high, const View& y) {
    check(y);
    const bool to_bytes = size_of(y.dtype) == 1;
    if ((!to_bytes && y.dtype != DType::int32) || y.dtype == DType::boolean)
        throw std::invalid_argument("int32 must be rescaled to int8, uint8 or int32");
    for (const Size number : {zero_point, low, high})
        if (number != int32_t(number)) throw std::invalid_argument("a zero point or limit exceeds int32");
    return {nullptr, nullptr, 0, 0, int32_t(zero_point), int32_t(low), int32_t(high), to_bytes};
}

void Plan::rescale(Size zero_point, Size low, Size high, const View& x, const View& multiplier, const View& shift,
                   const View& y) {
    check(x, DType::int32), check(multiplier, DType::int32), check(shift, DType::int32);
    const Rescaling base = rescaling(zero_point, low, high, y);
    add([base, size = size_of(y.dtype), loops = Loops<4>(kept, {&x, &multiplier, &shift, &y}),
         &bytes = selected().bytes](std::byte* const* spaces) {
        loops.run<std::byte>(spaces, [&](const auto& p, Size n, const auto& step) {
            Rescaling own = base;
            own.multiplier = (const int32_t*)p[1], own.shift = (const int32_t*)p[2];
            if (step[0] == 1 && step[1] <= 1 && step[2] <= 1 && step[3] == 1) {
                own.multiplier_step = step[1], own.shift_step = step[2];
                return bytes.rescale(n, (const int32_t*)p[0], own, p[3]);
            }
            for (Size i = 0; i < n; i++, own.multiplier += step[1], own.shift += step[2])
                bytes.rescale(1, (const int32_t*)p[0] + i * step[0], own, p[3] + i * step[3] * size);
        });
    });
}

void Plan::rescale_once(Size zero_point, Size low, Size high, const View& x, const View& multiplier, const View& shift,
                        const View& y) {
    check(x, DType::int64), check(multiplier, DType::int32), check(shift, DType::int32), check(y);
    with_integer(y.dtype, [&]<class To>(To) {
        add([zero_point, low, high, loops = Loops<4>(kept, {&x, &multiplier, &shift, &y})](std::byte* const* spaces) {
            loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                const int64_t* const x = (const int64_t*)p[0];
                const int32_t *const multiplier = (const int32_t*)p[1], *const shift = (const int32_t*)p[2];
                To* const y = (To*)p[3];
                for (Size i = 0; i < n; i++) {
                    const int64_t sum = rescaled(x[i * step[0]], multiplier[i * step[1]], shift[i * step[2]]);
                    y[i * step[3]] = To(std::min<int64_t>(std::max<int64_t>(sum + zero_point, low), high));
                }
            });
        });
    });
}

void Plan::lookup(Size low, Size bits, const View& table, const View& x, const View& y) {
    check(x), check(table, y.dtype), check(y);
    if (table.shape.size() != 1 || table.shape[0] < 1 + (bits > 0) || !is_contiguous(table))
        throw std::invalid_argument("a table must be a contiguous vector");
    if (bits < 0 || bits > 30 || (bits && y.dtype != DType::int32))
        throw std::invalid_argument("a table between whose elements x lies must have dtype int32");
    const Size last = table.shape[0] - 1;
    with_integer(x.dtype, [&]<class From>(From) {
        if (bits)
            return add([=, table = Place(table), loops = Loops<2>(kept, {&x, &y})](std::byte* const* spaces) {
                const int32_t* const numbers = at<int32_t>(table, spaces);
                loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                    const From* const x = (const From*)p[0];
                    int32_t* const y = (int32_t*)p[1];
                    for (Size i = 0; i < n; i++)
                        y[i * step[1]] = on_line(numbers, Size(x[i * step[0]]) - low, bits, last);
                });
            });
        auto look_up = [&]<class To>(To) {
            add([low, last, table = Place(table), loops = Loops<2>(kept, {&x, &y})](std::byte* const* spaces) {
                const To* const numbers = at<To>(table, spaces);
                loops.run<std::byte>(spaces, [=](const auto& p, Size n, const auto& step) {
                    const From* const x = (const From*)p[0];
                    To* const y = (To*)p[1];
                    for (Size i = 0; i < n; i++)
                        y[i * step[1]] = numbers[std::clamp<Size>(Size(x[i * step[0]]) - low, 0, last)];
                });
            });
        };
        switch (size_of(y.dtype)) {
            case 1: return look_up(uint8_t());
            case 4: return look_up(uint32_t());
            default: return look_up(uint64_t());
        }
    });
}

void Plan::reduce_integers(Reduction operation, const View& x, const View& y) {
    check(x), check(y, x.dtype);
    if (x.shape.empty() || x.shape.back() == 0) throw std::invalid_argument("a reduction needs elements");
    View first = x;
    const Size n = x.shape.back(), stride = x.strides.back();
    first.shape.back() = 1;
    with_integer(x.dtype, [&]<class T>(T) {
        using Unsigned = std::make_unsigned_t<T>;
        auto reduce_with = [&](auto combine) {
            add([combine, n, stride, loops = Loops<2>(kept, {&first, &y})](std::byte* const* spaces) {
                loops.run<T>(spaces, [=](const auto& p, Size count, const auto& step) {
                    if (step[0] == 1 && step[1] == 1) {  // adjacent outputs side by side
                        std::copy_n(p[0], count, p[1]);
                        for (Size k = 1; k < n; k++)
                            for (Size i = 0; i < count; i++) p[1][i] = combine(p[1][i], p[0][k * stride + i]);
                        return;
                    }
                    for (Size i = 0; i < count; i++) {
                        const T* const from = p[0] + i * step[0];
                        T total = *from;
                        for (Size k = 1; k < n; k++) total = combine(total, from[k * stride]);
                        p[1][i * step[1]] = total;
                    }
                });
            });
        };
        if (operation == Reduction::sum) reduce_with([](T a, T b) { return T(Unsigned(a) + Unsigned(b)); });
        else reduce_with([](T a, T b) { return std::max(a, b); });
    });
}

// 1 / (1 + x) for x from 0 to 1, both with 31 fractional bits, by three steps of Newton's method with 29.
static int32_t reciprocal_of_one_plus(int32_t x) {
    constexpr int32_t one = std::numeric_limits<int32_t>::max(), one_of_29_bits = 1 << 29;
    const int32_t half = int32_t((int64_t(x) + one + 1) / 2);
    auto saturated = [](int64_t number) {
        return int32_t(std::clamp<int64_t>(number, std::numeric_limits<int32_t>::min(), one));
    };
    int32_t y = 1515870810 + high_product(half, -1010580540);  // 48/17 - 32/17 half
    for (int i = 0; i < 3; i++) {
        const int32_t rest = one_of_29_bits - high_product(half, y);
        y += saturated(int64_t(high_product(y, rest)) * 4);
    }
    return saturated(int64_t(y) * 2);
}

void Plan::fixed_reciprocal(const View& x, const View& multiplier, const View& shift) {
    check(x, DType::int32), check(multiplier, DType::int32), check(shift, DType::int32);
    add([loops = Loops<3>(kept, {&x, &multiplier, &shift})](std::byte* const* spaces) {
        loops.run<int32_t>(spaces, [=](const auto& p, Size n, const auto& step) {
            for (Size i = 0; i < n; i++) {
                const uint32_t number = uint32_t(p[0][i * step[0]]);
                const int zeros = std::countl_zero(number);
                const uint32_t fraction = zeros > 31 ? 0 : (number << zeros) - (1u << 31);
                p[1][i * step[1]] = reciprocal_of_one_plus(int32_t(fraction));
                p[2][i * step[2]] = zeros;
            }
        });
    });
}

}  // namespace onward
