// Rows that go on from call to call whenever they are named.
#include "run/pool.h"

#include <algorithm>
#include <stdexcept>

#include "bind/module.h"
#include "bind/states.h"

namespace python {

namespace {

struct Pool {
    const std::vector<nb::object> layers;
    const EitherPointer<onward::Pool> core;

    template <class Real>
    static EitherPointer<onward::Pool> of(const std::vector<nb::object>& layers, Size capacity, Size max_capacity) {
        return std::make_unique<onward::Pool<Real>>(stages_of<Real>(layers), capacity, max_capacity);
    }

    Pool(const std::vector<nb::object>& layers, Size capacity, Size max_capacity)
        : layers(layers), core(first_is_float32(layers) ? of<float>(layers, capacity, max_capacity)
                                                        : of<double>(layers, capacity, max_capacity)) {}

    // Calls body(pool, ids, their number) without the GIL, with a copy of ids that nobody can change meanwhile;
    // `prepare` is called before, with the GIL.
    template <class Prepare, class Body>
    void with(const In& ids, Prepare prepare, Body body) const {
        const auto* const given = data_of<const int64_t>(ids, "ids", {-1});
        const std::vector<Size> copy(given, given + ids.shape(0));
        std::visit([&](const auto& pool) {
            const auto prepared = prepare(*pool, Size(copy.size()));
            const nb::gil_scoped_release release;
            body(*pool, copy.data(), Size(copy.size()), prepared);
        }, core);
    }

    void open(const Out& ids) {
        auto* const to = data_of<int64_t>(ids, "ids", {-1});
        std::vector<Size> opened(ids.shape(0));
        std::visit([&](const auto& pool) {
            const nb::gil_scoped_release release;
            pool->open(Size(opened.size()), opened.data());
        }, core);
        std::copy(opened.begin(), opened.end(), to);
    }

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
        with(ids, [&]<class Real>(const onward::Pool<Real>& pool, Size n) {
            if (!onward::connected(pool.stages)) throw nb::value_error("layers do not fit together");
            return std::pair(data_of<const Real>(x, "x", {n, onward::inputs(pool.stages.front())}),
                             data_of<Real>(y, "y", {n, onward::outputs(pool.stages.back())}));
        }, [](auto& pool, const Size* ids, Size n, const auto& data) { pool.step(ids, n, data.first, data.second); });
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
        return std::visit([](const auto& pool) { return onward::outputs(pool->stages.back()); }, core);
    }
    Size size() const {
        return std::visit([](const auto& pool) { return pool->size(); }, core);
    }
    Size capacity() const {
        return std::visit([](const auto& pool) { return pool->capacity(); }, core);
    }
    std::vector<Size> ids() const {
        return std::visit([](const auto& pool) { return pool->ids(); }, core);
    }

    static constexpr auto nothing = [](const auto&, Size) { return 0; };
};

}  // namespace

void bind_pool(nb::module_& m) {
    nb::class_<Pool>(m, "Pool", "Streams through Stacks and Denses by their ids, their states inside.")
        .def(nb::init<const std::vector<nb::object>&, Size, Size>(), "layers"_a, "capacity"_a, "max_capacity"_a)
        .def("open", &Pool::open, "ids"_a.noconvert(), "Opens as many streams, and fills ids.")
        .def("close", &Pool::close, "ids"_a.noconvert())
        .def("restore", &Pool::restore, "ids"_a.noconvert(), "states"_a.noconvert(),
             "Opens these, ascending, and no others.")
        .def("step", &Pool::step, "ids"_a.noconvert(), "x"_a.noconvert(), "y"_a.noconvert(),
             "x (n, I) in, fills y (n, O).")
        .def("state", &Pool::state, "ids"_a.noconvert(), "to"_a.noconvert(),
             "Fills h (L, n, P) and c (L, n, H) or None.")
        .def("set_state", &Pool::set_state, "ids"_a.noconvert(), "states"_a.noconvert(), "Copies in; None: zeros.")
        .def_prop_ro("outputs", &Pool::outputs, "Features of y.")
        .def("size", &Pool::size, "Open streams.")
        .def("capacity", &Pool::capacity)
        .def("ids", &Pool::ids, "Of the open streams, ascending.");
}

}  // namespace python
