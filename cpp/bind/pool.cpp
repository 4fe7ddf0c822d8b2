// The Python class Pool: streams that run through the programs of a graph, with what each carries, by id.
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "bind/lock.h"
#include "bind/module.h"
#include "bind/ports.h"
#include "platform/threads.h"
#include "run/carries.h"
#include "run/file_calls.h"
#include "run/ids.h"

namespace python {

namespace {

using onward::Carries;
using onward::Growing;
using Numbers = std::vector<int64_t>;

// An array for several rows, which is contiguous while this object lives.
class Contiguous {
public:
    explicit Contiguous(const nb::object& object) : array(numpy().ascontiguousarray(object)) {
        if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_ND)) nb::raise_python_error();
    }
    ~Contiguous() { PyBuffer_Release(&buffer); }
    Contiguous(const Contiguous&) = delete;

    const std::byte* data() const { return (const std::byte*)buffer.buf; }
    onward::Axes shape() const {
        onward::Axes sizes;
        for (int axis = 0; axis < buffer.ndim; axis++) sizes.push_back(buffer.shape[axis]);
        return sizes;
    }
    Size itemsize() const { return buffer.itemsize; }

private:
    const nb::object array;
    Py_buffer buffer;
};

class Pool {
public:
    // `initial` are the carries of one stream at the start of a sequence.
    Pool(const nb::object& lock, const std::vector<nb::object>& initial, Size capacity, Size max_capacity)
        : lock(lock), start(contiguous(initial)), carries(kinds(), capacity), ids(capacity, max_capacity) {
        for (const nb::object& object : initial) {
            const auto operand = Operand::of(object.ptr());
            dtypes.push_back(object.attr("dtype")), core_dtypes.push_back(operand ? operand->dtype : std::nullopt);
        }
    }

    // Where arrays have their rows; without these axes, rows are read and written one at a time.
    void set_axes(const std::vector<Size>& axes) { carries.set_axes(axes); }

    // How `step` runs calls: with these programs, and inputs and outputs whose rows are the first axis if `rows_first`.
    void set_calls(const nb::object& programs, const std::vector<Ports::PortIn>& in,
                   const std::vector<Ports::PortIn>& out, bool rows_first, Size rows_at_once) {
        plans = programs, ports = Ports(in, out, rows_first), most_rows = rows_at_once;
    }

    void make_room(Size n) {
        ids.make_room(n);
        carries.reserve(ids.capacity());
    }
    void open(const Out& array) {
        int64_t* const to = data_of<int64_t>(array, "ids", {-1});
        ids.open({to, array.shape(0)});
        carries.reserve(ids.capacity());
    }
    void close(const In& array) {
        const Numbers numbers = copy_of(array);
        ids.close(numbers);
        for (const int64_t id : numbers) carries.release(id);
    }
    void restore(const In& array) {
        const Numbers numbers = copy_of(array);
        ids.restore(numbers);
        carries.reserve(ids.capacity());
        for (int64_t id = 0; id < ids.capacity(); id++) carries.release(id);
    }
    void check(const In& array) const { ids.check(copy_of(array)); }
    Size open_streams() const { return ids.size(); }
    Size capacity() const { return ids.capacity(); }
    Numbers open_ids() const { return ids.open(); }

    // Runs a block of some streams, and returns the outputs; None if a call needs Python: because it raises an error,
    // because the core has no program for it, or because the streams do not run together.
    nb::object step(const nb::object& array, const nb::args& given) {
        const CallLock::Held held(*nb::inst_ptr<CallLock>(lock));
        const auto operand = Operand::of(array.ptr());
        if (ports.outputs.empty() || given.size() != ports.inputs.size() || !operand || operand->shape.size() != 1 ||
            !operand->is_contiguous || operand->dtype != DType::int64 || !operand->shape[0])
            return nb::none();
        const Size n = operand->shape[0];
        const Numbers own((const int64_t*)operand->data, (const int64_t*)operand->data + n);
        std::vector<Operand> arrays;
        for (size_t i = 0; i < ports.inputs.size(); i++) {
            const auto input = ports.input(given[i], ports.inputs[i], n);
            if (!input) return nb::none();
            arrays.push_back(*input);
        }
        const bool is_step = ports.is_step(given);
        if (!ports.are_as_long(given, arrays) || !are_open(own) || !carries.are_alike(own)) return nb::none();
        carries.begin();
        Parts parts(n, most_rows);
        std::vector<nb::object> results;
        for (Size part = 0; part < parts.count; part++)
            if (!prepare(parts, part, own, arrays, is_step, results)) return nb::none();
        with_argument_errors([&] {
            const WithoutGil release;
            run(parts, own);
        });
        // a handler of a signal that arrived meanwhile reads the states before the call, which has returned nothing yet
        if (PyErr_CheckSignals()) throw nb::python_error();
        carries.exchange();
        if (PyErr_CheckSignals()) {
            undo();
            throw nb::python_error();
        }
        return results.size() == 1 ? std::move(results[0]) : nb::object(tuple_of(results));
    }

