// Packs weights from the words and arrays of a file.
#include "run/weights.h"

namespace onward {

namespace {

using Kept = std::unique_ptr<KeptWeights>;

template <class Kind, class... Arguments>
Kept keep(const Arguments&... arguments) {
    return std::make_unique<KeptWeights>(std::in_place_type<Kind>, arguments...);
}

std::vector<Options<float>> options_of(Words& words, size_t D) {
    std::vector<Options<float>> options;
    for (Size n = words.count(); n--;) {
        const auto gate = words.read<Activation<float>>(), candidate = words.read<Activation<float>>();
        const auto output = words.read<Activation<float>>();
        const float clip = words.read<float>(), cell_clip = words.read<float>();
        options.push_back({gate, candidate, output, clip, cell_clip, words.read<bool>()});
    }
    if (!options.empty() && options.size() != D)
        throw std::invalid_argument("options must be empty or have one entry per direction");
    return options;
}

Kept dense(Words& words) {
    const Array W = words.next_matrix();
    const Matrix<float> matrix = words.matrix(W.shape[0], W.shape[1]);
    return keep<Dense<float>>(matrix, words.array<float>(Array::Kind::float32, {W.shape[0]}), Size(W.shape[0]),
                              Size(W.shape[1]));
}

Kept stack(Words& words) {
    const auto cell = words.read<Cell>();
    const Size G = gates(cell), D = words.read<Size>(), n = words.count();
    if ((D != 1 && D != 2) || n < D || n % D) throw std::invalid_argument("a recurrent layer lacks weights");
    Words ahead = words;
    const Size I = ahead.next_matrix().shape[1];
    ahead.matrix(ahead.next_matrix().shape[0], I);
    const Size H = ahead.next_matrix().shape[0] / G, P = ahead.next_matrix().shape[1];
    std::vector<Weights<float>> weights;
    for (Size i = 0; i < n; i++) {
        const Size own_I = i < D ? I : D * P;
        Weights<float> w{own_I, H, P, words.matrix(G * H, own_I), words.matrix(G * H, P), {}, {}, {}, {}};
        w.b_W = words.array<float>(Array::Kind::float32, {G * H});
        w.b_R = words.array<float>(Array::Kind::float32, {G * H});
        if (words.read<bool>()) w.W_hr = words.matrix(P, H);
        w.peephole = words.array<float>(Array::Kind::float32, {3 * H});
        if ((P != H || w.W_hr.numbers || w.peephole) && (cell != Cell::lstm || (P != H && !w.W_hr.numbers)))
            throw std::invalid_argument("only an LSTM has a projection and peephole weights");
        weights.push_back(w);
    }
    return keep<Stack<float>>(cell, weights, options_of(words, D), D);
}

Kept integer_matrix(Words& words) {
    const Array q = words.next_matrix();
    const auto* const numbers = words.array<int8_t>(Array::Kind::int8, {q.shape[0], q.shape[1]});
    const auto* const zero_points = words.array<int32_t>(Array::Kind::int32, {q.shape[0]}, true);
    return keep<IntegerMatrix>(numbers, zero_points, Size(q.shape[0]), Size(q.shape[1]));
}

Kept quantized_lstm(Words& words) {
    const Size D = words.count();
    if (D != 1 && D != 2) throw std::invalid_argument("an LSTM has one or two directions");
    Words ahead = words;
    const Size I = ahead.next_matrix().shape[1];
    for (int array = 0; array < 3; array++) ahead.read<Size>();
    const Size H = ahead.next_matrix().shape[1];
    auto matrix = [&](Size K) {
        const auto* const numbers = words.array<int8_t>(Array::Kind::int8, {4 * H, K}, true);
        const auto* const scale = words.array<float>(Array::Kind::float32, {4 * H}, true);
        const auto* const zero_points = words.array<int32_t>(Array::Kind::int32, {4 * H}, true);
        return Matrix<float>{Format::dynamic, numbers, scale, zero_points};
    };
    std::vector<QuantizedDirection> weights;
    for (Size d = 0; d < D; d++) {
        const Matrix<float> W = matrix(I), R = matrix(H);
        const auto* const bias = words.array<float>(Array::Kind::float32, {4 * H}, true);
        weights.push_back({W, R, bias, words.array<float>(Array::Kind::float32, {3 * H})});
    }
    const std::vector<Options<float>> options = options_of(words, D);
    return keep<QuantizedLSTM>(weights, options, words.read<bool>(), I, H);
}

constexpr std::pair<const char*, Kept (*)(Words&)> kinds[] = {
    {"Dense", dense}, {"Stack", stack}, {"IntegerMatrix", integer_matrix}, {"QuantizedLSTM", quantized_lstm},
};

}  // namespace

Kept pack_weights(Words& words) {
    const auto make = lookup(kinds, words.read<std::string>());
    return make(words);
}

std::vector<PackedWeights> packed(const std::vector<Kept>& kept) {
    std::vector<PackedWeights> weights;
    for (const Kept& each : kept) std::visit([&](const auto& found) { weights.push_back(&found); }, *each);
    return weights;
}

}  // namespace onward
