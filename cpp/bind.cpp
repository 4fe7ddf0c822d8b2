// The Python module onward._core: the only file that knows Python. Checks that arrays are what the core may touch.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

#include "backward.h"
#include "denormals.h"
#include "dense.h"
#include "dispatch.h"
#include "pool.h"
#include "stack.h"
#include "stream.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

template <>
struct nb::detail::dtype_traits<onward::Half> {
    static constexpr nb::dlpack::dtype value{uint8_t(nb::dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = nb::detail::const_name("float16");
};

namespace {

using onward::Cell;
using onward::Format;
using onward::Function;

using In = nb::ndarray<nb::ro, nb::device::cpu>;
using Out = nb::ndarray<nb::device::cpu>;
using OptionalIn = std::optional<In>;
using OptionalOut = std::optional<Out>;
using MatrixIn = std::tuple<In, OptionalIn>;  // numbers, and the scale of each row where they are int8
using WeightsIn = std::tuple<MatrixIn, MatrixIn, OptionalIn, OptionalIn, std::optional<MatrixIn>, OptionalIn>;
using ActivationIn = std::tuple<std::string, double, double>;                         // its name, alpha, beta
using OptionsIn = std::tuple<ActivationIn, ActivationIn, ActivationIn, double, bool>;  // as onward::Options

// The memory of an array, after checking its type and shape (-1: any size), and that its axes from `contiguous_from` on
// are C-contiguous.
template <class Real, class Array>
Real* data_of(const Array& array, const char* name, std::initializer_list<long> shape, long contiguous_from = 0) {
    bool fits = array.dtype() == nb::dtype<std::remove_const_t<Real>>() && array.ndim() == shape.size();
    long stride = 1;
    for (long axis = long(shape.size()) - 1; fits && axis >= 0; axis--) {
        const long size = long(array.shape(axis)), expected = shape.begin()[axis];
        fits = (expected == -1 || size == expected) &&
               (axis < contiguous_from || size <= 1 || !array.size() || array.stride(axis) == stride);
        stride *= size;
    }
    if (!fits) throw nb::value_error((std::string(name) + " has the wrong dtype, shape or strides").c_str());
    return (Real*)array.data();
}

template <class Real, class Array>
Real* data_of(const std::optional<Array>& array, const char* name, std::initializer_list<long> shape) {
    return array ? data_of<Real>(*array, name, shape) : nullptr;
}

template <class Real, class Array>
onward::Rows<Real> rows_of(const Array& array, const char* name, std::initializer_list<long> shape) {
    Real* const data = data_of<Real>(array, name, shape, 2);
    return {data, long(array.stride(0)), long(array.stride(1))};
}

// The value of a name.
template <class Value, size_t count>
Value named(const std::pair<const char*, Value> (&values)[count], const std::string& name) {
    for (const auto& [known, value] : values)
        if (name == known) return value;
    throw nb::value_error(("the core has no '" + name + "'").c_str());
}

constexpr std::pair<const char*, Cell> cells[] = {
    {"rnn", Cell::rnn}, {"rnn_relu", Cell::rnn_relu}, {"lstm", Cell::lstm}, {"gru", Cell::gru},
    {"gru_reset_before", Cell::gru_reset_before},
};

constexpr std::pair<const char*, Function> functions[] = {
    {"affine", Function::affine}, {"elu", Function::elu}, {"exponential", Function::exponential},
    {"gelu", Function::gelu}, {"hard_sigmoid", Function::hard_sigmoid}, {"leaky_relu", Function::leaky_relu},
    {"mish", Function::mish}, {"relu", Function::relu}, {"relu6", Function::relu6},
    {"scaled_tanh", Function::scaled_tanh}, {"sigmoid", Function::sigmoid}, {"silu", Function::silu},
    {"softplus", Function::softplus}, {"softsign", Function::softsign}, {"tanh", Function::tanh},
    {"thresholded_relu", Function::thresholded_relu},
};

template <class Real>
onward::Activation<Real> activation_of(const ActivationIn& activation) {
    const auto& [name, alpha, beta] = activation;
    return {named(functions, name), Real(alpha), Real(beta)};
}

// A matrix (rows, columns) in whatever format it has.
template <class Real>
onward::Matrix<Real> matrix_of(const MatrixIn& matrix, const char* name, long rows, long columns) {
    const auto& [numbers, scale] = matrix;
    if constexpr (std::is_same_v<Real, float>) {
        if (numbers.dtype() == nb::dtype<int8_t>() && scale)
            return {Format::int8, data_of<const int8_t>(numbers, name, {rows, columns}),
                    data_of<const float>(scale, name, {rows})};
        if (numbers.dtype() == nb::dtype<onward::Half>())
            return {Format::float16, data_of<const onward::Half>(numbers, name, {rows, columns})};
    }
    return {Format::native, data_of<const Real>(numbers, name, {rows, columns})};
}

template <class Real>
std::vector<onward::Options<Real>> options_of(const std::vector<OptionsIn>& given) {
    std::vector<onward::Options<Real>> options;
    for (const auto& [gate, candidate, output, clip, coupled] : given)
        options.push_back({activation_of<Real>(gate), activation_of<Real>(candidate), activation_of<Real>(output),
                           Real(clip), coupled});
    return options;
}

// One direction of one layer after the other, all of one cell and size.
template <class Real>
std::vector<onward::Weights<Real>> weights_of(Cell cell, const std::vector<WeightsIn>& arrays, long D) {
    if ((D != 1 && D != 2) || arrays.empty() || arrays.size() % D != 0)
        throw nb::value_error("weights come as one tuple for each layer and each of 1 or 2 directions");
    std::vector<onward::Weights<Real>> weights;
    const In &W0 = std::get<0>(std::get<0>(arrays[0])), &R0 = std::get<0>(std::get<1>(arrays[0]));
    if (W0.ndim() != 2 || R0.ndim() != 2) throw nb::value_error("W and R are matrices");
    const long G = onward::gates(cell), H = long(R0.shape(0)) / G, P = long(R0.shape(1));
    for (const auto& [W, R, b_W, b_R, W_hr, peephole] : arrays) {
        const long I = weights.size() < size_t(D) ? long(W0.shape(1)) : D * P;
        if (P != H && (!W_hr || cell != Cell::lstm))
            throw nb::value_error("only an LSTM with W_hr has recurrent weights that are not (G*H, H)");
        weights.push_back({I, H, P, matrix_of<Real>(W, "W", G * H, I), matrix_of<Real>(R, "R", G * H, P),
                           data_of<const Real>(b_W, "b_W", {G * H}), data_of<const Real>(b_R, "b_R", {G * H}),
                           W_hr ? matrix_of<Real>(*W_hr, "W_hr", P, H) : onward::Matrix<Real>{},
                           data_of<const Real>(peephole, "peephole", {3 * H})});
    }
    return weights;
}

template <class Real>
onward::Stack<Real> make_stack(const std::string& cell_name, const std::vector<WeightsIn>& arrays, long D,
                               const std::vector<OptionsIn>& options_in) {
    const Cell cell = named(cells, cell_name);
    const std::vector<onward::Options<Real>> options = options_of<Real>(options_in);
    if (!options.empty() && options.size() != size_t(D)) throw nb::value_error("options are none, or of each direction");
    const std::vector<onward::Weights<Real>> weights = weights_of<Real>(cell, arrays, D);
    const nb::gil_scoped_release release;
    return onward::Stack<Real>(cell, weights, options, D);
}

template <class Real>
onward::Backward<Real> make_backward(const std::string& cell_name, const std::vector<WeightsIn>& arrays) {
    const Cell cell = named(cells, cell_name);
    const std::vector<onward::Weights<Real>> weights = weights_of<Real>(cell, arrays, long(arrays.size()));
    for (const onward::Weights<Real>& w : weights)
        if (w.R.format != Format::native || (w.W_hr.numbers && w.W_hr.format != Format::native))
            throw nb::value_error("gradients are of whole weights, not of compressed ones");
    const nb::gil_scoped_release release;
    return onward::Backward<Real>(cell, weights);
}

template <class Real>
onward::Dense<Real> make_dense(const In& W, const OptionalIn& b) {
    const Real* const weights = data_of<const Real>(W, "W", {-1, -1});
    const long O = long(W.shape(0)), I = long(W.shape(1));
    return {{Format::native, weights}, data_of<const Real>(b, "b", {O}), O, I};
}

// An object of the core in the precision of its weights.
template <template <class> class Object>
using EitherPrecision = std::variant<Object<float>, Object<double>>;

bool is_float32(const In& weights) {
    if (weights.dtype() == nb::dtype<float>()) return true;
    if (weights.dtype() == nb::dtype<double>()) return false;
    throw nb::value_error("weights are neither float32 nor float64");
}

bool computes_in_float32(const MatrixIn& weights) { return std::get<0>(weights).dtype() != nb::dtype<double>(); }

struct Stack {
    EitherPrecision<onward::Stack> core;

    Stack(const std::string& cell, const std::vector<WeightsIn>& weights, long num_directions,
          const std::vector<OptionsIn>& options)
        : core(!weights.empty() && computes_in_float32(std::get<0>(weights[0]))
                   ? EitherPrecision<onward::Stack>(make_stack<float>(cell, weights, num_directions, options))
                   : make_stack<double>(cell, weights, num_directions, options)) {}
    Stack(const Stack&) = delete;

    void forward(const In& x, const OptionalIn& h0, const OptionalIn& c0, const OptionalIn& lengths, const Out& y,
                 const Out& h_n, const OptionalOut& c_n) const {
        record(x, h0, c0, lengths, y, h_n, c_n, {}, {}, {});
    }

    long recorded() const {
        return std::visit([](const auto& stack) { return onward::recorded(stack.cell); }, core);
    }

    void record(const In& x, const OptionalIn& h0, const OptionalIn& c0, const OptionalIn& lengths, const Out& y,
                const Out& h_n, const OptionalOut& c_n, const OptionalOut& gates, const OptionalOut& sums,
                const OptionalOut& c) const {
        std::visit([&]<class Real>(const onward::Stack<Real>& stack) {
            const long LD = stack.layers * stack.D;
            const auto x_rows = rows_of<const Real>(x, "x", {-1, -1, stack.I});
            const long T = long(x.shape(0)), B = long(x.shape(1));
            const long S = onward::recorded(stack.cell), G = onward::gates(stack.cell);
            const onward::Sequence<Real> sequence{
                T, B, x_rows, rows_of<Real>(y, "y", {T, B, stack.D * stack.P}),
                data_of<const Real>(h0, "h0", {LD, B, stack.P}), data_of<const Real>(c0, "c0", {LD, B, stack.H}),
                data_of<const int64_t>(lengths, "lengths", {B}), data_of<Real>(h_n, "h_n", {LD, B, stack.P}),
                data_of<Real>(c_n, "c_n", {LD, B, stack.H}), data_of<Real>(gates, "gates", {LD, T, B, S, stack.H}),
                data_of<Real>(sums, "sums", {LD, T, B, G, stack.H}), data_of<Real>(c, "c", {LD, T, B, stack.H})};
            for (long b = 0; lengths && b < B; b++)
                if (sequence.lengths[b] < 0 || sequence.lengths[b] > T) throw nb::value_error("lengths exceed T");
            const nb::gil_scoped_release release;
            stack.forward(sequence);
        }, core);
    }
};

struct Backward {
    EitherPrecision<onward::Backward> core;

    Backward(const std::string& cell, const std::vector<WeightsIn>& weights)
        : core(!weights.empty() && is_float32(std::get<0>(std::get<0>(weights[0])))
                   ? EitherPrecision<onward::Backward>(make_backward<float>(cell, weights))
                   : make_backward<double>(cell, weights)) {}
    Backward(const Backward&) = delete;

    void run(const In& dy, const In& y, const OptionalIn& h0, const OptionalIn& c0, const OptionalIn& dh_n,
             const OptionalIn& dc_n, const OptionalIn& lengths, const In& gates, const OptionalIn& c, const Out& d,
             const OptionalOut& dh, const Out& dh0, const OptionalOut& dc0) const {
        std::visit([&]<class Real>(const onward::Backward<Real>& back) {
            const long D = back.D, H = back.H, P = back.P, S = onward::recorded(back.cell);
            const auto dy_rows = rows_of<const Real>(dy, "dy", {-1, -1, D * P});
            const long T = long(dy.shape(0)), B = long(dy.shape(1));
            if ((back.cell == Cell::lstm) != (c.has_value() && dc0.has_value()))
                throw nb::value_error("c and dc0 are of an LSTM");
            const onward::SequenceBack<Real> sequence{
                T, B, dy_rows, rows_of<const Real>(y, "y", {T, B, D * P}), data_of<const Real>(h0, "h0", {D, B, P}),
                data_of<const Real>(c0, "c0", {D, B, H}), data_of<const Real>(dh_n, "dh_n", {D, B, P}),
                data_of<const Real>(dc_n, "dc_n", {D, B, H}), data_of<const int64_t>(lengths, "lengths", {B}),
                data_of<const Real>(gates, "gates", {D, T, B, S, H}), data_of<const Real>(c, "c", {D, T, B, H}),
                data_of<Real>(d, "d", {D, T, B, S, H}), data_of<Real>(dh, "dh", {D, T, B, P}),
                data_of<Real>(dh0, "dh0", {D, B, P}), data_of<Real>(dc0, "dc0", {D, B, H})};
            for (long b = 0; lengths && b < B; b++)
                if (sequence.lengths[b] < 0 || sequence.lengths[b] > T) throw nb::value_error("lengths exceed T");
            const nb::gil_scoped_release release;
            back.run(sequence);
        }, core);
    }
};

struct Dense {
    EitherPrecision<onward::Dense> core;

    Dense(const In& W, const OptionalIn& b)
        : core(is_float32(W) ? EitherPrecision<onward::Dense>(make_dense<float>(W, b)) : make_dense<double>(W, b)) {}
    Dense(const Dense&) = delete;

    void forward(const In& x, const Out& y) const {
        std::visit([&]<class Real>(const onward::Dense<Real>& dense) {
            const Real* const in = data_of<const Real>(x, "x", {-1, dense.I});
            const long rows = long(x.shape(0));
            Real* const out = data_of<Real>(y, "y", {rows, dense.O});
            const nb::gil_scoped_release release;
            dense.forward(in, rows, out);
        }, core);
    }
};

// A new NumPy array; asking NumPy for it is the fastest way to one.
template <class Real>
nb::object empty(const nb::tuple& shape) {
    static const auto& numpy = *new nb::object(nb::module_::import_("numpy"));  // never destroyed: Python ends before
    static const auto& make = *new nb::object(numpy.attr("empty"));
    static const auto& dtype = *new nb::object(numpy.attr("dtype")(sizeof(Real) == 4 ? "f4" : "f8"));
    return make(shape, dtype);
}

// The memory of a new array; the buffer protocol is the fastest way to it.
template <class Real>
Real* memory_of(const nb::object& array) {
    Py_buffer view;
    if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_WRITABLE)) nb::raise_python_error();
    PyBuffer_Release(&view);
    return (Real*)view.buf;
}

// The layers that streams go through, Stacks and Denses of one precision; whoever holds them holds `layers` too.
template <class Real>
std::vector<onward::Stage<Real>> stages_of(const std::vector<nb::object>& layers) {
    std::vector<onward::Stage<Real>> stages;
    for (const nb::object& layer : layers) {
        if (!nb::isinstance<Stack>(layer)) {
            stages.push_back(&std::get<onward::Dense<Real>>(nb::cast<const Dense&>(layer).core));
            continue;
        }
        const auto& stack = std::get<onward::Stack<Real>>(nb::cast<const Stack&>(layer).core);
        if (stack.D != 1) throw nb::value_error("a reverse direction cannot stream");
        stages.push_back(&stack);
    }
    return stages;
}

bool first_is_float32(const std::vector<nb::object>& layers) {
    if (layers.empty()) throw nb::value_error("there are no layers");
    if (nb::isinstance<Stack>(layers[0])) return nb::cast<const Stack&>(layers[0]).core.index() == 0;
    return nb::cast<const Dense&>(layers[0]).core.index() == 0;
}

// h (layers, rows, P) and c (layers, rows, H) or None, for each Stack.
template <class Array>
using States = std::vector<std::tuple<std::optional<Array>, std::optional<Array>>>;

template <class Number, class Real, class Array>
std::vector<onward::State<Number>> states_of(const std::vector<onward::Stage<Real>>& stages, const States<Array>& arrays,
                                             long rows) {
    std::vector<onward::State<Number>> states;
    size_t next = 0;
    for (const onward::Stage<Real>& stage : stages) {
        if (!std::holds_alternative<const onward::Stack<Real>*>(stage)) continue;
        const onward::Stack<Real>& stack = *std::get<const onward::Stack<Real>*>(stage);
        if (next == arrays.size()) throw nb::value_error("there are states of too few layers");
        const auto& [h, c] = arrays[next++];
        Number* const h_data = data_of<Number>(h, "h", {stack.layers, rows, stack.P});
        Number* const c_data = data_of<Number>(c, "c", {stack.layers, rows, stack.H});
        for (long layer = 0; layer < stack.layers; layer++)
            states.push_back({h_data ? h_data + layer * rows * stack.P : nullptr,
                              c_data ? c_data + layer * rows * stack.H : nullptr});
    }
    return states;
}

template <template <class> class Object>
using EitherPointer = std::variant<std::unique_ptr<Object<float>>, std::unique_ptr<Object<double>>>;

struct Stream {
    const std::vector<nb::object> layers;
    const EitherPointer<onward::Stream> core;
    const bool batched, batch_first;
    std::mutex mutex;  // for calls of several threads, which take effect one after the other

