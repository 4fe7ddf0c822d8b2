// The Python class Stream: rows that keep their state from call to call.
#include "run/stream.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <numeric>

#include "bind/module.h"
#include "bind/states.h"

namespace python {

namespace {

struct Stream {
    const std::vector<nb::object> layers;
    const EitherPointer<onward::Stream> core;
    const bool connected;  // otherwise the stream only holds states
    const bool batched, batch_first;
    onward::CallMutex mutex;  // calls from several threads take effect one after the other
    nb::object block;         // the last one that was converted: freeing it before y is returned lets a signal lose y

    template <class Real>
    static EitherPointer<onward::Stream> make(const std::vector<nb::object>& layers, Size B) {
        if (B < 1) throw nb::value_error("batch must be at least 1");
        return std::make_unique<onward::Stream<Real>>(stages_of<Real>(layers), B);
    }

    Stream(const std::vector<nb::object>& layers, std::optional<Size> batch, bool batch_first)
        : layers(layers), core(first_is_float32(layers) ? make<float>(layers, batch.value_or(1))
                                                        : make<double>(layers, batch.value_or(1))),
          connected(std::visit([](const auto& stream) { return onward::connected(stream->stages); }, core)),
          batched(batch), batch_first(batch_first) {}

    // The rows of one step ([B], features) or of a block ([T], [B], features); nullopt if the array is neither.
    template <class Real>
    std::optional<onward::Rows<Real>> rows(const ArrayObject& array, Size B, Size features) const {
        const Size axes = array.axes, block = axes - 1 - batched;
        if (block < 0 || block > 1 || !array.holds<Real>() || array.shape[axes - 1] != features ||
            (features > 1 && !is_empty(array) && array.strides[axes - 1] != Size(sizeof(Real))))
            return {};
        if (batched && array.shape[block && !batch_first] != B) return {};
        return layout((Real*)array.data, axes, [&](Size axis) { return array.strides[axis] / Size(sizeof(Real)); });
    }

    static bool is_empty(const ArrayObject& array) { return std::ranges::count(array.sizes(), 0); }

    // Whether y surely has memory of its own: none of x, and no element twice. If not, Python finds out exactly.
    static bool separate(const ArrayObject& x, const ArrayObject& y, Size itemsize) {
        return extent(x, itemsize).is_apart(extent(y, itemsize)) && has_distinct_elements(y, itemsize);
    }

    // Whether each axis steps over all elements along the axes with smaller strides; for up to 3 axes.
    static bool has_distinct_elements(const ArrayObject& y, Size itemsize) {
        std::array<std::pair<Size, Size>, 3> axes{};
        for (int axis = 0; axis < y.axes; axis++) axes[axis] = {std::abs(y.strides[axis]), y.shape[axis]};
        if (y.axes > 1) std::sort(axes.begin(), axes.begin() + y.axes);
        Size reach = itemsize;
        for (int axis = 0; axis < y.axes; axis++) {
            const auto [stride, size] = axes[axis];
            if (size > 1 && stride < reach) return is_empty(y);
            reach += (size - 1) * stride;
        }
        return true;
    }

    static Extent extent(const ArrayObject& array, Size itemsize) {
        uintptr_t first = uintptr_t(array.data), last = first + itemsize;
        if (is_empty(array)) return {first, first};
        for (int axis = 0; axis < array.axes; axis++) {
            const Size reach = (array.shape[axis] - 1) * array.strides[axis];
            (reach < 0 ? first : last) += reach;
        }
        return {first, last};
    }

    template <class Real, class Stride>
    onward::Rows<Real> layout(Real* data, Size axes, Stride stride) const {
        const bool block = axes > 1 + batched;
        return {data, block ? stride(batched && batch_first) : 0, batched ? stride(block && !batch_first) : 0};
    }

