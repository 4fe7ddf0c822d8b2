// Weights of steps, made from the words and arrays of a file.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "run/words.h"

namespace onward {

using KeptWeights = std::variant<Dense<float>, Stack<float>, IntegerMatrix, QuantizedLSTM>;

// Packs the weights that words describe: the name of their kind, and the arguments of the Python class of that name.
// The arrays of the words are not needed any more afterwards. Throws what Words throws.
std::unique_ptr<KeptWeights> pack_weights(Words& words);

// What the steps of programs refer to.
std::vector<PackedWeights> packed(const std::vector<std::unique_ptr<KeptWeights>>& kept);

}  // namespace onward