    template <class Real>
    static EitherPointer<onward::Stream> of(const std::vector<nb::object>& layers, long B) {
        const auto stages = stages_of<Real>(layers);
        if (B < 1 || !onward::connected(stages)) throw nb::value_error("layers do not fit together, or B < 1");
        return std::make_unique<onward::Stream<Real>>(stages, B);
    }

    Stream(const std::vector<nb::object>& layers, std::optional<long> batch, bool batch_first)
        : layers(layers), core(first_is_float32(layers) ? of<float>(layers, batch.value_or(1))
                                                        : of<double>(layers, batch.value_or(1))),
          batched(batch), batch_first(batch_first) {}

    // The rows of an array of one step ([B], features) or a block ([T], [B], features); null where it is no such array.
    template <class Real, class Array>
    onward::Rows<Real> rows(const Array& array, long B, long features) const {
        const long axes = long(array.ndim()), block = axes - 1 - batched;
        if (block < 0 || block > 1 || array.dtype() != nb::dtype<std::remove_const_t<Real>>() ||
            long(array.shape(axes - 1)) != features || (features > 1 && array.stride(axes - 1) != 1) ||
            uintptr_t(array.data()) % alignof(Real))
            return {};
        if (batched && long(array.shape(block && !batch_first)) != B) return {};
        return laid_out((Real*)array.data(), axes, [&](long axis) { return long(array.stride(axis)); });
    }

