// Prints a hash of the results of each case, after checking that all instruction sets give the same bits.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "answers.h"
#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/threads.h"
#include "run/backward.h"
#include "run/dense.h"
#include "run/integers.h"
#include "run/losses.h"
#include "run/quantized_lstm.h"
#include "run/stack.h"

using namespace onward;

namespace {

struct Case {
    const char* name;
    Cell cell;
    Format format = Format::native;
    bool options = false, projected = false, peephole = false;
};

const Case cases[] = {
    {"rnn", Cell::rnn}, {"rnn relu", Cell::rnn_relu}, {"lstm", Cell::lstm}, {"gru", Cell::gru},
    {"gru reset before", Cell::gru_reset_before},
    {"rnn options", Cell::rnn, Format::native, true}, {"lstm options", Cell::lstm, Format::native, true},
    {"lstm peephole", Cell::lstm, Format::native, true, false, true},
    {"lstm projected", Cell::lstm, Format::native, false, true}, {"gru options", Cell::gru, Format::native, true},
    {"gru reset before options", Cell::gru_reset_before, Format::native, true},
    {"rnn float16", Cell::rnn, Format::float16}, {"lstm float16", Cell::lstm, Format::float16},
    {"lstm projected float16", Cell::lstm, Format::float16, false, true}, {"gru float16", Cell::gru, Format::float16},
    {"gru reset before float16", Cell::gru_reset_before, Format::float16},
    {"rnn int8", Cell::rnn, Format::int8}, {"lstm int8", Cell::lstm, Format::int8},
    {"lstm projected int8", Cell::lstm, Format::int8, false, true}, {"gru int8", Cell::gru, Format::int8},
    {"gru reset before int8", Cell::gru_reset_before, Format::int8},
};

// The weights of all layers and directions, and their memory.
template <class Real>
class Model {
public:
    Model(const Case& c, Size I, Size H, Size layers, Size D) {
        const Size G = gates(c.cell), P = c.projected ? (H + 1) / 2 : H;
        for (Size i = 0; i < layers * D; i++) {
            const Size inputs = i < D ? I : D * P;
            weights.push_back({inputs, H, P, matrix(c.format, G * H, inputs), matrix(c.format, G * H, P),
                               numbers(G * H), numbers(G * H),
                               c.projected ? matrix(c.format, P, H) : Matrix<Real>{},
                               c.peephole ? numbers(3 * H) : nullptr});
        }
        if (c.options)
            options.assign(D, {{Function::hard_sigmoid, Real(0.3), Real(0.4)}, {Function::elu, Real(0.7)},
                               {Function::softsign}, Real(0.6), Real(0.8), c.cell == Cell::lstm && !c.peephole});
    }

    std::vector<Weights<Real>> weights;
    std::vector<Options<Real>> options;

private:
    const Real* numbers(Size n) { return memory.emplace_back(random.numbers<Real>(n)).data(); }

    Matrix<Real> matrix(Format format, Size rows, Size columns) {
        const Size n = rows * columns;
        if (format == Format::int8) {
            auto& bytes = small.emplace_back(n);
            for (auto& byte : bytes) byte = int8_t(int(random.bits() % 255) - 127);
            auto& scale = memory.emplace_back(random.numbers<Real>(rows, 1. / 127 / 8));
            return {format, bytes.data(), scale.data()};
        }
        if (format == Format::float16) {  // magnitudes from 2^-5 to 1
            auto& halves = half.emplace_back(n);
            for (auto& number : halves)
                number.bits = uint16_t((random.bits() & 0x83ff) | ((10 + random.bits() % 5) << 10));
            return {format, halves.data()};
        }
        return {format, memory.emplace_back(random.numbers<Real>(n, 0.5)).data()};
    }

