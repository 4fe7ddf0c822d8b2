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
                Input target{lookup(dtypes, nb::cast<std::string>(dtype.attr("name"))), {}, {}};
                for (const nb::handle size : shape) target.shape.push_back(nb::cast<Size>(size));
                entry.outputs.push_back({shape, dtype, std::move(target)});
            }
            for (const auto& [dtype, shape, value] : inputs)
                entry.inputs.push_back({lookup(dtypes, dtype), shape,
                                        value ? std::optional(std::string(value->c_str(), value->size()))
                                              : std::nullopt});
            if (!fits(entry)) throw nb::value_error("the inputs, outputs or constants do not fit the plan");
        }
    }

    std::optional<nb::tuple> call(const nb::tuple& arguments, const nb::dict& named, const nb::tuple& outputs) const {
        const size_t n = arguments.size();
        if (n + named.size() != names.size()) return {};
        Buffers buffers;
        buffers.held.reserve(names.size());
        for (size_t i = 0; i < names.size(); i++)
            if (!buffers.add(i < n ? arguments[i].ptr() : PyDict_GetItemWithError(named.ptr(), names[i].ptr()))) {
                PyErr_Clear();
                return {};
            }
        for (const Entry& entry : entries) {
            bool fits = true;
            for (size_t i = 0; fits && i < names.size(); i++) fits = entry.inputs[i].accepts(buffers.held[i]);
            if (fits) return run(entry, buffers.held, outputs);
        }
        return {};
    }

private:
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
             "fit hold the results.");
}

}  // namespace python
