// The Python class Pool: rows that keep their state and advance when a call passes their ids.
#include "run/pool.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "bind/module.h"
#include "bind/states.h"

namespace python {

namespace {

struct Pool {
    const std::vector<nb::object> layers;
    const EitherPointer<onward::Pool> core;

    template <class Real>
    static EitherPointer<onward::Pool> make(const std::vector<nb::object>& layers, Size capacity, Size max_capacity) {
        return std::make_unique<onward::Pool<Real>>(stages_of<Real>(layers), capacity, max_capacity);
    }

    Pool(const std::vector<nb::object>& layers, Size capacity, Size max_capacity)
        : layers(layers), core(layers.empty() || first_is_float32(layers) ? make<float>(layers, capacity, max_capacity)
                                                        : make<double>(layers, capacity, max_capacity)) {}

    // A copy of ids (n,), int64 or uint64, which no other thread can change during the call.
    std::vector<Size> copy_of(const In& ids) const {
        if (ids.dtype() != nb::dtype<uint64_t>()) {
            const auto* const first = data_of<const int64_t>(ids, "ids", {-1});
            return {first, first + ids.shape(0)};
        }
        const auto* const first = data_of<const uint64_t>(ids, "ids", {-1});
        for (size_t i = 0; i < ids.shape(0); i++)
            if (first[i] > uint64_t(std::numeric_limits<Size>::max()))
                throw std::invalid_argument("ids[" + std::to_string(i) + "] is " + std::to_string(first[i]) +
                                            ", but the ids of this pool are 0 to " + std::to_string(capacity() - 1));
        return {first, first + ids.shape(0)};
    }

    // Calls body(pool, ids, n, prepared) without the GIL, where prepared = prepare(pool, n), called with the GIL.
    template <class Prepare, class Body>
    void with(const In& ids, Prepare prepare, Body body) const {
        const std::vector<Size> copy = copy_of(ids);
        std::visit([&](const auto& pool) {
            const auto prepared = prepare(*pool, Size(copy.size()));
            const WithoutGil release;
            body(*pool, copy.data(), Size(copy.size()), prepared);
        }, core);
    }

    // Calls body(pool) without the GIL: another thread may hold the lock of the pool for long.
    template <class Body>
    auto without_gil(Body body) const {
        return std::visit([&](const auto& pool) {
            const WithoutGil release;
            return body(*pool);
        }, core);
    }

    void open(const Out& ids) {
        auto* const to = data_of<int64_t>(ids, "ids", {-1});
        without_gil([&](auto& pool) { pool.open(Size(ids.shape(0)), to); });
    }
    void make_room(Size n) { without_gil([&](auto& pool) { pool.make_room(n); }); }

    void close(const In& ids) {
        with(ids, nothing, [](auto& pool, const Size* ids, Size n, int) { pool.close(ids, n); });
    }

    void restore(const In& ids, const States<In>& from) {
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, Size n) {
            return states_of<const Real>(pool.stages, from, n);
        }, [](auto& pool, const Size* ids, Size n, const auto& states) {
            for (Size i = 0; i < n; i++)
                if (ids[i] < 0 || (i && ids[i] <= ids[i - 1])) throw std::invalid_argument("ids must ascend from 0");
            pool.restore(ids, n, states);
        });
    }

    void step(const In& ids, const In& x, const Out& y) {
        const std::vector<Size> copy = copy_of(ids);
        const Size n = Size(copy.size());
        std::visit([&]<class Real>(const std::unique_ptr<onward::Pool<Real>>& pool) {
            if (!onward::connected(pool->stages)) throw nb::value_error("the layers do not fit together");
            const Real* const from = data_of<const Real>(x, "x", {n, onward::inputs(pool->stages.front())});
            Real* const to = data_of<Real>(y, "y", {n, onward::outputs(pool->stages.back())});
            std::optional<nb::gil_scoped_release> release(std::in_place);
            pool->step(copy.data(), n, from, to, [&] {
                release.reset();
                return !PyErr_CheckSignals();
            });
        }, core);
    }

    void state(const In& ids, const States<Out>& to) const {
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, Size n) {
            return states_of<Real>(pool.stages, to, n);
        }, [](auto& pool, const Size* ids, Size n, const auto& states) { pool.state(ids, n, states); });
    }

    void set_state(const In& ids, const States<In>& from) {
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, Size n) {
            return states_of<const Real>(pool.stages, from, n);
        }, [](auto& pool, const Size* ids, Size n, const auto& states) { pool.set_state(ids, n, states); });
    }

    Size outputs() const {
        return std::visit([](const auto& pool) {
            return pool->stages.empty() ? 0 : onward::outputs(pool->stages.back());
        }, core);
    }
    Size size() const { return without_gil([](const auto& pool) { return pool.size(); }); }
    Size capacity() const { return without_gil([](const auto& pool) { return pool.capacity(); }); }
    std::vector<Size> ids() const { return without_gil([](const auto& pool) { return pool.ids(); }); }

    static constexpr auto nothing = [](const auto&, Size) { return 0; };
};

}  // namespace

void bind_pool(nb::module_& m) {
    nb::class_<Pool>(m, "Pool", "Streams through Stacks and Denses, identified by ids; without layers, the ids alone.")
        .def(nb::init<const std::vector<nb::object>&, Size, Size>(), "layers"_a, "capacity"_a, "max_capacity"_a)
        .def("_open", &Pool::open, "ids"_a.noconvert(), "Open as many streams as ids (n,) has elements, and fill ids.")
        .def("_make_room", &Pool::make_room, "n"_a, "Allocate the memory for n more streams.")
        .def("_close", &Pool::close, "ids"_a.noconvert(), "Close streams.")
        .def("_restore", &Pool::restore, "ids"_a.noconvert(), "states"_a.noconvert(),
             "Open the streams with these ids (ascending) and states, and close all others.")
        .def("_step", &Pool::step, "ids"_a.noconvert(), "x"_a.noconvert(), "y"_a.noconvert(),
             "Run one step of each stream, from x (n, I) to y (n, O).")
        .def("_state", &Pool::state, "ids"_a.noconvert(), "to"_a.noconvert(),
             "Fill h (L, n, P) and c (L, n, H) or None, for each Stack.")
        .def("_set_state", &Pool::set_state, "ids"_a.noconvert(), "states"_a.noconvert(),
             "Copy h and c in; None means zeros.")
        .def_prop_ro("outputs", &Pool::outputs, "The features of y.")
        .def("_size", &Pool::size, "The number of open streams.")
        .def("_capacity", &Pool::capacity, "The number of streams that there is memory for.")
        .def("_ids", &Pool::ids, "The ids of the open streams, ascending.");
}

}  // namespace python
