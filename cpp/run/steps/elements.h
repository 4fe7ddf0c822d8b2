// What steps do with elements of any dtype.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "run/view.h"

namespace onward {

// Calls f with an integer of the size of an element, for steps that only move elements.
template <class Function>
auto with_element(DType dtype, Function f) {
    switch (size_of(dtype)) {
        case 1: return f(uint8_t());
        case 4: return f(uint32_t());
    }
    return f(uint64_t());
}

inline void check_same(const View& a, const View& b) {
    if (a.dtype != b.dtype) throw std::invalid_argument("the views of this step must have one dtype");
}

template <class T>
void copy_run(const T* from, Size from_step, Size n, T* to, Size to_step) {
    if (from_step == 1 && to_step == 1)
        std::memcpy(to, from, n * sizeof(T));
    else if (from_step == 0 && to_step == 1)
        std::fill_n(to, n, *from);
    else
        for (Size i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
}

// Arithmetic. Integers wrap; their quotients are rounded toward zero, and 0 for a divisor of 0.
template <class T>
using Wrapping = typename std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;
template <class T>
T sum(T a, T b) { return T(Wrapping<T>(a) + Wrapping<T>(b)); }
template <class T>
T difference(T a, T b) { return T(Wrapping<T>(a) - Wrapping<T>(b)); }
template <class T>
T multiplied(T a, T b) { return T(Wrapping<T>(a) * Wrapping<T>(b)); }
template <class T>
T quotient(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
        if (b == 0) return 0;
        if (std::is_signed_v<T> && b == T(-1)) return difference(T(0), a);
    }
    return T(a / b);
}

// Calls run(f) with an operation f on two elements of a dtype whose order does not matter. Integers wrap; of booleans,
// the maximum is "or" and the minimum is "and".
template <class T, class Run>
void with_combination(Binary operation, Run run) {
    switch (operation) {
        case Binary::add: return run([](T a, T b) { return sum(a, b); });
        case Binary::multiply: return run([](T a, T b) { return multiplied(a, b); });
        case Binary::minimum: return run([](T a, T b) { return a <= b || a != a ? a : b; });
        case Binary::maximum: return run([](T a, T b) { return a >= b || a != a ? a : b; });
        default: throw std::invalid_argument("elements are not combined by this operation");
    }
}

// Calls run(f) with any binary operation f on two elements of a dtype.
template <class T, class Run>
void with_operation(Binary operation, Run run) {
    switch (operation) {
        case Binary::subtract: return run([](T a, T b) { return difference(a, b); });
        case Binary::divide: return run([](T a, T b) { return quotient(a, b); });
        default: with_combination<T>(operation, run);
    }
}

}  // namespace onward