    template <class Real, class Stride>
    onward::Rows<Real> laid_out(Real* data, long axes, Stride stride) const {
        const bool block = axes > 1 + batched;
        return {data, block ? stride(batched && batch_first) : 0, batched ? stride(block && !batch_first) : 0};
    }

    // What fits is run as it is. For whatever else, the Python subclass converts x, or says what is wrong with it or out.
    static nb::object call(nb::handle_t<Stream> handle, const In& x, const OptionalOut& out) {
        Stream& self = *nb::inst_ptr<Stream>(handle);
        return std::visit([&]<class Real>(const std::unique_ptr<onward::Stream<Real>>& stream) {
            const long B = stream->B, axes = long(x.ndim());
            const auto in = self.rows<const Real>(x, B, stream->I);
            if (!in.data) return converted(handle, nb::cast(x), out ? nb::cast(*out) : nb::none());
            const long T = axes > 1 + self.batched ? long(x.shape(self.batched && self.batch_first)) : 1;
            nb::object result;
            onward::Rows<Real> y;
            if (out) {
                y = self.rows<Real>(*out, B, stream->O);
                bool same = y.data && long(out->ndim()) == axes;
                for (long axis = 0; same && axis < axes - 1; axis++) same = out->shape(axis) == x.shape(axis);
                if (!same) return converted(handle, nb::cast(x), nb::cast(*out));
                result = nb::cast(*out);
            } else {
                std::array<long, 3> shape{};
                for (long axis = 0; axis < axes; axis++) shape[axis] = axis < axes - 1 ? long(x.shape(axis)) : stream->O;
                result = empty<Real>(axes == 1   ? nb::make_tuple(shape[0])
                                     : axes == 2 ? nb::make_tuple(shape[0], shape[1])
                                                 : nb::make_tuple(shape[0], shape[1], shape[2]));
                y = self.laid_out(memory_of<Real>(result), axes, [&](long axis) {
                    return std::accumulate(&shape[axis + 1], &shape[axes], 1L, std::multiplies());
                });
            }
            self.advance(*stream, in, y, T);
            return result;
        }, self.core);
    }

