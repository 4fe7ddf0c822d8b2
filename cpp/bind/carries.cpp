// The Python class Carries: what each stream of a pool of a whole model carries from call to call.
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "bind/arrays.h"
#include "bind/module.h"

namespace python {

namespace {

using Shape = std::vector<Size>;
using Ids = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Size product(Shape::const_iterator first, Shape::const_iterator last) {
    return std::accumulate(first, last, Size(1), std::multiplies());
}

// An array for several rows, which is contiguous while this object lives.
class Contiguous {
public:
    explicit Contiguous(const nb::object& object) : array(numpy().ascontiguousarray(object)) {
        if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_ND)) nb::raise_python_error();
    }
    ~Contiguous() { PyBuffer_Release(&buffer); }
    Contiguous(const Contiguous&) = delete;

    const std::byte* data() const { return (const std::byte*)buffer.buf; }
    Shape shape() const { return {buffer.shape, buffer.shape + buffer.ndim}; }
    Size itemsize() const { return buffer.itemsize; }

private:
    const nb::object array;
    Py_buffer buffer;
};

// The carries of a stream may have other shapes than those of another one, as its phase decides.
class Carries {
public:
    // `initial` are the carries of one stream at the start of a sequence.
    explicit Carries(const std::vector<nb::object>& initial) {
        for (const nb::object& object : initial) {
            const Contiguous array(object);
            kinds.push_back({object.attr("dtype"), array.itemsize(), -1});
            start.push_back(array.shape());
        }
    }

    Carries(const Carries&) = delete;

    // Where arrays have their rows; without these axes, rows are read and written one at a time.
    void set_axes(const std::vector<Size>& axes) {
        if (axes.size() != kinds.size()) throw nb::value_error("each carry needs an axis");
        for (size_t i = 0; i < kinds.size(); i++) kinds[i].axis = axes[i];
    }

    // Makes room for the ids below `capacity`.
    void reserve(Size capacity) {
        if (capacity > Size(rows.size())) rows.resize(capacity);
    }

    // Returns the places of the streams in `ids`, in groups of those whose carries have the same shapes.
    std::vector<nb::object> alike(const Ids& ids) const {
        std::vector<std::pair<const std::vector<Shape>*, std::vector<int64_t>>> groups;
        for (size_t place = 0; place < ids.size(); place++) {
            const std::vector<Shape>* const shapes = row(ids(place)).shapes.get();
            auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& each) {
                return each.first == shapes || *each.first == *shapes;
            });
            if (group == groups.end()) group = groups.insert(group, {shapes, {}});
            group->second.push_back(int64_t(place));
        }
        std::vector<nb::object> found;
        for (const auto& [shapes, places] : groups) {
            found.push_back(numpy().empty(places.size(), "int64"));
            std::copy(places.begin(), places.end(), memory_of<int64_t>(found.back()));
        }
        return found;
    }

    // Returns new arrays with the carries of some streams, which have the same shapes.
    std::vector<nb::object> get(const Ids& ids) const {
        const Size n = Size(ids.size());
        const std::vector<Shape>& shapes = n ? *row(ids(0)).shapes : start;
        for (Size i = 1; i < n; i++)
            if (row(ids(i)).shapes != row(ids(0)).shapes && *row(ids(i)).shapes != shapes)
                throw nb::value_error("the carries of these streams have different shapes");
        std::vector<nb::object> arrays;
        Size offset = 0;
        for (size_t i = 0; i < kinds.size(); i++) {
            const Layout layout = check(i, shapes[i], n);
            Shape shape = shapes[i];
            if (kinds[i].axis >= 0) shape[kinds[i].axis] = n;
            arrays.push_back(numpy().empty(tuple_of(shape), kinds[i].dtype));
            std::byte* const to = memory_of<std::byte>(arrays.back());
            for (Size stream = 0; stream < n; stream++) {
                const std::byte* from = row(ids(stream)).memory.get() + offset;
                for (Size part = 0; part < layout.parts; part++, from += layout.bytes)
                    std::memcpy(to + (part * n + stream) * layout.bytes, from, layout.bytes);
            }
            offset += layout.parts * layout.bytes;
        }
        return arrays;
    }

    // Replaces the carries of groups of streams: (ids, arrays). Changes all of them, or none if it throws.
    void put(const std::vector<std::pair<Ids, std::vector<nb::object>>>& groups) {
        last.clear();
        std::vector<std::pair<int64_t, Row>> changes;
        for (const auto& [ids, objects] : groups) {
            if (objects.size() != kinds.size()) throw nb::value_error("expected an array for each carry");
            const Size n = Size(ids.size());
            std::vector<std::unique_ptr<Contiguous>> arrays;
            std::vector<Layout> layouts;
            auto shapes = std::make_shared<std::vector<Shape>>();
            Size bytes = 0;
            for (size_t i = 0; i < kinds.size(); i++) {
                arrays.push_back(std::make_unique<Contiguous>(objects[i]));
                Shape shape = arrays[i]->shape();
                if (arrays[i]->itemsize() != kinds[i].itemsize ||
                    (kinds[i].axis >= 0 && (kinds[i].axis >= Size(shape.size()) || shape[kinds[i].axis] != n)))
                    throw nb::value_error("a carry has the wrong dtype, or not a row for each id");
                if (kinds[i].axis >= 0) shape[kinds[i].axis] = 1;
                layouts.push_back(check(i, shape, n));
                bytes += layouts[i].parts * layouts[i].bytes;
                shapes->push_back(std::move(shape));
            }
            for (Size stream = 0; stream < n; stream++) {
                const Row& before = row(ids(stream));
                const bool is_alike = before.shapes && *before.shapes == *shapes;
                Row after{is_alike ? before.shapes : shapes, std::make_unique_for_overwrite<std::byte[]>(bytes)};
                std::byte* to = after.memory.get();
                for (size_t i = 0; i < kinds.size(); i++)
                    for (Size part = 0; part < layouts[i].parts; part++, to += layouts[i].bytes)
                        std::memcpy(to, arrays[i]->data() + (part * n + stream) * layouts[i].bytes, layouts[i].bytes);
                changes.emplace_back(ids(stream), std::move(after));
            }
        }
        last = std::move(changes);
        exchange();
    }

    // Undoes the last `put`, if it succeeded.
    void undo() {
        exchange();
        last.clear();
    }