    Random random;
    std::deque<std::vector<Real>> memory;
    std::deque<std::vector<int8_t>> small;
    std::deque<std::vector<Half>> half;
};

template <class Real>
void whole_sequences(const Case& c, Hash& hash) {
    struct Shape {
        Size I, H, layers, D, T, B;
    };
    for (const auto& [I, H, layers, D, T, B] : std::initializer_list<Shape>{
             {1, 1, 1, 1, 50, 1}, {5, 7, 2, 2, 9, 5},
             {40, 33, 3, 1, 20, 17}, {5, 70, 1, 2, 2, 64}, {3, 7, 1, 1, 0, 4}}) {
        const Model<Real> model(c, I, H, layers, D);
        const Stack<Real> stack(c.cell, model.weights, model.options, D);
        const Size P = stack.P, LD = layers * D;
        Random random;
        const auto x = random.numbers<Real>(T * B * I), h0 = random.numbers<Real>(LD * B * P),
                   c0 = random.numbers<Real>(LD * B * H);
        std::vector<int64_t> lengths(B);
        for (auto& length : lengths) length = int64_t(random.bits() % uint64_t(T + 1));
        std::vector<Real> y(T * B * D * P), h_n(LD * B * P), c_n(LD * B * H);
        stack.forward({T, B, {x.data(), B * I, I}, {y.data(), B * D * P, D * P}, h0.data(), c0.data(), lengths.data(),
                       h_n.data(), c.cell == Cell::lstm ? c_n.data() : nullptr});
        for (const auto& numbers : {y, h_n, c_n}) hash.add(numbers);
    }
}

template <class Real>
void gradients(const Case& c, Hash& hash) {
    const Size I = 5, H = 33, D = 2, T = 11, B = 6;
    const Model<Real> model(c, I, H, 1, D);
    const Stack<Real> stack(c.cell, model.weights, model.options, D);
    const Backward<Real> back(c.cell, model.weights);
    const Size P = stack.P, S = recorded(c.cell), G = gates(c.cell);
    const bool lstm = c.cell == Cell::lstm;
    Random random;
    const auto x = random.numbers<Real>(T * B * I), h0 = random.numbers<Real>(D * B * P),
               c0 = random.numbers<Real>(D * B * H), dy = random.numbers<Real>(T * B * D * P),
               dh_n = random.numbers<Real>(D * B * P), dc_n = random.numbers<Real>(D * B * H);
    std::vector<Real> y(T * B * D * P), h_n(D * B * P), c_n(D * B * H), records(D * T * B * S * H),
        sums(D * T * B * G * H), dx(T * B * I), dh0(D * B * P), dc0(D * B * H), dW(D * G * H * I),
        dR(D * G * H * P), db_W(D * G * H), db_R(D * G * H), dW_hr(D * P * H);
    std::vector<WeightGradients<Real>> weight_gradients;
    for (Size i = 0; i < D; i++)
        weight_gradients.push_back({&dW[i * G * H * I], &dR[i * G * H * P], &db_W[i * G * H], &db_R[i * G * H],
                              c.projected ? &dW_hr[i * P * H] : nullptr});
    stack.forward({T, B, {x.data(), B * I, I}, {y.data(), B * D * P, D * P}, h0.data(), c0.data(), nullptr, h_n.data(),
                   lstm ? c_n.data() : nullptr, records.data(), sums.data()});
    back.run({T, B, {dy.data(), B * D * P, D * P}, {x.data(), B * I, I}, {y.data(), B * D * P, D * P}, h0.data(),
              lstm ? c0.data() : nullptr, dh_n.data(), lstm ? dc_n.data() : nullptr, nullptr, records.data(),
              {dx.data(), B * I, I}, dh0.data(), lstm ? dc0.data() : nullptr, weight_gradients});
    for (const auto& numbers : {y, records, sums, dx, dh0, dc0, dW, dR, db_W, db_R, dW_hr}) hash.add(numbers);
}

template <class Real>
void steps(const Case& c, Hash& hash) {
    const Size I = 5, H = 33, O = 7, T = 12, B = 3;
    const Model<Real> model(c, I, H, 2, 1);
    const Stack<Real> stack(c.cell, model.weights, model.options, 1);
    Random random;
    const auto W = random.numbers<Real>(O * stack.P), b = random.numbers<Real>(O), x = random.numbers<Real>(T * B * I);
    const Dense<Real> dense({Format::native, W.data()}, b.data(), O, stack.P);

    // the states before and after a block: h and, if there is one, c
    const bool lstm = c.cell == Cell::lstm;
    std::vector<Real> states[2][2], above(T * B * stack.P);
    const auto run = [&](Size steps, Size t, std::vector<Real>& y, Size from) {
        auto& [h0, c0] = states[from];
        auto& [h_n, c_n] = states[1 - from];
        stack.forward({steps, B, {x.data() + t * B * I, B * I, I}, {above.data(), B * stack.P, stack.P}, h0.data(),
                       lstm ? c0.data() : nullptr, nullptr, h_n.data(), lstm ? c_n.data() : nullptr});
        Interrupt interrupt;
        dense.forward(above.data(), steps * B, y.data() + t * B * O, interrupt);
    };
    const auto start = [&] {
        for (auto& arrays : states) arrays[0].assign(2 * B * stack.P, 0), arrays[1].assign(2 * B * H, 0);
    };
    std::vector<Real> streamed(T * B * O), stepped(T * B * O);
    start(), run(T, 0, streamed, 0);
    start();
    for (Size t = 0; t < T; t++) run(1, t, stepped, t % 2);
    if (streamed != stepped) throw std::runtime_error("a block and its steps give different results");
    hash.add(streamed);
}

template <class Real>
void functions(Hash& hash) {
    Random random;
    const auto x = random.numbers<Real>(10'000, 30);
    for (int function = 0; function <= int(Function::thresholded_relu); function++) {
        std::vector<Real> y(x.size());
        const FlushDenormals flush;
        kernels<Real>().activate({Function(function), Real(0.7), Real(0.3)}, Size(x.size()), x.data(), y.data());
        hash.add(y);
    }
}

// The cross entropy and the sums of training, for rows shorter and longer than a vector.
template <class Real>
void losses(Hash& hash) {
    Random random;
    for (const Size C : {1, 7, 16, 33, 100}) {
        const Size rows = 17;
        const auto y = random.numbers<Real>(rows * C, 30);
        std::vector<int64_t> targets(rows);
        for (Size row = 0; row < rows; row++) targets[row] = row % (C + 1) - 1;
        for (const double smoothing : {0.0, 0.1}) {
            std::vector<Real> dy(y.size());
            const double loss = cross_entropy(y.data(), rows, C, targets.data(), smoothing, dy.data());
            const Kernels<Real>& kernels = onward::kernels<Real>();
            hash.add(dy);
            hash.add(std::vector<double>{loss, kernels.sum(rows * C, y.data()),
                                         kernels.training.sum_of_squares(rows * C, y.data(), 0.3)});
        }
    }
}

// Exact sums of bytes with zero points, and the rounding of their rows.
void integer_products(Hash& hash) {
    Random random;
    for (const Size K : {1, 7, 65})
        for (const Size O : {1, 33}) {
            const Size rows = 17;
            const auto q = random.bytes(O * K), x = random.bytes(rows * K);
            const std::vector<int32_t> zeros(O, 3);
            const IntegerMatrix matrix(q.data(), zeros.data(), O, K);
            const ByteKernels& kernels = matrix.byte_kernels();
            const Size size = matrix.panels().quantized_size;
            std::vector<int32_t> packed(rows * size), sums(rows * O);
            std::vector<Size> places(rows);
            for (Size row = 0; row < rows; row++) places[row] = row * K;
            const std::array<Size, 1> pieces{0};
            const uint8_t zero_point = uint8_t(-5);
            matrix.pack({(const uint8_t*)x.data(), places.data(), rows, pieces, K, false, &zero_point, false},
                        packed.data());
            kernels.integer_product(matrix.panels(), packed.data(), rows,
                                    {.units = O, .stride = O, .integers = sums.data()});
            hash.add(sums);
            const auto numbers = random.numbers<float>(rows * K, 3);
            std::vector<uint8_t> rounded(rows * K);
            kernels.quantize(rows * K, numbers.data(), 0.01f, 120, 0, rounded.data());
            hash.add(rounded);
        }
}

void quantized_lstm(Hash& hash) {
    Random random;
    const Size T = 9, B = 5, I = 7, H = 33;
    const auto W = random.bytes(4 * H * I), R = random.bytes(4 * H * H);
    const std::vector<float> scale(4 * H, 0.004f), bias = random.numbers<float>(4 * H);
    const std::vector<int32_t> zeros(4 * H, -3);
    const QuantizedDirection direction{{Format::dynamic, W.data(), scale.data(), zeros.data()},
                                       {Format::dynamic, R.data(), scale.data(), zeros.data()}, bias.data(), nullptr};
    const auto x = random.numbers<float>(T * B * I);
    std::vector<float> y(T * 2 * B * H), h(2 * B * H), c(2 * B * H);
    QuantizedLSTM({direction, direction}, {}, false, I, H)
        .forward({T, B, x.data(), y.data(), nullptr, nullptr, h.data(), c.data()});
    hash.add(y), hash.add(h), hash.add(c);
}

using Answers = std::map<std::string, uint64_t>;

template <class Real>
void answer(const std::string& precision, Answers& answers) {
    Hash all;
    functions<Real>(all);
    answers[precision + " functions"] = all.value;
    Hash training;
    losses<Real>(training);
    answers[precision + " losses"] = training.value;
    for (const Case& c : cases) {
        if (sizeof(Real) == 8 && c.format != Format::native) continue;
        Hash hash;
        whole_sequences<Real>(c, hash);
        steps<Real>(c, hash);
        if (c.format == Format::native && !c.options) gradients<Real>(c, hash);
        answers[precision + " " + c.name] = hash.value;
    }
}

Answers answers_of(const std::string& isa) {
    select(isa);
    Answers answers;
    answer<float>("float32", answers);
    answer<double>("float64", answers);
    std::vector<Network> others = networks;
    others.push_back({"integer products", integer_products});
    others.push_back({"dynamically quantized lstm", quantized_lstm});
    for (const auto& [name, run] : others) {
        Hash hash;
        run(hash);
        answers[name] = hash.value;
    }
    return answers;
}

}  // namespace

int main() {
    const std::vector<std::string> isas = available_isas();
    const Answers first = answers_of(isas[0]);
    int wrong = 0;
    for (const std::string& isa : isas) {
        for (const int threads : {1, 3}) {
            set_num_threads(threads);
            for (const auto& [name, value] : answers_of(isa)) {
                if (value == first.at(name)) continue;
                std::fprintf(stderr, "%s: %s with %d threads differs from %s\n", name.c_str(), isa.c_str(), threads,
                             isas[0].c_str());
                wrong = 1;
            }
        }
        std::fprintf(stderr, "%s: %zu answers\n", isa.c_str(), first.size());
    }
    for (const auto& [name, value] : first) std::printf("%s %016llx\n", name.c_str(), (unsigned long long)value);
    return wrong;
}