    // Returns the places of the streams in `ids`, in groups of those whose carries have the same shapes.
    std::vector<nb::object> alike(const In& array) const {
        const Numbers numbers = known(array);
        std::vector<Numbers> groups;
        for (size_t place = 0; place < numbers.size(); place++) {
            auto group = std::find_if(groups.begin(), groups.end(), [&](const Numbers& places) {
                return carries.are_alike(numbers[size_t(places[0])], numbers[place]);
            });
            if (group == groups.end()) group = groups.insert(group, Numbers());
            group->push_back(int64_t(place));
        }
        std::vector<nb::object> found;
        for (const Numbers& places : groups) {
            found.push_back(empty({{Size(places.size())}}, numpy().int64));
            std::copy(places.begin(), places.end(), memory_of<int64_t>(found.back()));
        }
        return found;
    }

    // Returns new arrays with the carries of some streams, which have the same shapes.
    std::vector<nb::object> get(const In& array) const {
        const Numbers numbers = known(array);
        if (!carries.are_alike(numbers))
            throw nb::value_error("the carries of these streams have different shapes");
        std::vector<nb::object> arrays;
        for (size_t i = 0; i < size(); i++) {
            arrays.push_back(empty(shape_of(i, numbers), dtypes[i]));
            carries.gather(numbers, i, memory_of<std::byte>(arrays.back()));
        }
        return arrays;
    }

    // Replaces the carries of groups of streams: (ids, arrays). Changes all of them, or none if it throws.
    void put(const std::vector<std::pair<In, std::vector<nb::object>>>& groups) {
        carries.begin();
        for (const auto& [array, objects] : groups) {
            const Numbers numbers = known(array);
            if (numbers.empty()) continue;
            const auto arrays = contiguous(objects);
            for (size_t i = 0; i < arrays.size() && i < size(); i++)
                if (arrays[i]->itemsize() != carries.kind(i).itemsize)
                    throw nb::value_error("a carry has the wrong dtype, or not a row for each id");
            Carries::Shapes shapes = shapes_of(arrays);
            carries.add(numbers, shapes);
            for (size_t i = 0; i < size(); i++) carries.fill(numbers, i, arrays[i]->data());
        }
        carries.exchange();
    }

    // Undoes the last change, if it succeeded.
    void undo() {
        carries.exchange();
        carries.begin();
    }

private:
    using Arrays = std::vector<std::unique_ptr<Contiguous>>;

    // The rows of a call, divided into parts that run one after the other, or on several threads.
    struct Parts {
        Parts(Size n, Size most_rows) : n(n), count((n + most_rows - 1) / most_rows), calls(size_t(count)) {}
        Size first(Size part) const { return n * part / count; }
        Size rows(Size part) const { return first(part + 1) - first(part); }

        struct Call {
            Found found;
            std::vector<std::byte*> spaces;  // of all inputs and outputs except the carries
        };
        const Size n, count;
        std::vector<Call> calls;
    };

    size_t size() const { return start.size(); }

