// The Python class Plans: runs a call of a graph without further Python code if there is a plan for its inputs.
#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "bind/module.h"
#include "bind/plan.h"

namespace python {

namespace {

// The dtype of a buffer; nullopt if a plan cannot read it.
std::optional<DType> dtype_of(const Py_buffer& buffer) {
    if (std::strlen(buffer.format) != 1) return {};  // not in the byte order of this machine, or a struct
    switch (buffer.format[0]) {
        case 'f': return DType::float32;
        case 'd': return DType::float64;
        case 'i':
        case 'l':
        case 'q': return buffer.itemsize == 4 ? DType::int32 : DType::int64;
        case 'b': return DType::int8;
        case 'B': return DType::uint8;
        case '?': return DType::boolean;
    }
    return {};
}

// The buffers of the arrays of a call.
class Buffers {
public:
    ~Buffers() {
        for (Py_buffer& buffer : held) PyBuffer_Release(&buffer);
    }
    // Returns false for an object that is not an array. A subclass of ndarray may behave differently.
    bool add(PyObject* object, int flags = 0) {
        if (!object || (PyObject*)Py_TYPE(object) != numpy().ndarray.ptr()) return false;
        Py_buffer buffer;
        if (PyObject_GetBuffer(object, &buffer, flags | PyBUF_STRIDES | PyBUF_FORMAT)) {
            PyErr_Clear();
            return false;
        }
        held.push_back(buffer);
        return true;
    }
    std::vector<Py_buffer> held;
};

bool is_contiguous(const Py_buffer& buffer) {
    Size stride = buffer.itemsize;
    for (int axis = buffer.ndim - 1; axis >= 0; stride *= buffer.shape[axis--])
        if (buffer.shape[axis] != 1 && buffer.strides[axis] != stride) return false;
    return true;
}

// What a program requires of an input: its dtype, its sizes and, if the program depends on it, its value. A size below
// 0 is that of axis -1 - size, which is not empty.
struct Input {
    DType dtype;
    std::vector<Size> shape;
    std::optional<std::string> value;

    // Whether an array fits; `axes` takes the sizes of the axes, which are 0 at first.
    bool accepts(const Py_buffer& buffer, std::vector<Size>& axes) const {
        if (dtype_of(buffer) != dtype || size_t(buffer.ndim) != shape.size()) return false;
        for (size_t axis = 0; axis < shape.size(); axis++) {
            const Size size = buffer.shape[axis];
            if (shape[axis] >= 0) {
                if (size != shape[axis]) return false;
                continue;
            }
            Size& known = axes[-1 - shape[axis]];
            if (size == 0 || (known != 0 && known != size)) return false;
            known = size;
        }
        return !value || std::memcmp(buffer.buf, value->data(), value->size()) == 0;
    }
};

struct Output {
    nb::object dtype;
    DType kind;
};

struct Entry {
    nb::object program, constants;
    std::vector<Input> inputs;
    std::vector<Output> outputs;
    size_t axes;
};

using EntryIn = std::tuple<nb::object, nb::object,
                           std::vector<std::tuple<std::string, std::vector<Size>, std::optional<nb::bytes>>>,
                           std::vector<nb::object>>;

// A program for the inputs of a call, and its plan for their sizes.
struct Found {
    const Entry* entry = nullptr;
    std::shared_ptr<Plan> plan;
};

bool has_shape(const Py_buffer& buffer, const onward::Axes& shape) {
    return std::equal(shape.begin(), shape.end(), buffer.shape, buffer.shape + buffer.ndim);
}

class Plans {
public:
    Plans(std::vector<nb::str> names, const std::vector<EntryIn>& programs) : names(std::move(names)) {
        for (const auto& [program, constants, inputs, dtypes] : programs) {
            Entry& entry = entries.emplace_back(Entry{program, constants, {}, {}, 0});
            for (const nb::object& dtype : dtypes) {
                const auto name = nb::cast<std::string>(dtype.attr("name"));
                entry.outputs.push_back({dtype, onward::lookup(onward::dtypes, name)});
            }
            for (const auto& [dtype, shape, value] : inputs) {
                for (const Size size : shape) entry.axes = std::max(entry.axes, size_t(std::max(Size(0), -size)));
                entry.inputs.push_back({onward::lookup(onward::dtypes, dtype), shape,
                                        value ? std::optional(std::string(value->c_str(), value->size()))
                                              : std::nullopt});
            }
            if (entry.inputs.size() != this->names.size()) throw nb::value_error("the inputs do not fit the program");
        }
    }

