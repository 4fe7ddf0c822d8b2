// The names of cells, functions, dtypes and operations of steps, in Python and in the files of Onward for JavaScript.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "run/view.h"

namespace onward {

inline constexpr std::pair<const char*, Cell> cells[] = {
    {"rnn", Cell::rnn}, {"rnn_relu", Cell::rnn_relu}, {"lstm", Cell::lstm}, {"gru", Cell::gru},
    {"gru_reset_before", Cell::gru_reset_before},
};
inline constexpr std::pair<const char*, Function> functions[] = {
    {"affine", Function::affine}, {"elu", Function::elu}, {"exponential", Function::exponential},
    {"gelu", Function::gelu}, {"hard_sigmoid", Function::hard_sigmoid},
    {"hard_swish", Function::hard_swish}, {"leaky_relu", Function::leaky_relu}, {"mish", Function::mish},
    {"relu", Function::relu}, {"relu6", Function::relu6},
    {"scaled_tanh", Function::scaled_tanh}, {"sigmoid", Function::sigmoid}, {"silu", Function::silu},
    {"softplus", Function::softplus}, {"softsign", Function::softsign}, {"tanh", Function::tanh},
    {"thresholded_relu", Function::thresholded_relu},
};
inline constexpr std::pair<const char*, DType> dtypes[] = {
    {"float32", DType::float32}, {"float64", DType::float64}, {"int32", DType::int32}, {"int64", DType::int64},
    {"int8", DType::int8}, {"uint8", DType::uint8}, {"bool", DType::boolean},
};
inline constexpr std::pair<const char*, Unary> unaries[] = {
    {"absolute", Unary::absolute}, {"ceil", Unary::ceil}, {"cosine", Unary::cosine},
    {"error_function", Unary::error_function}, {"floor", Unary::floor}, {"log", Unary::log},
    {"negative", Unary::negative}, {"reciprocal", Unary::reciprocal}, {"round", Unary::round}, {"sign", Unary::sign},
    {"sine", Unary::sine}, {"sqrt", Unary::sqrt},
};
inline constexpr std::pair<const char*, Binary> binaries[] = {
    {"add", Binary::add}, {"subtract", Binary::subtract}, {"multiply", Binary::multiply}, {"divide", Binary::divide},
    {"maximum", Binary::maximum}, {"minimum", Binary::minimum},
};
inline constexpr std::pair<const char*, Comparison> comparisons[] = {
    {"equal", Comparison::equal}, {"not_equal", Comparison::not_equal}, {"less", Comparison::less},
    {"less_or_equal", Comparison::less_or_equal},
};
inline constexpr std::pair<const char*, Window> windows[] = {
    {"maximum", Window::maximum}, {"sum", Window::sum}, {"weighted_sum", Window::weighted_sum},
};
inline constexpr std::pair<const char*, Reduction> reductions[] = {
    {"sum", Reduction::sum}, {"maximum", Reduction::maximum},
};

// The value with this name. Throws std::invalid_argument.
template <class Value, size_t count>
Value lookup(const std::pair<const char*, Value> (&values)[count], const std::string& name) {
    for (const auto& [known, value] : values)
        if (name == known) return value;
    throw std::invalid_argument("the core has no '" + name + "'");
}

}  // namespace onward
