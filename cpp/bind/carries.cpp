// The Python class Carries: what each stream of a pool of a whole model carries from call to call.
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "bind/lock.h"
#include "bind/module.h"
#include "bind/plans.h"
#include "run/cut.h"

namespace python {

namespace {

using onward::Cut;
using Shape = std::vector<Size>;
using Ids = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

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

// Where an array of a call has its rows and its steps in the graph, and how many axes; -1: it has none, or any number.
struct Port {
    Size rows, time, axes;
};

using PortIn = std::tuple<Size, Size, Size>;

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

    // How `step` runs calls: with these programs, and inputs and outputs whose rows are the first axis if `rows_first`.
    void set_calls(const nb::object& programs, const std::vector<PortIn>& in, const std::vector<PortIn>& out,
                   bool rows_are_first, Size rows_at_once) {
        plans = programs, rows_first = rows_are_first, most_rows = rows_at_once;
        const auto ports = [](const std::vector<PortIn>& given) {
            std::vector<Port> made;
            for (const auto& [rows, time, axes] : given) made.push_back({rows, time, axes});
            return made;
        };
        inputs = ports(in), outputs = ports(out);
    }

    // Makes room for the ids below `capacity`.
    void reserve(Size capacity) {
        if (capacity > Size(rows.size())) rows.resize(capacity);
    }

    // Runs a block of streams of a pool, and returns the outputs; None if a call needs Python: because it raises an
    // error, because the core has no program for it, or because the streams do not run together.
    nb::object step(const nb::object& pool, const nb::object& lock, const nb::object& ids, const nb::args& given) {
        const CallLock::Held held(*nb::inst_ptr<CallLock>(lock));
        const auto numbers = Operand::of(ids.ptr());
        if (outputs.empty() || given.size() != inputs.size() || !numbers || numbers->shape.size() != 1 ||
            !numbers->is_contiguous || numbers->dtype != DType::int64 || !numbers->shape[0])
            return nb::none();
        const Size n = numbers->shape[0];
        const std::vector<int64_t> own((const int64_t*)numbers->data, (const int64_t*)numbers->data + n);
        std::vector<Operand> arrays;
        bool is_step = false;
        for (size_t i = 0; i < inputs.size(); i++) {
            const auto operand = input(given[i], inputs[i], n, is_step);
            if (!operand) return nb::none();
            arrays.push_back(*operand);
        }
        if (!are_open(pool, ids) || !are_alike(own)) return nb::none();
        Changes changes = begin();
        std::vector<nb::object> results;
        for (Size part = 0, parts = (n + most_rows - 1) / most_rows; part < parts; part++) {
            const Size first = n * part / parts;
            const std::span<const int64_t> some(own.data() + first, size_t(n * (part + 1) / parts - first));
            if (!run(some, first, n, arrays, is_step, results, changes)) return nb::none();
        }
        // a handler of a signal that arrived meanwhile reads the states before the call, which has returned nothing yet
        if (PyErr_CheckSignals()) throw nb::python_error();
        last = std::move(changes);
        exchange();
        if (PyErr_CheckSignals()) {
            undo();
            throw nb::python_error();
        }
        return results.size() == 1 ? std::move(results[0]) : nb::object(tuple_of(results));
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
            found.push_back(empty({{Size(places.size())}}, numpy().int64));
            std::copy(places.begin(), places.end(), memory_of<int64_t>(found.back()));
        }
        return found;
    }

    // Returns new arrays with the carries of some streams, which have the same shapes.
    std::vector<nb::object> get(const Ids& ids) const { return get(std::span(ids.data(), ids.size())); }