private:
    struct Kind {
        nb::object dtype;
        Size itemsize, axis;  // below 0: there is no axis for rows
    };
    // The values of a row in an array: so many parts of adjacent bytes.
    struct Layout {
        Size parts, bytes;
    };
    struct Row {
        std::shared_ptr<const std::vector<Shape>> shapes;
        std::unique_ptr<std::byte[]> memory;  // the values of all carries, one after the other
    };

    void exchange() {
        for (auto& [id, row] : last) std::swap(rows[id], row);
    }

    const Row& row(int64_t id) const {
        if (id < 0 || id >= int64_t(rows.size())) throw nb::index_error("there is no stream with this id");
        return rows[id];
    }

    // The layout of carry i of one row, whose shape may be part of an array of n rows.
    Layout check(size_t i, const Shape& shape, Size n) const {
        const auto& [dtype, itemsize, axis] = kinds[i];
        if (axis >= Size(shape.size()) || (axis < 0 ? n != 1 : shape[axis] != 1))
            throw nb::value_error("a carry has no axis for so many rows");
        const auto rows_at = shape.begin() + std::max(axis, Size(0));
        return {product(shape.begin(), rows_at), product(rows_at, shape.end()) * itemsize};
    }

    static nb::tuple tuple_of(const Shape& shape) {
        nb::list items;
        for (const Size size : shape) items.append(size);
        return nb::tuple(items);
    }

    std::vector<Kind> kinds;
    std::vector<Shape> start;
    std::vector<Row> rows;
    std::vector<std::pair<int64_t, Row>> last;  // what the last `put` replaced
};

}  // namespace

void bind_carries(nb::module_& m) {
    nb::class_<Carries>(m, "Carries", "What each stream of a pool carries from call to call, by id.")
        .def(nb::init<const std::vector<nb::object>&>(), "initial"_a)
        .def("set_axes", &Carries::set_axes, "axes"_a, "Set the axes along which arrays have their rows.")
        .def("reserve", &Carries::reserve, "capacity"_a, "Make room for the ids below `capacity`.")
        .def("alike", &Carries::alike, "ids"_a,
             "Return the places of the streams in groups of those whose carries have the same shapes.")
        .def("get", &Carries::get, "ids"_a, "Return the carries of streams whose carries have the same shapes.")
        .def("put", &Carries::put, "groups"_a, "Replace the carries of groups of streams, (ids, arrays).")
        .def("undo", &Carries::undo, "Undo the last `put`, unless it raised.");
}

}  // namespace python
