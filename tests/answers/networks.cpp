// Plans with the steps and layouts that graph/plan makes of typical models.
#include <deque>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <type_traits>

#include "answers.h"
#include "platform/dispatch.h"
#include "run/plan.h"

using namespace onward;

namespace {

using Shape = Axes;

constexpr Size lanes = 16;  // floats in the longest vector of any instruction set
constexpr DType dtypes[] = {DType::float32, DType::float64, DType::int32, DType::int64,
                            DType::int8,    DType::uint8,   DType::boolean};

View permuted(const View& view, const Shape& axes) {
    View result = view;
    for (size_t i = 0; i < axes.size(); i++)
        result.shape[i] = view.shape[axes[i]], result.strides[i] = view.strides[axes[i]];
    return result;
}

View sliced(View view, size_t axis, Size first, Size last, Size step = 1) {
    view.offset += first * view.strides[axis], view.strides[axis] *= step;
    view.shape[axis] = ceil_div(last - first, step);
    return view;
}

View with_axes(View view, const Shape& shape, const Shape& strides) {
    view.shape = shape, view.strides = strides;
    return view;
}

// The contiguous view of another shape that starts at the same element.
View reshaped(const View& view, const Shape& shape) {
    Shape strides = shape;
    Size stride = 1;
    for (size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) strides[axis] = stride;
    return with_axes(view, shape, strides);
}

// The windows (N, *out, *kernel, C) of x (N, H, W, C).
View windows(const View& x, Size kernel, Size step) {
    const Size n = x.strides[0], h = x.strides[1], w = x.strides[2];
    auto out = [&](Size size) { return (size - kernel) / step + 1; };
    return with_axes(x, {x.shape[0], out(x.shape[1]), out(x.shape[2]), kernel, kernel, x.shape[3]},
                     {n, h * step, w * step, h, w, x.strides[3]});
}

// A plan, the memory of its arrays, and its weights.
class Graph {
public:
    Graph() { plan.restart() = {bytes}; }

    View array(const Shape& shape, DType dtype = DType::float32) {
        const View view = reshaped({0, end / size_of(dtype), {}, {}, dtype}, shape);
        end += ceil_div(elements(shape) * size_of(dtype), 64) * 64;
        return view;
    }

    View random(const Shape& shape, double scale = 1, DType dtype = DType::float32) {
        const View view = array(shape, dtype);
        with_type(dtype, [&]<class T>(T) {
            // A negative float becomes an unsigned integer through a signed one: C++ defines no other way.
            using Wide = std::conditional_t<std::is_integral_v<T>, Size, T>;
            const Offsets offsets(plan.memory(), view, 0, shape.size());
            for (Size i = 0; i < elements(shape); i++)
                at<T>(view, spaces)[offsets[i]] =
                    dtype == DType::boolean ? T(numbers.bits() & 1) : T(Wide(numbers.number() * scale));
        });
        return view;
    }

    View number(double value, DType dtype = DType::float32) {
        const View view = array({}, dtype);
        with_type(dtype, [&]<class T>(T) { *at<T>(view, spaces) = T(value); });
        return view;
    }

    const Dense<float>& dense(Size O, Size K) {
        const auto &W = floats(O * K, 0.3), &b = floats(O);
        return products.emplace_back(Matrix<float>{Format::native, W.data()}, b.data(), O, K);
    }

    // y (*rows, O) of x (*rows, *K), whose first `row_axes` axes are the rows; a row of y covers whole vectors.
    View product(const View& x, Size row_axes, Size O, const std::optional<Activation<float>>& f = {}) {
        Shape shape;
        for (Size axis = 0; axis < row_axes; axis++) shape.push_back(x.shape[axis]);
        const Size rows = elements(shape), K = elements(x.shape) / rows;
        const View memory = array({rows, ceil_div(O, lanes) * lanes});
        plan.product(dense(O, K), x, row_axes, f, sliced(memory, 1, 0, O));
        shape.push_back(memory.shape[1]);
        return sliced(reshaped(memory, shape), row_axes, 0, O);
    }