    // One step of one row is short, and holds the GIL.
    template <class Real>
    void advance(onward::Stream<Real>& stream, const onward::Rows<const Real>& x, const onward::Rows<Real>& y, long T) {
        std::optional<nb::gil_scoped_release> release;
        if (T * stream.B > 1) release.emplace();
        const std::lock_guard lock(mutex);
        stream.advance(x, y, T);
    }

    static nb::object converted(nb::handle self, const nb::object& x, const nb::object& out) {
        return self(self.attr("_converted")(x, out), out);
    }

    long outputs() const {
        return std::visit([](const auto& stream) { return stream->O; }, core);
    }

    void state(const States<Out>& to) {
        std::visit([&]<class Real>(const std::unique_ptr<onward::Stream<Real>>& stream) {
            const auto states = states_of<Real>(stream->stages, to, stream->B);
            const nb::gil_scoped_release release;
            const std::lock_guard lock(mutex);
            stream->state(states);
        }, core);
    }

    void set_state(const States<In>& from) {
        std::visit([&]<class Real>(const std::unique_ptr<onward::Stream<Real>>& stream) {
            const auto states = states_of<const Real>(stream->stages, from, stream->B);
            const nb::gil_scoped_release release;
            const std::lock_guard lock(mutex);
            stream->set_state(states);
        }, core);
    }
};

struct Pool {
    const std::vector<nb::object> layers;
    const EitherPointer<onward::Pool> core;

