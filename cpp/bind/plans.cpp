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

// What a plan requires of an input: its dtype and shape and, if the plan depends on it, its value.
struct Input {
    DType dtype;
    std::vector<Size> shape;
    std::optional<std::string> value;

    bool accepts(const Py_buffer& buffer) const {
        if (dtype_of(buffer) != dtype || size_t(buffer.ndim) != shape.size()) return false;
        for (size_t axis = 0; axis < shape.size(); axis++)
            if (buffer.shape[axis] != shape[axis]) return false;
        return !value || std::memcmp(buffer.buf, value->data(), value->size()) == 0;
    }
};

// An output of a plan, and the same as a requirement of an array to write it into.
struct Output {
    nb::tuple shape;
    nb::object dtype;
    Input target;
};

struct Entry {
    nb::object plan, constants;
    std::vector<Input> inputs;
    std::vector<Output> outputs;
};

using EntryIn = std::tuple<nb::object, nb::object,
                           std::vector<std::tuple<std::string, std::vector<Size>, std::optional<nb::bytes>>>,
                           std::vector<std::tuple<nb::tuple, nb::object>>>;

class Plans {
public:
    Plans(std::vector<nb::str> names, const std::vector<EntryIn>& plans) : names(std::move(names)) {
        for (const auto& [plan, constants, inputs, outputs] : plans) {
            Entry& entry = entries.emplace_back(Entry{plan, constants, {}, {}});
            for (const auto& [shape, dtype] : outputs) {
                Input target{onward::lookup(onward::dtypes, nb::cast<std::string>(dtype.attr("name"))), {}, {}};
                for (const nb::handle size : shape) target.shape.push_back(nb::cast<Size>(size));
                entry.outputs.push_back({shape, dtype, std::move(target)});
            }
            for (const auto& [dtype, shape, value] : inputs)
                entry.inputs.push_back({onward::lookup(onward::dtypes, dtype), shape,
                                        value ? std::optional(std::string(value->c_str(), value->size()))
                                              : std::nullopt});
            if (!fits(entry)) throw nb::value_error("the inputs, outputs or constants do not fit the plan");
        }
    }

    std::optional<nb::tuple> call(const nb::tuple& arguments, const nb::dict& named, const nb::tuple& outputs) const {
        Buffers buffers;
        const Entry* entry = find(arguments, named, buffers);
        if (!entry) return {};
        return run(*entry, buffers.held, outputs);
    }

