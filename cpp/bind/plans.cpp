// The Python class Plans: runs a call of a graph without further Python code if there is a plan for its inputs.
#include "bind/plans.h"

#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "bind/module.h"
#include "bind/slots.h"

namespace python {

namespace {

std::vector<Entry> entries_of(const std::vector<EntryIn>& programs, size_t inputs) {
    std::vector<Entry> entries;
    for (const auto& [program, constants, required, dtypes, joined] : programs) {
        onward::Signature signature;
        for (const nb::object& dtype : dtypes)
            signature.outputs.push_back(onward::lookup(onward::dtypes, nb::cast<std::string>(dtype.attr("name"))));
        signature.outputs.insert(signature.outputs.end(), joined.size(), DType::uint8);
        for (const auto& [dtype, shape, value, first_element] : required)
            signature.add({onward::lookup(onward::dtypes, dtype), shape,
                           value ? std::optional(std::string(value->c_str(), value->size())) : std::nullopt,
                           first_element});
        if (signature.inputs.size() != inputs) throw nb::value_error("the inputs do not fit the program");
        signature.constants = nb::cast<Size>(constants.attr("nbytes"));
        entries.push_back({program, constants, memory_of<std::byte>(constants), std::move(signature), dtypes, joined});
    }
    return entries;
}

// Whether the states of a loop's body have the same shapes and dtypes before and after it.
bool is_loop(const Found& found, const std::vector<Operand>& inputs, size_t carried) {
    const auto& in = found.entry->signature.inputs;
    const auto& out = found.entry->signature.outputs;
    const auto& shapes = found.plan->outputs;
    if (in.size() < 2 + carried || out.size() < 1 + carried || in[0].has_value() || in[0].dtype != DType::int64 ||
        !inputs[0].shape.empty() || out[0] != DType::boolean || !shapes[0].empty())
        return false;
    for (size_t i = 0; i < carried; i++)
        if (in[2 + i].has_value() || in[2 + i].dtype != out[1 + i] || !(inputs[2 + i].shape == shapes[1 + i]))
            return false;
    return std::all_of(inputs.begin(), inputs.end(), [](const Operand& input) { return input.is_contiguous; });
}

// The base class of models: a call that has a plan creates no Python frame.
struct DirectCalls {
    const nb::object plans;
    const Size in_order;

    static nb::object call(nb::handle handle, nb::handle arguments, nb::handle named) {
        const auto args = nb::borrow<nb::tuple>(arguments);
        if (nb::inst_ready(handle)) {
            const DirectCalls& self = *nb::inst_ptr<DirectCalls>(handle);
            std::optional<nb::tuple> results;
            if (Size(args.size()) <= self.in_order) results = nb::inst_ptr<Plans>(self.plans)->call(args, named);
            if (results) return results->size() == 1 ? nb::object((*results)[0]) : nb::object(*results);
        }
        const nb::object method = handle.attr("_call");
        return nb::steal(checked(PyObject_Call(method.ptr(), args.ptr(), named.ptr())));
    }