    template <class Real>
    static EitherPointer<onward::Pool> of(const std::vector<nb::object>& layers, long capacity, long max_capacity) {
        return std::make_unique<onward::Pool<Real>>(stages_of<Real>(layers), capacity, max_capacity);
    }

    Pool(const std::vector<nb::object>& layers, long capacity, long max_capacity)
        : layers(layers), core(first_is_float32(layers) ? of<float>(layers, capacity, max_capacity)
                                                        : of<double>(layers, capacity, max_capacity)) {}

    // Calls body(pool, ids, their number) without the GIL, with a copy of ids that nobody can change meanwhile; `prepare`
    // is called before, with the GIL.
    template <class Prepare, class Body>
    void with(const In& ids, Prepare prepare, Body body) const {
        const auto* const given = data_of<const int64_t>(ids, "ids", {-1});
        const std::vector<long> copy(given, given + ids.shape(0));
        std::visit([&](const auto& pool) {
            const auto prepared = prepare(*pool, long(copy.size()));
            const nb::gil_scoped_release release;
            body(*pool, copy.data(), long(copy.size()), prepared);
        }, core);
    }

    void open(const Out& ids) {
        std::vector<long> opened(ids.shape(0));
        auto* const to = data_of<int64_t>(ids, "ids", {-1});
        std::visit([&](const auto& pool) {
            const nb::gil_scoped_release release;
            pool->open(long(opened.size()), opened.data());
        }, core);
        std::copy(opened.begin(), opened.end(), to);
    }