    std::vector<nb::object> get(std::span<const int64_t> ids) const {
        const Size n = Size(ids.size());
        const std::vector<Shape>& shapes = n ? *row(ids[0]).shapes : start;
        for (Size i = 1; i < n; i++)
            if (row(ids[i]).shapes != row(ids[0]).shapes && *row(ids[i]).shapes != shapes)
                throw nb::value_error("the carries of these streams have different shapes");
        std::vector<nb::object> arrays;
        Size offset = 0;
        for (size_t i = 0; i < kinds.size(); i++) {
            const Cut cut = check(i, shapes[i], n);
            Shape shape = shapes[i];
            if (kinds[i].axis >= 0) shape[kinds[i].axis] = n;
            arrays.push_back(empty(shape, kinds[i].dtype));
            std::byte* const to = memory_of<std::byte>(arrays.back());
            for (Size stream = 0; stream < n; stream++) {
                const std::byte* const from = row(ids[stream]).memory.get() + offset;
                cut.copy({to, stream, n}, {from, 0, 1}, 1);
            }
            offset += cut.row();
        }
        return arrays;
    }

    // Replaces the carries of groups of streams: (ids, arrays). Changes all of them, or none if it throws.
    void put(const std::vector<std::pair<Ids, std::vector<nb::object>>>& groups) {
        Changes changes = begin();
        for (const auto& [ids, objects] : groups) {
            if (objects.size() != kinds.size()) throw nb::value_error("expected an array for each carry");
            const Size n = Size(ids.size());
            std::vector<std::unique_ptr<Contiguous>> arrays;
            std::vector<const std::byte*> from;
            std::vector<Shape> shapes;
            for (size_t i = 0; i < kinds.size(); i++) {
                arrays.push_back(std::make_unique<Contiguous>(objects[i]));
                if (arrays[i]->itemsize() != kinds[i].itemsize)
                    throw nb::value_error("a carry has the wrong dtype, or not a row for each id");
                from.push_back(arrays[i]->data());
                shapes.push_back(arrays[i]->shape());
            }
            replace({ids.data(), size_t(n)}, from, std::move(shapes), changes);
        }
        last = std::move(changes);
        exchange();
    }

    // Undoes the last change, if it succeeded.
    void undo() {
        exchange();
        last.clear();
    }

private:
    struct Kind {
        nb::object dtype;
        Size itemsize, axis;  // below 0: there is no axis for rows
    };
    struct Row {
        std::shared_ptr<const std::vector<Shape>> shapes;
        std::unique_ptr<std::byte[]> memory;  // the values of all carries, one after the other
    };
    using Changes = std::vector<std::pair<int64_t, Row>>;

    void exchange() {
        for (auto& [id, row] : last) std::swap(rows[id], row);
    }

    const Row& row(int64_t id) const {
        if (id < 0 || id >= int64_t(rows.size())) throw nb::index_error("there is no stream with this id");
        return rows[id];
    }

    // Where the rows of carry i lie, if one row has this shape, which may be part of an array of n rows.
    Cut check(size_t i, const Shape& shape, Size n) const {
        const auto& [dtype, itemsize, axis] = kinds[i];
        if (axis >= Size(shape.size()) || (axis < 0 ? n != 1 : shape[axis] != 1))
            throw nb::value_error("a carry has no axis for so many rows");
        return {shape, axis, itemsize};
    }

    // No changes yet; those before them can no longer be undone, and give up their memory.
    Changes begin() {
        spare = std::move(last);
        last.clear();
        return {};
    }