    static PyObject* checked(PyObject* object) {
        if (!object) nb::raise_python_error();
        return object;
    }
};

}  // namespace

std::optional<DType> dtype_of(const ArrayObject& array) {
    if (!array.is_native()) return {};
    switch (array.dtype->number) {
        case 0: return DType::boolean;
        case 1: return DType::int8;
        case 2: return DType::uint8;
        case 5: return DType::int32;
        case 7: return sizeof(long) == 4 ? DType::int32 : DType::int64;
        case 9: return DType::int64;
        case 11: return DType::float32;
        case 12: return DType::float64;
    }
    return {};
}

std::optional<Operand> Operand::of(PyObject* object) {
    const ArrayObject* const array = object ? array_in(object) : nullptr;
    if (!array) return {};
    Operand operand{{array->data, dtype_of(*array), {}, 0, array->is_contiguous()}, object};
    if (size_t(array->axes) > onward::Axes::most) operand.dtype.reset();
    if (!operand.dtype) return operand;
    operand.bytes = onward::size_of(*operand.dtype);
    for (int axis = 0; axis < array->axes; axis++)
        operand.shape.push_back(array->shape[axis]), operand.bytes *= array->shape[axis];
    return operand;
}

void Found::fill(std::vector<std::byte*>& spaces, const std::vector<Operand>& inputs,
                 std::vector<nb::object>& copies) const {
    spaces.resize(plan->plan.sizes().size());
    spaces[1] = entry->constant_memory;
    size_t space = 2;
    for (size_t i = 0; i < inputs.size(); i++) {
        if (entry->signature.inputs[i].value) continue;
        if (!inputs[i].is_contiguous) copies.push_back(numpy().ascontiguousarray(nb::handle(inputs[i].array)));
        spaces[space++] = inputs[i].is_contiguous ? inputs[i].data : memory_of<std::byte>(copies.back());
    }
}

Plans::Plans(std::vector<nb::str> names, const std::vector<EntryIn>& programs) : names(std::move(names)) {
    replace(programs);
}

void Plans::replace(const std::vector<EntryIn>& programs) {
    auto found = std::make_shared<const std::vector<Entry>>(entries_of(programs, names.size()));
    const nb::ft_lock_guard lock(mutex);
    entries.swap(found);
}

std::vector<Operand> Plans::operands(const nb::tuple& arguments, nb::handle named) const {
    std::vector<Operand> inputs;
    const size_t n = arguments.size(), others = named.is_valid() ? size_t(PyDict_Size(named.ptr())) : 0;
    if (n + others != names.size()) return {};
    inputs.reserve(names.size());
    for (size_t i = 0; i < names.size(); i++) {
        const auto input =
            Operand::of(i < n ? arguments[i].ptr() : PyDict_GetItemWithError(named.ptr(), names[i].ptr()));
        if (!input) {
            PyErr_Clear();
            return {};
        }
        inputs.push_back(*input);
    }
    return inputs;
}

Plans::Plans(std::vector<nb::str> names, std::vector<Entry> entries)
    : names(std::move(names)), entries(std::make_shared<const std::vector<Entry>>(std::move(entries))) {}

Found Plans::find(const std::vector<Operand>& inputs) const {
    Found found = match(inputs);
    return found.plan && found.plan->is_allowed ? std::move(found) : Found{};
}

std::optional<std::pair<Size, Size>> Plans::allow(const nb::tuple& arguments, Size memory, Size most_work) const {
    const Found found = match(operands(arguments, nb::handle()));
    if (!found.plan) return {};
    if (found.plan->memory <= memory && found.plan->work <= most_work) found.plan->is_allowed = true;
    return std::pair(found.plan->memory, found.plan->work);
}

Found Plans::match(const std::vector<Operand>& inputs) const {
    if (inputs.size() != names.size()) return {};
    std::shared_ptr<const std::vector<Entry>> programs;
    {
        const nb::ft_lock_guard lock(mutex);
        programs = entries;
    }
    thread_local std::vector<Size> axes;
    size_t number = recent;  // it takes a while to learn that another program does not hold
    const auto bind = [&](size_t tried, const std::vector<Size>& sizes) {
        return (*programs)[tried].core().bind(sizes);
    };
    auto plan = onward::find_plan(*programs, inputs, number, axes, bind);
    if (!plan) return {};
    if (recent != number) recent = number;
    if (plan->work > work) work = plan->work;
    return {programs, &(*programs)[number], std::move(plan)};
}

std::optional<nb::tuple> Plans::call(const nb::tuple& arguments, nb::handle named) const {
    const std::vector<Operand> inputs = operands(arguments, named);
    const Found found = find(inputs);
    if (!found.plan) return {};
    return outputs(found, inputs);
}

std::optional<std::pair<Size, nb::tuple>> Plans::run(const nb::tuple& arguments) const {
    const std::vector<Operand> inputs = operands(arguments, nb::handle());
    const Found found = find(inputs);
    if (!found.plan) return {};
    return std::pair(found.plan->work, outputs(found, inputs));
}

nb::tuple Plans::outputs(const Found& found, const std::vector<Operand>& inputs) {
    const auto& [_, entry, plan] = found;
    std::vector<nb::object> copies;
    std::vector<std::byte*> spaces;
    found.fill(spaces, inputs, copies);
    const size_t first = found.first_output();
    nb::tuple results = nb::steal<nb::tuple>(PyTuple_New(Py_ssize_t(entry->dtypes.size())));
    for (size_t i = 0; i < entry->dtypes.size(); i++) {
        nb::object result = empty(plan->outputs[i], entry->dtypes[i]);
        spaces[first + i] = memory_of<std::byte>(result);
        PyTuple_SetItem(results.ptr(), Py_ssize_t(i), result.release().ptr());
    }
    return with_argument_errors([&] {
        const WithoutGil release;
        found.run(spaces);
        return results;
    });
}

std::optional<std::tuple<Size, bool, nb::tuple, nb::tuple>> Plans::repeat(Size count, const nb::tuple& arguments,
                                                                          size_t carried) const {
    std::vector<nb::object> copies;
    const std::vector<Operand> inputs = operands(arguments, nb::handle());
    const Found found = find(inputs);
    if (count < 1 || !found.plan || !is_loop(found, inputs, carried)) return {};
    const Entry* const entry = found.entry;
    const Plan& plan = *found.plan;
    std::vector<std::byte*> spaces;
    found.fill(spaces, inputs, copies);
    const size_t first_output = found.first_output(), first_carried = entry->signature.inputs[1].value ? 3 : 4;
    int64_t number;
    std::memcpy(&number, inputs[0].data, sizeof number);
    bool condition = true;
    spaces[2] = (std::byte*)&number;
    spaces[first_output] = (std::byte*)&condition;
    std::vector<nb::object> states[2], scanned;  // a run reads one set of states and writes the other
    std::vector<Size> strides;
    for (size_t i = 1; i < entry->dtypes.size(); i++) {
        if (i <= carried) {
            for (auto& set : states) set.push_back(empty(plan.outputs[i], entry->dtypes[i]));
            spaces[first_output + i] = memory_of<std::byte>(states[0].back());
        } else {
            std::vector<Size> shape{count};
            shape.insert(shape.end(), plan.outputs[i].begin(), plan.outputs[i].end());
            scanned.push_back(empty(shape, entry->dtypes[i]));
            strides.push_back(onward::bytes_of(plan.outputs[i], entry->signature.outputs[i]));
            spaces[first_output + i] = memory_of<std::byte>(scanned.back());
        }
    }
    std::vector<std::byte*> memory[2];
    for (int set : {0, 1})
        for (const nb::object& state : states[set]) memory[set].push_back(memory_of<std::byte>(state));
    Size runs = 0;
    with_argument_errors([&] {
        const WithoutGil release;
        while (runs < count && condition) {
            std::copy(memory[runs % 2].begin(), memory[runs % 2].end(), spaces.begin() + first_output + 1);
            found.run(spaces);
            std::copy(memory[runs % 2].begin(), memory[runs % 2].end(), spaces.begin() + first_carried);
            for (size_t i = 0; i < strides.size(); i++) spaces[first_output + 1 + carried + i] += strides[i];
            runs++, number++;
        }
    });
    return std::tuple{runs, condition, tuple_of(states[(runs - 1) % 2]), tuple_of(scanned)};
}

void bind_plans(nb::module_& m) {
    nb::class_<DirectCalls>(m, "DirectCalls",
                            "Calls that run a plan of `plans` if there is one and at most `in_order` arguments have no "
                            "name, and otherwise the method `_call`.",
                            nb::type_slots(call_slots<DirectCalls::call>()))
        .def(nb::init<const nb::object&, Size>(), "plans"_a, "in_order"_a);
    nb::class_<Plans>(m, "Plans",
                      "Programs of one graph: (program, constants, inputs (dtype, shape, value or None, the axis that "
                      "the first element is or -1), dtypes of the outputs, carries that start its joined arrays). A "
                      "size -1 - n in a shape is that of axis n of the program.")
        .def(nb::init<std::vector<nb::str>, const std::vector<EntryIn>&>(), "names"_a, "programs"_a)
        .def("replace", &Plans::replace, "programs"_a, "Take other programs of the same graph.")
        .def("__call__", [](const Plans& plans, const nb::tuple& arguments, const nb::dict& named) {
            return plans.call(arguments, named);
        }, "arguments"_a, "named"_a,
             "Run the plan for these inputs and return its outputs, or None if there is none.")
        .def("run", &Plans::run, "arguments"_a,
             "Run the plan for these inputs and return its elementary operations and its outputs, or None if there is "
             "none.")
        .def_prop_ro("most_work", &Plans::most_work, "The most elementary operations of a plan that was found.")
        .def("allow", &Plans::allow, "arguments"_a, "memory"_a, "work"_a,
             "Permit calls with these inputs that need at most so many bytes and elementary operations. Return how "
             "many one needs, or None if no program holds for the inputs.")
        .def("repeat", &Plans::repeat, "count"_a, "arguments"_a, "carried"_a,
             "Run the body of a loop up to count times, while its condition is true. Return how often it ran, the last "
             "condition, the carried arrays and the scanned ones, or None if there is no plan.");
}

}  // namespace python