    void close(const In& ids) {
        with(ids, nothing, [](auto& pool, const long* ids, long n, int) { pool.close(ids, n); });
    }

    void restore(const In& ids) {
        with(ids, nothing, [](auto& pool, const long* ids, long n, int) {
            for (long i = 0; i < n; i++)
                if (ids[i] < 0 || (i && ids[i] <= ids[i - 1])) throw std::invalid_argument("ids must ascend from 0");
            pool.restore(ids, n);
        });
    }

    void step(const In& ids, const In& x, const Out& y) {
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, long n) {
            if (!onward::connected(pool.stages)) throw nb::value_error("layers do not fit together");
            return std::pair(data_of<const Real>(x, "x", {n, onward::inputs(pool.stages.front())}),
                             data_of<Real>(y, "y", {n, onward::outputs(pool.stages.back())}));
        }, [](auto& pool, const long* ids, long n, const auto& data) { pool.step(ids, n, data.first, data.second); });
    }

    void state(const In& ids, const States<Out>& to) const {
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, long n) { return states_of<Real>(pool.stages, to, n); },
             [](auto& pool, const long* ids, long n, const auto& states) { pool.state(ids, n, states); });
    }

    void set_state(const In& ids, const States<In>& from) {
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, long n) {
            return states_of<const Real>(pool.stages, from, n);
        }, [](auto& pool, const long* ids, long n, const auto& states) { pool.set_state(ids, n, states); });
    }

    long outputs() const {
        return std::visit([](const auto& pool) { return onward::outputs(pool->stages.back()); }, core);
    }
    long size() const {
        return std::visit([](const auto& pool) { return pool->size(); }, core);
    }
    long capacity() const {
        return std::visit([](const auto& pool) { return pool->capacity(); }, core);
    }
    std::vector<long> ids() const {
        return std::visit([](const auto& pool) { return pool->ids(); }, core);
    }

    static constexpr auto nothing = [](const auto&, long) { return 0; };
};