    // Runs the body of a loop up to `count` times, from (i, condition, *carried, *others) to (condition, *carried,
    // *scanned). Returns how often it ran, the last condition, the carried arrays, and the scanned ones of all runs.
    std::optional<std::tuple<Size, bool, nb::tuple, nb::tuple>> repeat(Size count, const nb::tuple& arguments,
                                                                       size_t carried) const {
        Buffers buffers;
        const Entry* entry = find(arguments, {}, buffers);
        if (!entry || !is_loop(*entry, buffers.held, carried)) return {};
        Plan& plan = *nb::inst_ptr<Plan>(entry->plan);
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
                for (auto& set : states) set.push_back(numpy().empty(output.shape, output.dtype));
                spaces.push_back(memory_of<std::byte>(states[0].back()));
            } else {
                scanned.push_back(numpy().empty(nb::make_tuple(count) + output.shape, output.dtype));
                strides.push_back(nb::cast<Size>(scanned.back().attr("nbytes")) / count);
                spaces.push_back(memory_of<std::byte>(scanned.back()));
            }
        }
        std::vector<std::byte*> memory[2];
        for (int set : {0, 1})
            for (const nb::object& state : states[set]) memory[set].push_back(memory_of<std::byte>(state));
        Size runs = 0;
        {
            const nb::gil_scoped_release release;
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
    // The plan for these inputs, whose buffers it adds, or null.
    const Entry* find(const nb::tuple& arguments, const nb::dict& named, Buffers& buffers) const {
        const size_t n = arguments.size();
        if (n + named.size() != names.size()) return nullptr;
        buffers.held.reserve(names.size());
        for (size_t i = 0; i < names.size(); i++)
            if (!buffers.add(i < n ? arguments[i].ptr() : PyDict_GetItemWithError(named.ptr(), names[i].ptr()))) {
                PyErr_Clear();
                return nullptr;
            }
        for (const Entry& entry : entries) {
            bool fits = true;
            for (size_t i = 0; fits && i < names.size(); i++) fits = entry.inputs[i].accepts(buffers.held[i]);
            if (fits) return &entry;
        }
        return nullptr;
    }

    // Whether the states of a loop's body have the same shapes and dtypes before and after it.
    static bool is_loop(const Entry& entry, const std::vector<Py_buffer>& inputs, size_t carried) {
        const auto& [in, out] = std::tie(entry.inputs, entry.outputs);
        if (in.size() < 2 + carried || out.size() < 1 + carried || in[0].value || in[0].dtype != DType::int64 ||
            !in[0].shape.empty() || out[0].target.dtype != DType::boolean || !out[0].target.shape.empty())
            return false;
        for (size_t i = 0; i < carried; i++) {
            const Input &before = in[2 + i], &after = out[1 + i].target;
            if (before.value || before.dtype != after.dtype || before.shape != after.shape) return false;
        }
        return std::all_of(inputs.begin(), inputs.end(), is_contiguous);
    }

    static nb::tuple tuple_of(const std::vector<nb::object>& items) {
        nb::tuple result = nb::steal<nb::tuple>(PyTuple_New(Py_ssize_t(items.size())));
        for (size_t i = 0; i < items.size(); i++)
            PyTuple_SetItem(result.ptr(), Py_ssize_t(i), nb::object(items[i]).release().ptr());
        return result;
    }

    // Whether the arrays of a call are as large as the spaces of the plan.
    bool fits(const Entry& entry) const {
        const std::vector<Size>& needed = nb::cast<Plan&>(entry.plan).core.sizes();
        auto bytes = [](const auto& shape, Size itemsize) {
            for (const auto size : shape) itemsize *= nb::cast<Size>(nb::cast(size));
            return itemsize;
        };
        std::vector<Size> sizes{needed.at(0), nb::cast<Size>(entry.constants.attr("nbytes"))};
        for (const Input& input : entry.inputs) {
            if (!input.value) sizes.push_back(bytes(input.shape, size_of(input.dtype)));
            else if (Size(input.value->size()) != bytes(input.shape, size_of(input.dtype))) return false;
        }
        for (const Output& output : entry.outputs)
            sizes.push_back(bytes(output.target.shape, size_of(output.target.dtype)));
        return entry.inputs.size() == names.size() && sizes.size() == needed.size() &&
               std::equal(sizes.begin(), sizes.end(), needed.begin(), std::greater_equal());
    }

    // Writes each output into the array in its place of `targets`, or into a new one if that does not fit.
    static nb::tuple run(const Entry& entry, const std::vector<Py_buffer>& inputs, const nb::tuple& targets) {
        Buffers written;
        Plan& plan = *nb::inst_ptr<Plan>(entry.plan);
        std::vector<nb::object> copies;
        std::vector<std::byte*> spaces;
        spaces.reserve(plan.core.sizes().size());
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
                              output.target.accepts(written.held.back());
            if (!fits) result = numpy().empty(output.shape, output.dtype);
            spaces.push_back(memory_of<std::byte>(result));
            PyTuple_SetItem(results.ptr(), Py_ssize_t(i), result.release().ptr());
        }
        const nb::gil_scoped_release release;
        plan.run(spaces);
        return results;
    }

    std::vector<nb::str> names;
    std::vector<Entry> entries;
};

}  // namespace

void bind_plans(nb::module_& m) {
    nb::class_<Plans>(m, "Plans",
                      "Plans of one graph: (plan, constants, inputs (dtype, shape, value or None), outputs (shape, "
                      "dtype)).")
        .def(nb::init<std::vector<nb::str>, const std::vector<EntryIn>&>(), "names"_a, "plans"_a)
        .def("__call__", &Plans::call, "arguments"_a, "named"_a, "outputs"_a = nb::make_tuple(),
             "Run the plan for these inputs and return its outputs, or None if there is none. Arrays of `outputs` that "
             "fit hold the results.")
        .def("repeat", &Plans::repeat, "count"_a, "arguments"_a, "carried"_a,
             "Run the body of a loop up to count times, while its condition is true. Return how often it ran, the last "
             "condition, the carried arrays and the scanned ones, or None if there is no plan.");
}

}  // namespace python