    std::optional<nb::tuple> call(const nb::tuple& arguments, const nb::dict& named, const nb::tuple& outputs) const {
        Buffers buffers;
        const Found found = find(arguments, named, buffers);
        if (!found.plan) return {};
        return run(found, buffers.held, outputs);
    }

    // Runs the body of a loop up to `count` >= 1 times, from (i, condition, *carried, *others) to (condition, *carried,
    // *scanned). Returns how often it ran, the last condition, the carried arrays, and the scanned ones of all runs.
    std::optional<std::tuple<Size, bool, nb::tuple, nb::tuple>> repeat(Size count, const nb::tuple& arguments,
                                                                       size_t carried) const {
        Buffers buffers;
        const Found found = find(arguments, {}, buffers);
        if (count < 1 || !found.plan || !is_loop(found, buffers.held, carried)) return {};
        const auto& [entry, bound] = found;
        const Plan& plan = *bound;
        std::vector<std::byte*> spaces{nullptr, memory_of<std::byte>(entry->constants)};
        for (size_t i = 0; i < names.size(); i++)
            if (!entry->inputs[i].value) spaces.push_back((std::byte*)buffers.held[i].buf);
        const size_t first_output = spaces.size(), first_carried = entry->inputs[1].value ? 3 : 4;
        int64_t number;
        std::memcpy(&number, buffers.held[0].buf, sizeof number);
        bool condition = true;
        spaces[2] = (std::byte*)&number;
        spaces.push_back((std::byte*)&condition);
        std::vector<nb::object> states[2], scanned;  // a run reads one set of states and writes the other
        std::vector<Size> strides;
        for (size_t i = 1; i < entry->outputs.size(); i++) {
            const Output& output = entry->outputs[i];
            if (i <= carried) {
                for (auto& set : states) set.push_back(numpy().empty(plan.outputs[i], output.dtype));
                spaces.push_back(memory_of<std::byte>(states[0].back()));
            } else {
                scanned.push_back(numpy().empty(nb::make_tuple(count) + plan.outputs[i], output.dtype));
                strides.push_back(nb::cast<Size>(scanned.back().attr("nbytes")) / count);
                spaces.push_back(memory_of<std::byte>(scanned.back()));
            }
        }
        std::vector<std::byte*> memory[2];
        for (int set : {0, 1})
            for (const nb::object& state : states[set]) memory[set].push_back(memory_of<std::byte>(state));
        Size runs = 0;
        {
            const WithoutGil release;
            while (runs < count && condition) {
                std::copy(memory[runs % 2].begin(), memory[runs % 2].end(), spaces.begin() + first_output + 1);
                plan.run(spaces);
                std::copy(memory[runs % 2].begin(), memory[runs % 2].end(), spaces.begin() + first_carried);
                for (size_t i = 0; i < strides.size(); i++) spaces[first_output + 1 + carried + i] += strides[i];
                runs++, number++;
            }
        }
        return std::tuple{runs, condition, tuple_of(states[(runs - 1) % 2]), tuple_of(scanned)};
    }

private:
    // The program and the plan for these inputs, whose buffers it adds, if there are any that need no Python.
    Found find(const nb::tuple& arguments, const nb::dict& named, Buffers& buffers) const {
        const size_t n = arguments.size();
        if (n + named.size() != names.size()) return {};
        buffers.held.reserve(names.size());
        for (size_t i = 0; i < names.size(); i++)
            if (!buffers.add(i < n ? arguments[i].ptr() : PyDict_GetItemWithError(named.ptr(), names[i].ptr()))) {
                PyErr_Clear();
                return {};
            }
        thread_local std::vector<Size> axes;
        for (const Entry& entry : entries) {
            axes.assign(entry.axes, 0);
            bool fits = true;
            for (size_t i = 0; fits && i < names.size(); i++) fits = entry.inputs[i].accepts(buffers.held[i], axes);
            if (!fits) continue;
            std::shared_ptr<Plan> plan = nb::inst_ptr<Program>(entry.program)->bind(axes);
            if (!plan) continue;
            plan->has_fitted = plan->has_fitted || this->fits(entry, *plan, buffers.held);
            return plan->is_allowed && plan->has_fitted ? Found{&entry, std::move(plan)} : Found{};
        }
        return {};
    }