    static Arrays contiguous(const std::vector<nb::object>& objects) {
        Arrays arrays;
        for (const nb::object& object : objects) arrays.push_back(std::make_unique<Contiguous>(object));
        return arrays;
    }
    static Carries::Shapes shapes_of(const Arrays& arrays) {
        Carries::Shapes shapes;
        for (const auto& array : arrays) shapes.push_back(array->shape());
        return shapes;
    }
    std::vector<Carries::Kind> kinds() const {
        std::vector<Carries::Kind> found;
        for (const auto& array : start) found.push_back({array->itemsize(), -1, array->shape(), array->data()});
        return found;
    }
    // A copy of ids (n,), int64 or uint64, which no other thread can change during the call.
    Numbers copy_of(const In& array) const {
        if (array.dtype() != nb::dtype<uint64_t>()) {
            const auto* const first = data_of<const int64_t>(array, "ids", {-1});
            return {first, first + array.shape(0)};
        }
        const auto* const first = data_of<const uint64_t>(array, "ids", {-1});
        for (size_t i = 0; i < array.shape(0); i++)
            if (first[i] > uint64_t(std::numeric_limits<int64_t>::max()))
                throw std::invalid_argument("ids[" + std::to_string(i) + "] is " + std::to_string(first[i]) +
                                            ", but the ids of this pool are 0 to " + std::to_string(capacity() - 1));
        return {first, first + array.shape(0)};
    }
    // The same for ids of streams that exist, open or not.
    Numbers known(const In& array) const {
        Numbers numbers = copy_of(array);
        for (const int64_t id : numbers)
            if (id < 0 || id >= capacity()) throw nb::index_error("there is no stream with this id");
        return numbers;
    }

    bool are_open(const Numbers& numbers) const {
        try {
            ids.check(numbers);
            return true;
        } catch (const std::invalid_argument&) {
            return false;
        }
    }

    // The shape of a carry of streams that are alike.
    onward::Axes shape_of(size_t carry, std::span<const int64_t> numbers) const {
        const Size axis = carries.kind(carry).rows, n = Size(numbers.size());
        onward::Axes shape = n ? carries.shapes(numbers[0])[carry] : carries.initial_shapes()[carry];
        if (axis >= Size(shape.size()) || (axis < 0 ? n > 1 : shape[size_t(axis)] != 1))
            throw nb::value_error("a carry has no axis for so many rows");
        if (axis >= 0 && n) shape[size_t(axis)] = n;
        return shape;
    }

    // Finds the plan of a part, and makes room for its carries and, in the first part, for the outputs of all. Returns
    // false if the call needs Python.
    bool prepare(Parts& parts, Size part, const Numbers& own, const std::vector<Operand>& arrays, bool is_step,
                 std::vector<nb::object>& results) {
        const Size first = parts.first(part), count = parts.rows(part);
        const std::span<const int64_t> some(own.data() + first, size_t(count));
        auto& [found, spaces] = parts.calls[size_t(part)];
        std::vector<Operand> operands;
        for (size_t i = 0; i < size(); i++) {
            if (!core_dtypes[i]) return false;
            operands.push_back({{nullptr, core_dtypes[i], shape_of(i, some), 0, true}, nullptr});
            operands[i].bytes = onward::bytes_of(operands[i].shape, *core_dtypes[i]);
        }
        for (size_t i = 0; i < ports.inputs.size(); i++) {
            Operand operand = arrays[i];
            operand.data += first * (operand.bytes / parts.n), operand.bytes = operand.bytes / parts.n * count;
            operand.shape[size_t(ports.inputs[i].rows)] = count;
            operands.push_back(operand);
        }
        found = nb::inst_ptr<Plans>(plans)->find(operands);
        if (!found.plan || !found.needs_no_value() || found.entry->dtypes.size() != size() + ports.outputs.size())
            return false;
        std::vector<nb::object> copies;
        found.fill(spaces, operands, copies);
        Carries::Shapes shapes;
        for (size_t i = 0; i < size(); i++) {
            if (found.entry->signature.outputs[i] != operands[i].dtype) return false;
            shapes.push_back(found.plan->outputs[i]);
        }
        carries.add(some, shapes);
        for (size_t i = 0; i < ports.outputs.size(); i++) {
            const size_t place = size() + i;
            const onward::Axes& shape = found.plan->outputs[place];
            if (!Ports::has_rows(shape, ports.outputs[i].rows, count)) return false;
            const onward::Axes sizes = ports.shape_of_result(shape, ports.outputs[i], parts.n, is_step);
            if (part == 0) results.push_back(empty(sizes, found.entry->dtypes[place]));
            else if (!std::ranges::equal(array_in(results[i].ptr())->sizes(), sizes)) return false;
            const Size bytes = onward::bytes_of(shape, found.entry->signature.outputs[place]) / count;
            spaces[found.first_output() + place] = memory_of<std::byte>(results[i]) + first * bytes;
        }
        return true;
    }