    // Adds the rows of arrays, a row for each id, to the changes.
    void replace(std::span<const int64_t> ids, const std::vector<const std::byte*>& arrays, std::vector<Shape> shapes,
                 Changes& changes) {
        const Size n = Size(ids.size());
        std::vector<Cut> cuts;
        Size bytes = 0;
        for (size_t i = 0; i < kinds.size(); i++) {
            const Size axis = kinds[i].axis;
            if (axis >= 0 && (axis >= Size(shapes[i].size()) || shapes[i][axis] != n))
                throw nb::value_error("a carry has the wrong dtype, or not a row for each id");
            if (axis >= 0) shapes[i][axis] = 1;
            cuts.push_back(check(i, shapes[i], n));
            bytes += cuts[i].row();
        }
        const Row& sample = row(ids[0]);
        const bool is_alike = sample.shapes && *sample.shapes == shapes;
        const auto shared = is_alike ? sample.shapes : std::make_shared<const std::vector<Shape>>(std::move(shapes));
        for (Size stream = 0; stream < n; stream++) {
            Row after{shared, nullptr};
            while (!spare.empty() && !after.memory) {
                if (spare.back().second.shapes == shared) after.memory = std::move(spare.back().second.memory);
                spare.pop_back();
            }
            if (!after.memory) after.memory = std::make_unique_for_overwrite<std::byte[]>(size_t(bytes));
            std::byte* to = after.memory.get();
            for (size_t i = 0; i < kinds.size(); to += cuts[i++].row())
                cuts[i].copy({to, 0, 1}, {arrays[i], stream, n}, 1);
            changes.emplace_back(ids[stream], std::move(after));
        }
    }

    // An input of a call in the layout of the graph; nothing if its rows are not one after the other. `is_step` becomes
    // true if it lacks the time axis.
    std::optional<Operand> input(nb::handle object, const Port& port, Size n, bool& is_step) const {
        auto operand = Operand::of(object.ptr());
        if (!operand || !operand->is_contiguous) return {};
        onward::Axes& shape = operand->shape;
        if (rows_first) {
            is_step = Size(shape.size()) + 1 == port.axes;
            if (is_step) {
                shape.push_back(1);
                const auto time = shape.begin() + port.time + (port.time < port.rows);
                std::rotate(time, shape.end() - 1, shape.end());
            }
            if (Size(shape.size()) != port.axes) return {};
            std::rotate(shape.begin(), shape.begin() + 1, shape.begin() + port.rows + 1);
        }
        return has_rows(shape, port.rows, n) ? operand : std::nullopt;
    }

    // Whether an array of this shape has n rows along an axis, and each is adjacent.
    static bool has_rows(const onward::Axes& shape, Size axis, Size n) {
        return axis >= 0 && axis < Size(shape.size()) && shape[axis] == n &&
               std::all_of(shape.begin(), shape.begin() + axis, [](Size size) { return size == 1; });
    }

    static bool are_open(const nb::object& pool, const nb::object& ids) {
        try {
            pool.attr("_state")(ids, nb::list());
            return true;
        } catch (const nb::python_error& error) {
            if (!error.matches(PyExc_ValueError)) throw;
            return false;
        }
    }

    bool are_alike(const std::vector<int64_t>& ids) const {
        const auto* const shapes = row(ids[0]).shapes.get();
        return std::all_of(ids.begin(), ids.end(), [&](int64_t id) {
            return row(id).shapes.get() == shapes || *row(id).shapes == *shapes;
        });
    }