    // Runs arguments that fit as they are. Otherwise the Python subclass converts x, or raises an error about x or out.
    // A subclass of ndarray does not fit as x: a masked array would lose its mask.
    static nb::object call(nb::handle_t<Stream> handle, const nb::object& object, const nb::object& out) {
        Stream& self = *nb::inst_ptr<Stream>(handle);
        const ArrayObject* const x = array_in(object.ptr());
        if (!x) return converted(handle, object, out);
        if (!self.connected) throw nb::value_error("the layers do not fit together");
        return std::visit([&]<class Real>(const std::unique_ptr<onward::Stream<Real>>& stream) {
            const Size B = stream->B, axes = x->axes;
            const auto in = self.rows<const Real>(*x, B, stream->I);
            if (!in) return converted(handle, object, out);
            const Size T = axes > 1 + self.batched ? x->shape[self.batched && self.batch_first] : 1;
            nb::object result = out;
            std::optional<onward::Rows<Real>> y;
            if (!out.is_none()) {
                const auto& target = *(const ArrayObject*)out.ptr();
                bool fits = PyObject_TypeCheck(out.ptr(), numpy().ndarray) && target.is_writeable();
                if (fits) y = self.rows<Real>(target, B, stream->O);
                fits = y && target.axes == axes && separate(*x, target, sizeof(Real));
                for (Size axis = 0; fits && axis < axes - 1; axis++) fits = target.shape[axis] == x->shape[axis];
                if (!fits) return converted(handle, object, out);
            } else {
                std::array<Size, 3> shape{};
                for (Size axis = 0; axis < axes - 1; axis++) shape[axis] = x->shape[axis];
                shape[axes - 1] = stream->O;
                result = empty<Real>({shape.data(), size_t(axes)});
                y = self.layout(memory_of<Real>(result), axes, [&](Size axis) {
                    return std::accumulate(shape.begin() + axis + 1, shape.begin() + axes, Size(1), std::multiplies());
                });
            }
            self.advance(*stream, *in, *y, T);
            return result;
        }, self.core);
    }

    // A single step of one row keeps the GIL, because releasing it costs a third of the step. A thread never waits for
    // the mutex with the GIL: the thread that holds the mutex may run for long, or wait for the GIL itself.
    template <class Real>
    void advance(onward::Stream<Real>& stream, const onward::Rows<const Real>& x, const onward::Rows<Real>& y, Size T) {
        std::optional<WithoutGil> release;
        std::unique_lock lock(mutex, std::try_to_lock);
        if (T * stream.B > 1 || !lock.owns_lock()) release.emplace();
        if (!lock.owns_lock()) lock = onward::interruptible_lock(mutex);
        stream.advance(x, y, T);
        release.reset();
        if (!PyErr_CheckSignals()) return;
        stream.undo();  // the error of a signal handler replaces the output: the call has no effect
        throw nb::python_error();
    }

    static nb::object converted(nb::handle self, const nb::object& x, const nb::object& out) {
        return waiting_at_exit([&] {
            nb::object& block = nb::inst_ptr<Stream>(self)->block;
            block = self.attr("_converted")(x, out);
            return self(block, out);
        });
    }

    Size outputs() const {
        return std::visit([](const auto& stream) { return stream->O; }, core);
    }

    void state(const States<Out>& to) {
        std::visit([&]<class Real>(const std::unique_ptr<onward::Stream<Real>>& stream) {
            const auto states = states_of<Real>(stream->stages, to, stream->B);
            if (mutex.is_mine()) return stream->state_before(states);  // for a signal handler during a call
            const WithoutGil release;
            const auto lock = onward::interruptible_lock(mutex);
            stream->state(states);
        }, core);
    }

    void set_state(const States<In>& from) {
        std::visit([&]<class Real>(const std::unique_ptr<onward::Stream<Real>>& stream) {
            const auto states = states_of<const Real>(stream->stages, from, stream->B);
            const WithoutGil release;
            const auto lock = onward::interruptible_lock(mutex);
            stream->set_state(states);
        }, core);
    }
};

}  // namespace

void bind_stream(nb::module_& m) {
    nb::class_<Stream>(m, "Stream", "Rows that keep their state from call to call, run through Stacks and Denses.")
        .def(nb::init<const std::vector<nb::object>&, std::optional<Size>, bool>(), "layers"_a, "batch"_a.none(),
             "batch_first"_a)
        .def("__call__", &Stream::call, "x"_a.none(), "out"_a.none() = nb::none(),
             "Run one step x ([B], I), or a block ([T], [B], I). Return y, a new array or `out`.")
        .def_prop_ro("outputs", &Stream::outputs, "The features of y.")
        .def("_state", &Stream::state, "to"_a.noconvert(), "Fill h (L, B, P) and c (L, B, H) or None, for each Stack.")
        .def("_set_state", &Stream::set_state, "states"_a.noconvert(), "Copy h and c in; None means zeros.");
}

}  // namespace python