    // Whether the states of a loop's body have the same shapes and dtypes before and after it.
    static bool is_loop(const Found& found, const std::vector<Py_buffer>& inputs, size_t carried) {
        const auto& [in, out] = std::tie(found.entry->inputs, found.entry->outputs);
        const auto& shapes = found.plan->core->outputs;
        if (in.size() < 2 + carried || out.size() < 1 + carried || in[0].value || in[0].dtype != DType::int64 ||
            inputs[0].ndim || out[0].kind != DType::boolean || !shapes[0].empty())
            return false;
        for (size_t i = 0; i < carried; i++)
            if (in[2 + i].value || in[2 + i].dtype != out[1 + i].kind || !has_shape(inputs[2 + i], shapes[1 + i]))
                return false;
        return std::all_of(inputs.begin(), inputs.end(), is_contiguous);
    }

    static nb::tuple tuple_of(const std::vector<nb::object>& items) {
        nb::tuple result = nb::steal<nb::tuple>(PyTuple_New(Py_ssize_t(items.size())));
        for (size_t i = 0; i < items.size(); i++)
            PyTuple_SetItem(result.ptr(), Py_ssize_t(i), nb::object(items[i]).release().ptr());
        return result;
    }

    // Whether the arrays of a call are as large as the spaces of the plan.
    static bool fits(const Entry& entry, const Plan& plan, const std::vector<Py_buffer>& inputs) {
        const std::vector<Size>& sizes = plan.core->plan.sizes();
        size_t space = 2;
        for (size_t i = 0; i < inputs.size(); i++)
            if (!entry.inputs[i].value && (space == sizes.size() || inputs[i].len < sizes[space++])) return false;
        return plan.outputs.size() == entry.outputs.size() && space + entry.outputs.size() == sizes.size();
    }

    // Writes each output into the array in its place of `targets`, or into a new one if that does not fit.
    static nb::tuple run(const Found& found, const std::vector<Py_buffer>& inputs, const nb::tuple& targets) {
        Buffers written;
        const Entry& entry = *found.entry;
        const Plan& plan = *found.plan;
        std::vector<nb::object> copies;
        std::vector<std::byte*> spaces;
        spaces.reserve(plan.core->plan.sizes().size());
        spaces.push_back(nullptr);
        spaces.push_back(memory_of<std::byte>(entry.constants));
        for (size_t i = 0; i < inputs.size(); i++) {
            if (entry.inputs[i].value) continue;
            if (is_contiguous(inputs[i])) {
                spaces.push_back((std::byte*)inputs[i].buf);
            } else {
                copies.push_back(numpy().ascontiguousarray(nb::handle(inputs[i].obj)));
                spaces.push_back(memory_of<std::byte>(copies.back()));
            }
        }
        nb::tuple results = nb::steal<nb::tuple>(PyTuple_New(Py_ssize_t(entry.outputs.size())));
        for (size_t i = 0; i < entry.outputs.size(); i++) {
            const Output& output = entry.outputs[i];
            nb::object result = i < targets.size() ? nb::object(targets[i]) : nb::none();
            const bool fits = written.add(result.ptr(), PyBUF_WRITABLE) && is_contiguous(written.held.back()) &&
                              dtype_of(written.held.back()) == output.kind &&
                              has_shape(written.held.back(), plan.core->outputs[i]);
            if (!fits) result = numpy().empty(plan.outputs[i], output.dtype);
            spaces.push_back(memory_of<std::byte>(result));
            PyTuple_SetItem(results.ptr(), Py_ssize_t(i), result.release().ptr());
        }
        const WithoutGil release;
        plan.run(spaces);
        return results;
    }

    std::vector<nb::str> names;
    std::vector<Entry> entries;
};

}  // namespace

void bind_plans(nb::module_& m) {
    nb::class_<Plans>(m, "Plans",
                      "Programs of one graph: (program, constants, inputs (dtype, shape, value or None), dtypes of the "
                      "outputs). A size -1 - n in a shape is that of axis n of the program.")
        .def(nb::init<std::vector<nb::str>, const std::vector<EntryIn>&>(), "names"_a, "programs"_a)
        .def("__call__", &Plans::call, "arguments"_a, "named"_a, "outputs"_a = nb::make_tuple(),
             "Run the plan for these inputs and return its outputs, or None if there is none. Arrays of `outputs` that "
             "fit hold the results.")
        .def("repeat", &Plans::repeat, "count"_a, "arguments"_a, "carried"_a,
             "Run the body of a loop up to count times, while its condition is true. Return how often it ran, the last "
             "condition, the carried arrays and the scanned ones, or None if there is no plan.");
}

}  // namespace python