template <class Real>
void activate(const ActivationIn& activation, const In& x, const Out& y) {
    const Real* const in = data_of<const Real>(x, "x", {-1});
    const long n = long(x.shape(0));
    Real* const out = data_of<Real>(y, "out", {n});
    const onward::Activation<Real> function = activation_of<Real>(activation);
    const nb::gil_scoped_release release;
    const onward::FlushDenormals flush;
    onward::kernels<Real>().activate(function, n, in, out);
}

}  // namespace

NB_MODULE(_core, m) {
    m.doc() = "Onward's compiled core.";
    nb::set_leak_warnings(false);  // what lives until Python ends, as a layer kept in a module may, is no leak

    nb::class_<Stack>(m, "Stack", "The packed weights of a recurrent layer: all its layers and directions.")
        .def(nb::init<const std::string&, const std::vector<WeightsIn>&, long, const std::vector<OptionsIn>&>(),
             "cell"_a, "weights"_a, "num_directions"_a, "options"_a)
        .def("forward", &Stack::forward, "x"_a.noconvert(), "h0"_a.noconvert().none(), "c0"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "y"_a.noconvert(), "h_n"_a.noconvert(), "c_n"_a.noconvert().none(),
             "Runs x (T, B, I) from h0, c0 (zeros where None); fills y (T, B, D*P), h_n and c_n.")
        .def_prop_ro("recorded", &Stack::recorded, "Numbers that a unit has in the record of a step.")
        .def("record", &Stack::record, "x"_a.noconvert(), "h0"_a.noconvert().none(), "c0"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "y"_a.noconvert(), "h_n"_a.noconvert(), "c_n"_a.noconvert().none(),
             "gates"_a.noconvert(), "sums"_a.noconvert().none(), "c"_a.noconvert().none(),
             "As forward; fills too, up to each row's length, gates (L*D, T, B, recorded, H), after which comes R_n h + b_n "
             "of a GRU that resets after the product; sums (L*D, T, B, G, H), which the gates are functions of; and c "
             "(L*D, T, B, H).");

    nb::class_<Backward>(m, "Backward", "The transposed weights of one recurrent layer, for its gradients.")
        .def(nb::init<const std::string&, const std::vector<WeightsIn>&>(), "cell"_a, "weights"_a)
        .def("run", &Backward::run, "dy"_a.noconvert(), "y"_a.noconvert(), "h0"_a.noconvert().none(),
             "c0"_a.noconvert().none(), "dh_n"_a.noconvert().none(), "dc_n"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "gates"_a.noconvert(), "c"_a.noconvert().none(), "d"_a.noconvert(),
             "dh"_a.noconvert().none(), "dh0"_a.noconvert(), "dc0"_a.noconvert().none(),
             "From the gradients dy (T, B, D*P), dh_n and dc_n (zeros where None) and the record of a run, fills d "
             "(D, T, B, recorded, H), by what the gates are functions of; dh (D, T, B, P), by h, for a projection; dh0 "
             "and dc0. Of a GRU that resets after the product, d is by r, z, R_n h + b_n and n.");

    nb::class_<Stream>(m, "Stream", "Rows that go on from call to call through Stacks and Denses, their states inside.")
        .def(nb::init<const std::vector<nb::object>&, std::optional<long>, bool>(), "layers"_a, "batch"_a.none(),
             "batch_first"_a)
        .def("__call__", &Stream::call, "x"_a.noconvert(), "out"_a.noconvert() = nb::none(),
             "One step of x ([B], I), or a block ([T], [B], I), to y, a new array or `out`.")
        .def("__call__", &Stream::converted, "x"_a.none(), "out"_a.none() = nb::none())
        .def_prop_ro("outputs", &Stream::outputs, "Features of y.")
        .def("_state", &Stream::state, "to"_a.noconvert(), "Fills h (L, B, P) and c (L, B, H) or None, for each Stack.")
        .def("_set_state", &Stream::set_state, "states"_a.noconvert(), "Copies h and c in; None: zeros.");

    nb::class_<Pool>(m, "Pool", "Streams through Stacks and Denses by their ids, their states inside.")
        .def(nb::init<const std::vector<nb::object>&, long, long>(), "layers"_a, "capacity"_a, "max_capacity"_a)
        .def("open", &Pool::open, "ids"_a.noconvert(), "Opens as many streams, and fills ids.")
        .def("close", &Pool::close, "ids"_a.noconvert())
        .def("restore", &Pool::restore, "ids"_a.noconvert(), "Opens these, ascending, and no others.")
        .def("step", &Pool::step, "ids"_a.noconvert(), "x"_a.noconvert(), "y"_a.noconvert(), "x (n, I) in, fills y (n, O).")
        .def("state", &Pool::state, "ids"_a.noconvert(), "to"_a.noconvert(), "Fills h (L, n, P) and c (L, n, H) or None.")
        .def("set_state", &Pool::set_state, "ids"_a.noconvert(), "states"_a.noconvert(), "Copies in; None: zeros.")
        .def_prop_ro("outputs", &Pool::outputs, "Features of y.")
        .def("size", &Pool::size, "Open streams.")
        .def("capacity", &Pool::capacity)
        .def("ids", &Pool::ids, "Of the open streams, ascending.");

    nb::class_<Dense>(m, "Dense", "A packed matrix: y = W x + b for each row.")
        .def(nb::init<const In&, const OptionalIn&>(), "W"_a, "b"_a.none())
        .def("forward", &Dense::forward, "x"_a.noconvert(), "y"_a.noconvert(), "x (N, I) in, fills y (N, O).");

    m.def("activate", [](const ActivationIn& function, const In& x, const Out& out) {
        is_float32(x) ? activate<float>(function, x, out) : activate<double>(function, x, out);
    }, "function"_a, "x"_a.noconvert(), "out"_a.noconvert(), "A function, as (name, alpha, beta), of each number of x.");

    m.def("isa", [] { return std::string(onward::selected().name); }, "The instruction set in use.");
    m.def("available_isas", &onward::available_isas, "Those that this build has and this machine runs, slowest first.");
    m.def("set_isa", &onward::select, "name"_a, "Use this instruction set for what is packed from now on.");
    m.def("set_num_threads", &onward::set_num_threads, "n"_a, "Threads for one call, at most.");
    m.def("num_threads", &onward::num_threads, "Threads for one call, at most.");
    m.def("arithmetic", [](long n) {
        float result = 0;
        const nb::gil_scoped_release release;
        return n * onward::kernels<float>().arithmetic(n, &result);
    }, "n"_a, "Does nothing but fma in registers; returns the number of float32 operations. For measuring.");
    m.def("nothing", [](const In&, const OptionalOut&) {}, "x"_a.noconvert(), "out"_a.noconvert() = nb::none(),
          "Takes what a Stream takes, and does nothing. For measuring.");
    m.def("read", [](const nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>& x, long times) {
        const nb::gil_scoped_release release;
        float sum = 0;
        while (times-- > 0) sum += onward::kernels<float>().read(long(x.shape(0)), x.data());
        return sum;
    }, "x"_a, "times"_a, "Reads x, aligned to 64 bytes, some times over. For measuring.");
    onward::selected();  // a wrong ONWARD_ISA is an error at import, not at the first call
}