    View standardized(const View& x) {
        const View y = array(x.shape), scale = random({x.shape.back()}), shift = random({x.shape.back()});
        plan.standardize(1e-5f, x, y);
        fused({{Binary::multiply, 0, 1}, {Binary::add, 3, 2}}, {y, scale, shift}, y);
        return y;
    }

    void fused(std::vector<ElementwiseOperation> operations, std::vector<View> views, const View& y) {
        const FusedOperations& kept = fusions.emplace_back(std::move(operations), Size(views.size()));
        views.push_back(y);
        plan.fused(kept, views);
    }

    // y (A, B, C) holds the rows of x (n, C) at indices (A, B).
    void take(const View& x, const View& indices, const View& y) {
        const Size A = y.shape[0], B = y.shape[1], C = y.shape[2];
        plan.take(with_axes(x, {x.shape[0], A, B, C}, {C, 0, 0, 1}), with_axes(indices, {A, B, C, 1}, {B, 1, 0, 1}), y,
                  "Gather");
    }

    View contiguous(const View& x) {
        const View y = array(x.shape, x.dtype);
        plan.copy(x, y);
        return y;
    }

    const std::vector<float>& floats(Size n, double scale = 1) {
        return weights.emplace_back(numbers.numbers<float>(n, scale));
    }

    // Adds the elements of a view to a hash.
    void add(const View& view, Hash& hash) {
        with_type(view.dtype, [&]<class T>(T) {
            std::vector<T> found;
            const Offsets offsets(plan.memory(), view, 0, view.shape.size());
            for (Size i = 0; i < elements(view.shape); i++) {
                found.push_back(at<T>(view, spaces)[offsets[i]]);
                if (found.back() != found.back()) throw std::runtime_error("NaN, which has no fixed bits");
            }
            hash.add(found);
        });
    }