    // Runs streams together: rows `first` and those after it of a call with n rows. Writes their rows of the results,
    // which the first part allocates, and adds their carries to the changes. Returns false if that needs Python.
    bool run(std::span<const int64_t> ids, Size first, Size n, const std::vector<Operand>& arrays, bool is_step,
             std::vector<nb::object>& results, Changes& changes) {
        const Size count = Size(ids.size());
        std::vector<Operand> operands;
        const std::vector<nb::object> carried = get(ids);
        for (const nb::object& array : carried) operands.push_back(*Operand::of(array.ptr()));
        for (size_t i = 0; i < inputs.size(); i++) {
            Operand part = arrays[i];
            part.data += first * (part.bytes / n), part.bytes = part.bytes / n * count;
            part.shape[inputs[i].rows] = count;
            operands.push_back(part);
        }
        const Found found = nb::inst_ptr<Plans>(plans)->find(operands);
        if (!found.plan || found.entry->dtypes.size() != kinds.size() + outputs.size()) return false;
        std::vector<nb::object> copies, after;
        std::vector<std::byte*> spaces;
        found.fill(spaces, operands, copies);
        const size_t space = found.first_output();
        std::vector<const std::byte*> memory;
        std::vector<Shape> shapes;
        for (size_t i = 0; i < kinds.size(); i++) {
            const onward::Axes& shape = found.plan->core->outputs[i];
            if (found.entry->signature.outputs[i] != operands[i].dtype) return false;
            after.push_back(empty(shape, kinds[i].dtype));
            spaces[space + i] = memory_of<std::byte>(after[i]);
            memory.push_back(spaces[space + i]);
            shapes.emplace_back(shape.begin(), shape.end());
        }
        for (size_t i = 0; i < outputs.size(); i++) {
            const size_t place = kinds.size() + i;
            const onward::Axes& shape = found.plan->core->outputs[place];
            if (!has_rows(shape, outputs[i].rows, count)) return false;
            const Shape sizes = shape_of_result(shape, outputs[i], n, is_step);
            if (first == 0) results.push_back(empty(sizes, found.entry->dtypes[place]));
            else if (!std::ranges::equal(array_in(results[i].ptr())->sizes(), sizes)) return false;
            const Size row = onward::bytes_of(shape, found.entry->signature.outputs[place]) / count;
            spaces[space + place] = memory_of<std::byte>(results[i]) + first * row;
        }
        with_argument_errors([&] {
            const WithoutGil release;
            found.plan->run(spaces);
        });
        replace(ids, memory, std::move(shapes), changes);
        return true;
    }

    // The shape of an output of n rows, as a call returns it.
    Shape shape_of_result(const onward::Axes& axes, const Port& port, Size n, bool is_step) const {
        Shape shape(axes.begin(), axes.end());
        shape[port.rows] = n;
        if (rows_first) std::rotate(shape.begin(), shape.begin() + port.rows, shape.begin() + port.rows + 1);
        if (is_step && port.time >= 0) shape.erase(shape.begin() + port.time + (port.time < port.rows));
        return shape;
    }

    std::vector<Kind> kinds;
    std::vector<Shape> start;
    std::vector<Row> rows;
    Changes last, spare;  // what the last change replaced, and the one before it
    nb::object plans;
    std::vector<Port> inputs, outputs;
    bool rows_first = false;
    Size most_rows = 1;
};

}  // namespace

void bind_carries(nb::module_& m) {
    nb::class_<Carries>(m, "Carries", "What each stream of a pool carries from call to call, by id.")
        .def(nb::init<const std::vector<nb::object>&>(), "initial"_a)
        .def("set_axes", &Carries::set_axes, "axes"_a, "Set the axes along which arrays have their rows.")
        .def("set_calls", &Carries::set_calls, "plans"_a, "inputs"_a, "outputs"_a, "rows_first"_a, "rows_at_once"_a,
             "Set the programs of `step`, and the axes (rows, time, number of axes) of the inputs and outputs.")
        .def("step", &Carries::step, "pool"_a, "lock"_a, "ids"_a, "inputs"_a,
             nb::sig("def step(self, pool: object, lock: object, ids: object, *inputs: object) -> object"),
             "Run a block of some streams and return the outputs, or None if that needs Python.")
        .def("reserve", &Carries::reserve, "capacity"_a, "Make room for the ids below `capacity`.")
        .def("alike", &Carries::alike, "ids"_a,
             "Return the places of the streams in groups of those whose carries have the same shapes.")
        .def("get", nb::overload_cast<const Ids&>(&Carries::get, nb::const_), "ids"_a,
             "Return the carries of streams whose carries have the same shapes.")
        .def("put", &Carries::put, "groups"_a, "Replace the carries of groups of streams, (ids, arrays).")
        .def("undo", &Carries::undo, "Undo the last `put`, unless it raised.");
}

}  // namespace python