    // Runs all parts. Each thread gathers and scatters the carries of its parts in memory that stays in its cache.
    void run(Parts& parts, const Numbers& own) {
        int threads = 1;
        onward::Interrupt interrupt;
        std::atomic<bool> has_failed{false};
        onward::parallel(
            int(std::clamp(parts.count, Size(1), Size(onward::num_threads()))),
            [&](int n) {
                threads = n;
                if (memory.size() < size_t(n)) memory.resize(size_t(n));
            },
            [&](int thread) {
                for (Size part = thread; part < parts.count && !has_failed && !interrupt.requested(); part += threads) {
                    try {
                        run(parts.calls[size_t(part)], {own.data() + parts.first(part), size_t(parts.rows(part))},
                            memory[size_t(thread)]);
                    } catch (...) {
                        has_failed = true;
                        throw;
                    }
                }
            },
            parts.count * parts.calls[0].found.plan->work);
        interrupt.throw_if_happened();
    }

    void run(Parts::Call& call, std::span<const int64_t> some, std::vector<Growing>& buffers) {
        const size_t first = call.found.first_output(), count = size();
        const std::vector<Size>& bytes = call.found.plan->plan.sizes();
        buffers.resize(2 * count);
        for (size_t i = 0; i < count; i++) {
            call.spaces[2 + i] = buffers[i].at_least(bytes[2 + i]);
            call.spaces[first + i] = buffers[count + i].at_least(bytes[first + i]);
            carries.gather(some, i, call.spaces[2 + i]);
        }
        call.found.run(call.spaces);
        for (size_t i = 0; i < count; i++) carries.fill(some, i, call.spaces[first + i]);
    }

    const nb::object lock;
    const Arrays start;
    Carries carries;
    onward::Ids ids;
    std::vector<nb::object> dtypes;                  // of the carries
    std::vector<std::optional<DType>> core_dtypes;  // nullopt if the core cannot read it
    nb::object plans;
    Ports ports;
    Size most_rows = 1;
    std::vector<std::vector<Growing>> memory;  // of each thread: for the carries before and after a part
};

}  // namespace

void bind_pool(nb::module_& m) {
    nb::class_<Pool>(m, "Pool", "Streams of a graph, and what each carries from call to call, by id.")
        .def(nb::init<const nb::object&, const std::vector<nb::object>&, Size, Size>(), "lock"_a, "initial"_a,
             "capacity"_a, "max_capacity"_a)
        .def("_open", &Pool::open, "ids"_a.noconvert(), "Open as many streams as ids (n,) has elements, and fill ids.")
        .def("_make_room", &Pool::make_room, "n"_a, "Allocate the memory for n more streams.")
        .def("_close", &Pool::close, "ids"_a.noconvert(), "Close streams.")
        .def("_restore", &Pool::restore, "ids"_a.noconvert(),
             "Open streams with these ids (ascending) at the start of a sequence, and close all others.")
        .def("_check", &Pool::check, "ids"_a.noconvert(), "Raise ValueError unless the ids are those of open streams.")
        .def("_size", &Pool::open_streams, "The number of open streams.")
        .def("_capacity", &Pool::capacity, "The number of streams that there is memory for.")
        .def("_ids", &Pool::open_ids, "The ids of the open streams, ascending.")
        .def("_set_axes", &Pool::set_axes, "axes"_a, "Set the axes along which carries have their rows, or -1.")
        .def("_set_calls", &Pool::set_calls, "plans"_a, "inputs"_a, "outputs"_a, "rows_first"_a, "rows_at_once"_a,
             "Set the programs of `_step`, and the (rows, time, number of axes, rate) of the inputs and outputs.")
        .def("_step", &Pool::step, "ids"_a.none(), "inputs"_a,
             nb::sig("def _step(self, ids: object, *inputs: object) -> object"),
             "Run a block of some streams and return the outputs, or None if that needs Python.")
        .def("_alike", &Pool::alike, "ids"_a.noconvert(),
             "Return the places of the streams in groups of those whose carries have the same shapes.")
        .def("_get", &Pool::get, "ids"_a.noconvert(),
             "Return the carries of streams whose carries have the same shapes.")
        .def("_put", &Pool::put, "groups"_a, "Replace the carries of groups of streams, (ids, arrays).")
        .def("_undo", &Pool::undo, "Undo the last change of carries, unless it raised.");
}

}  // namespace python