    void run(const std::vector<View>& outputs, Hash& hash) {
        plan.run(spaces, 0, plan.size());
        for (const View& view : outputs) add(view, hash);
    }

private:
    static constexpr Size bytes = 1 << 22;
    Buffer<std::byte> memory = Buffer<std::byte>::zeros(bytes);
    std::byte* const spaces[1] = {memory.data()};
    std::deque<std::vector<float>> weights;
    std::deque<Dense<float>> products;
    std::deque<FusedOperations> fusions;
    Size end = 0;

public:
    Plan plan{kernels<float>()};
    std::deque<std::vector<Size>> tables;  // of steps, which read them when they run
    Random numbers;
};

// Padding, a strided convolution, pooling, a convolution per channel, a transposed convolution, and a mean.
void convolutions(Hash& hash) {
    Graph g;
    const Size N = 2, H = 21, W = 17, C = 5, M = 24;
    const View x = permuted(g.random({N, C, H, W}), {0, 2, 3, 1}), padded = g.array({N, H + 2, W + 2, C});
    g.plan.copy(x, sliced(sliced(padded, 1, 1, H + 1), 2, 1, W + 1));
    const Shape low{0, 1, 1, 0}, high{N, H + 1, W + 1, C};
    g.plan.fill_border(g.number(0), padded, low, high);
    const View y = g.product(windows(padded, 3, 1), 3, M, Activation<float>{Function::relu});
    const View pooled = g.array({N, 10, 8, M}), channels = g.array({N, 8, 6, M});
    g.plan.window(Window::maximum, windows(y, 2, 2), nullptr, nullptr, pooled);
    const View taps = g.random({9, M}), bias = g.random({M});
    g.plan.window(Window::weighted_sum, windows(pooled, 3, 1), &taps, &bias, channels);
    const View larger = g.array({N, 17, 13, 7}), parts = g.product(channels, 3, 9 * 7);
    g.plan.copy(g.random({7}), larger);
    const Size n = larger.strides[0], h = larger.strides[1], w = larger.strides[2];
    // The windows of this sum overlap: it adds one element of the kernel after the other.
    for (Size tap = 0; tap < 9; tap++) {
        const View part = sliced(parts, 3, tap * 7, (tap + 1) * 7);
        View target = with_axes(larger, part.shape, {n, 2 * h, 2 * w, 1});
        target.offset += tap / 3 * h + tap % 3 * w;
        g.plan.binary(Binary::add, target, part, target);
    }
    const View rows = permuted(reshaped(larger, {N, 17 * 13, 7}), {0, 2, 1}), sums = g.array({N, 7, 1});
    g.plan.reduce(Reduction::sum, rows, sums);
    const View scores = g.contiguous(g.product(reshaped(sums, {N, 7}), 1, 10)), classes = g.array({N, 10});
    g.plan.softmax(false, scores, classes);
    g.run({y, pooled, channels, larger, sums, classes}, hash);
}

// An embedding, normalization, attention with a mask, GELU, and the largest scores.
void attention(Hash& hash) {
    Graph g;
    const Size B = 3, T = 19, heads = 2, K = 20, features = heads * K;
    const View tokens = g.random({B, T}, 31, DType::int64), x = g.array({B, T, features});
    g.take(g.random({31, features}), tokens, x);
    const View qkv = g.product(g.standardized(x), 2, 3 * features);
    auto head = [&](Size part, const Shape& axes) {
        const View own = sliced(qkv, 2, part * features, (part + 1) * features);
        return permuted(with_axes(own, {B, T, heads, K}, {qkv.strides[0], qkv.strides[1], K, 1}), axes);
    };
    const View scores = g.array({B, heads, T, T}), masked = g.array(scores.shape), mixed = g.array({B, T, heads, K});
    g.plan.matmul(head(0, {0, 2, 1, 3}), head(1, {0, 2, 3, 1}), scores);
    g.plan.where(g.random({T, T}, 1, DType::boolean), scores, g.number(-1e9), masked);
    g.plan.softmax(false, masked, masked);
    g.plan.matmul(masked, head(2, {0, 2, 1, 3}), permuted(mixed, {0, 2, 1, 3}));
    const View sum = g.array(x.shape), logarithms = g.array({B, T, 31});
    g.plan.binary(Binary::add, x, g.product(mixed, 2, features), sum);
    const View hidden = g.product(g.standardized(sum), 2, 3 * features, Activation<float>{Function::gelu});
    g.plan.softmax(true, g.contiguous(g.product(hidden, 2, 31)), logarithms);
    const View values = g.array({B, T, 4}), places = g.array({B, T, 4}, DType::int64);
    g.plan.top(true, true, logarithms, values, places);
    g.run({masked, sum, logarithms, values, places}, hash);
}

// Quantized convolutions and products with all kinds of results.
void quantized(Hash& hash) {
    Graph g;
    const Size N = 2, H = 15, W = 16, C = 16, O = 99, K = 9 * C;
    const View x = g.random({N, H, W, C}, 3), q = g.array(x.shape, DType::uint8);
    const View scale = g.array({}), zero = g.array({}, DType::uint8);
    g.plan.quantize_dynamically(x, q, scale, zero);
    const std::vector<int8_t> filters = g.numbers.bytes(O * K);
    const std::vector<int32_t> zeros(O, -7);
    const IntegerMatrix matrix(filters.data(), zeros.data(), O, K);
    const View in = windows(q, 3, 1);
    const Size rows = N * (H - 2) * (W - 2);
    const View integers = g.array({rows, O}, DType::int32), floats = g.array({rows, O}), bytes = g.array(
        {rows, O}, DType::int8), again = g.array({rows, O}), scales = g.random({O}, 0.01), bias = g.random({O}),
        first = g.random({O}, 1e5, DType::int32), signed_zero = g.number(-3, DType::int8);
    g.plan.integer_product(matrix, in, 3, zero, {.bias = first}, integers);
    g.plan.integer_product(matrix, in, 3, zero, {.scale = scales, .bias = bias}, floats);
    g.plan.quantize(floats, g.number(0.3), signed_zero, bytes);
    g.plan.dequantize(bytes, g.number(0.3), signed_zero, again);
    g.run({q, scale, zero, integers, floats, bytes, again}, hash);
}

// Recurrent layers between other layers, in blocks that carry their states, as streams and loops run them.
void recurrent(Hash& hash) {
    Graph g;
    const Size T = 7, B = 4, I = 9, H = 33, D = 2;
    const View x = permuted(g.random({B, T, I}), {1, 0, 2}), h = g.random({1, B, H}), c = g.random({1, B, H});
    const View in = g.product(x, 2, 20, Activation<float>{Function::tanh});
    auto direction = [&](Size inputs, Size gates) {
        return Weights<float>{inputs, H, H, {Format::native, g.floats(gates * H * inputs, 0.3).data()},
                              {Format::native, g.floats(gates * H * H, 0.3).data()}, g.floats(gates * H).data(),
                              g.floats(gates * H).data(), {}, nullptr};
    };
    const Stack<float> lstm(Cell::lstm, {direction(20, 4)}, {}, 1);
    const Stack<float> gru(Cell::gru, {direction(H, 3), direction(H, 3)}, {}, D);
    const View y = g.array({T, B, H}), h_n = g.array({1, B, H}), c_n = g.array({1, B, H});
    const View both = g.array({T, B, D * H}), last = g.array({D, B, H}), sums = g.array(both.shape);
    const View counted = g.array({T, B}, DType::int64), lengths = g.array({B}, DType::int64);
    const View sources = g.array({T, B, D}, DType::int64), selected = g.array({T, B, H});
    g.plan.masked_steps(g.random({T, B}, 1, DType::boolean), counted, lengths, sources);
    g.plan.recurrent(lstm, in, &h, &c, y, h_n, &c_n, nullptr, "LSTM");
    g.take(reshaped(y, {T * B, H}), counted, selected);
    g.plan.recurrent(gru, selected, nullptr, nullptr, both, last, nullptr, &lengths, "GRU");
    g.plan.accumulate(Binary::add, both, sums);
    g.plan.copy(h_n, h), g.plan.copy(c_n, c);
    for (int block = 0; block < 3; block++) g.run({sources, both, last, sums, h}, hash);
}

// The neighbors of each row and their weights, as Resize reads them; and maxima.
void resized(Hash& hash) {
    Graph g;
    const Size N = 3, H = 9, W = 11, larger = 25;
    const View x = g.random({N, H, W}), y = g.array({N, larger, W}), maxima = g.array({N, 1, W});
    for (int side = 0; side < 2; side++) {
        const View neighbors = g.array(y.shape), term = side ? g.array(y.shape) : y;
        g.take(reshaped(x, {N * H, W}), g.random({N, larger}, N * H, DType::int64), neighbors);
        g.plan.binary(Binary::multiply, neighbors, g.random({larger, 1}), term);
        if (side) g.plan.binary(Binary::add, y, term, y);
    }
    g.plan.reduce(Reduction::maximum, permuted(y, {0, 2, 1}), permuted(maxima, {0, 2, 1}));
    const View means = g.array({N, larger, W});
    g.plan.window(Window::sum, with_axes(sliced(y, 1, 0, larger - 2), {N, larger - 2, 3, W},
                                         {y.strides[0], y.strides[1], y.strides[1], 1}),
                  nullptr, nullptr, sliced(means, 1, 0, larger - 2));
    g.run({y, maxima, means}, hash);
}

// Spectra of overlapping frames, filters in their layout, and sums that are added at indices.
void signal(Hash& hash) {
    Graph g;
    const Size N = 2, L = 900, n = 30, step = 7, frames = (L - n) / step + 1, bins = n / 2 + 1, M = 3, C = 5, taps = 4;
    // Any numbers serve as a table: 15 points are 3 times 5.
    const View x = g.random({N, L}), table = g.random({2 * 2 * 5 + 2 * 4 * 1 + 2 * 2 * 2 + 2 * 16});
    const View window = g.random({n}), spectra = g.array({N, frames, bins, 2}), powers = g.array({N, frames, bins, 1});
    const std::vector<Size>& factors = g.tables.emplace_back(std::vector<Size>{3, 5});
    g.plan.fourier(n, false, factors, table, &window, with_axes(x, {N, frames, n, 1}, {L, step, 1, 1}), spectra);
    g.plan.reduce(Reduction::sum, spectra, powers);
    const View signals = reshaped(x, {N, C, L / C}), last = permuted(signals, {0, 2, 1});
    const Size out = L / C - taps + 1;
    const View read = with_axes(last, {N, out, taps, C}, {L, 1, 1, L / C}), y = g.array({N, M, out});
    const View channels = g.array({N, C, out}), rows = g.array({N, out, C});
    g.plan.filter(g.dense(M, taps * C), read, 2, std::nullopt, permuted(y, {0, 2, 1}));
    const View kernels = g.random({taps, C});
    g.plan.window(Window::weighted_sum, read, &kernels, nullptr, permuted(channels, {0, 2, 1}));
    g.plan.copy(permuted(channels, {0, 2, 1}), rows);
    const View places = g.random({40, 1}, 9, DType::int64), sums = g.array({9, C});
    g.plan.copy(g.number(0), sums);
    g.plan.put(Binary::add, sliced(reshaped(rows, {N * out, C}), 0, 0, 40),
               with_axes(places, {40, C, 1}, {1, 0, 1}), with_axes(sums, {9, 40, C}, {C, 0, 1}), "ScatterElements");
    g.run({spectra, powers, y, channels, rows, sums}, hash);
}

// Every function over contiguous, strided and broadcast operands, alone and fused.
void elementwise(Hash& hash) {
    Graph g;
    const View a = g.random({3, 500, 10}, 30), b = g.random({500, 1}, 30), even = sliced(a, 2, 0, 10, 2);
    std::vector<View> outputs;
    auto add = [&] { return outputs.emplace_back(g.array(even.shape)); };
    const View positive = add();
    g.fused({{Unary::absolute, 0, 0}, {Binary::add, 2, 1}}, {even, g.number(0.1)}, positive);
    for (int f = 0; f <= int(Unary::sqrt); f++)
        g.plan.unary(Unary(f), f == int(Unary::log) || f == int(Unary::sqrt) ? positive : even, add());
    for (int f = 0; f <= int(Function::thresholded_relu); f++)
        g.plan.activate({Function(f), 0.7f, 0.3f}, even, add());
    for (int f = 0; f <= int(Binary::minimum); f++) g.plan.binary(Binary(f), even, b, add());
    g.fused({{Binary::multiply, 0, 1}, {Activation<float>{Function::sigmoid}, 3, 0}, {Unary::sine, 2, 2},
                  {Binary::subtract, 4, 5}, {Binary::maximum, 6, 3}},
                 {even, b, g.number(0.5)}, add());
    g.run(outputs, hash);
}

// Arithmetic, comparisons and conversions of every dtype.
void numbers(Hash& hash) {
    Graph g;
    std::vector<View> outputs;
    for (const DType dtype : dtypes) {
        const View p = g.random({3, 7, 10}, 90, dtype), left = sliced(p, 2, 0, 5), right = sliced(p, 2, 5, 10);
        auto add = [&](DType result) { return outputs.emplace_back(g.array(left.shape, result)); };
        if (dtype != DType::boolean)
            for (const Binary f : {Binary::add, Binary::subtract, Binary::multiply, Binary::maximum, Binary::minimum})
                g.plan.binary(f, left, right, add(dtype));
        for (int f = 0; f <= int(Comparison::less_or_equal); f++)
            g.plan.compare(Comparison(f), left, right, add(DType::boolean));
        for (const DType other : dtypes) g.plan.cast(left, add(other));
        g.plan.where(g.random(left.shape, 1, DType::boolean), left, right, add(dtype));
    }
    g.run(outputs, hash);
}

}  // namespace

const std::vector<Network> networks{
    {"plan of convolutions", convolutions}, {"plan of attention", attention}, {"plan of integer products", quantized},
    {"plan of recurrent layers", recurrent}, {"plan of a resize", resized}, {"plan of a signal", signal},
    {"plan of functions", elementwise},
    {"plan of numbers of every dtype", numbers},
};
