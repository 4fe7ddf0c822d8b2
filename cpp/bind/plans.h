// The programs of a graph, and how a call finds the one for its inputs without Python.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind/plan.h"
#include "run/calls.h"

namespace python {

// A dtype by its number in NumPy; nullopt if a plan cannot read it.
std::optional<DType> dtype_of(const ArrayObject& array);

// An array of a call.
struct Operand : onward::CallArray {
    PyObject* array;  // which must stay alive

    // The addresses of its elements; the array must be contiguous.
    Extent extent() const { return {uintptr_t(data), uintptr_t(data) + uintptr_t(bytes)}; }

    // Nullopt for an object that is not an array. Without a dtype, the array has no shape either.
    static std::optional<Operand> of(PyObject* object);
};

// A program with its constants, and the dtypes of its outputs in Python. Arrays that start with a carry and end with
// its next value are outputs of the program alone.
struct Entry {
    nb::object program, constants;
    std::byte* constant_memory;
    onward::Signature signature;
    std::vector<nb::object> dtypes;
    std::vector<size_t> joined;  // for each joined array of the program, the carry that it starts with

    Program& core() const { return *nb::inst_ptr<Program>(program); }
};

using EntryIn = std::tuple<nb::object, nb::object,
                           std::vector<std::tuple<std::string, std::vector<Size>, std::optional<nb::bytes>, Size>>,
                           std::vector<nb::object>, std::vector<size_t>>;

// A program for the inputs of a call, and its plan for their sizes.
struct Found {
    std::shared_ptr<const std::vector<Entry>> entries;  // keeps the entry alive
    const Entry* entry = nullptr;
    std::shared_ptr<Plan> plan;

    // Fills the spaces before the outputs, and makes room for the others; `copies` takes inputs that are not
    // contiguous.
    void fill(std::vector<std::byte*>& spaces, const std::vector<Operand>& inputs,
              std::vector<nb::object>& copies) const;
    // place() may move the joined arrays.
    template <class Place>
    void run(std::vector<std::byte*>& spaces, const Place& place) const { entry->core().run(*plan, spaces, place); }
    void run(std::vector<std::byte*>& spaces) const { run(spaces, [] {}); }
    // The spaces of the first output and of the first joined array.
    size_t first_output() const { return first_joined() - entry->dtypes.size(); }
    size_t first_joined() const { return plan->plan.sizes().size() - entry->joined.size(); }
    // Whether the program and the plan hold for all values of the inputs.
    bool needs_no_value() const {
        return std::ranges::none_of(entry->signature.inputs, &onward::Input::has_value);
    }
};

class Plans {
public:
    Plans(std::vector<nb::str> names, const std::vector<EntryIn>& programs);
    Plans(std::vector<nb::str> names, std::vector<Entry> entries);

    // Takes other programs of the same graph; running calls keep the old ones.
    void replace(const std::vector<EntryIn>& programs);

    std::optional<nb::tuple> call(const nb::tuple& arguments, nb::handle named) const;  // `named` may be invalid

    // Likewise, but returns the elementary operations of the plan and the outputs.
    std::optional<std::pair<Size, nb::tuple>> run(const nb::tuple& arguments) const;

    // Runs the body of a loop up to `count` >= 1 times, from (i, condition, *carried, *others) to (condition, *carried,
    // *scanned). Returns how often it ran, the last condition, the carried arrays, and the scanned ones of all runs.
    std::optional<std::tuple<Size, bool, nb::tuple, nb::tuple>> repeat(Size count, const nb::tuple& arguments,
                                                                       size_t carried) const;

    // The program and the plan for these inputs, if there are any that need no Python.
    Found find(const std::vector<Operand>& inputs) const;

    // Permits the plan for these inputs if a call needs at most `memory` bytes and `most_work` elementary operations.
    // Returns how many it needs, or nothing if no program holds for the inputs.
    std::optional<std::pair<Size, Size>> allow(const nb::tuple& arguments, Size memory, Size most_work) const;

    size_t inputs() const { return names.size(); }

    // The most elementary operations of a plan that was found.
    Size most_work() const { return work; }

private:
    // Runs a plan for inputs, and returns its outputs.
    static nb::tuple outputs(const Found& found, const std::vector<Operand>& inputs);
    // The program and the plan for these inputs; the plan may be null.
    Found match(const std::vector<Operand>& inputs) const;
    // The inputs of a call in order; nothing if one is missing or not an array.
    std::vector<Operand> operands(const nb::tuple& arguments, nb::handle named) const;

    const std::vector<nb::str> names;
    std::shared_ptr<const std::vector<Entry>> entries;
    mutable std::atomic<Size> work = 0;
    mutable std::atomic<size_t> recent = 0;  // the program that the last call found
    mutable nb::ft_mutex mutex;  // the GIL takes its place where there is one
};

inline nb::tuple tuple_of(const std::vector<nb::object>& items) {
    nb::tuple result = nb::steal<nb::tuple>(PyTuple_New(Py_ssize_t(items.size())));
    for (size_t i = 0; i < items.size(); i++)
        PyTuple_SetItem(result.ptr(), Py_ssize_t(i), nb::object(items[i]).release().ptr());
    return result;
}

// Calls f, which runs a plan. An index out of range, whose message names the node, becomes an ArgumentError.
template <class Function>
auto with_argument_errors(const Function& f) {
    try {
        return f();
    } catch (const std::out_of_range& error) {
        PyErr_SetString(nb::module_::import_("onward.errors").attr("ArgumentError").ptr(), error.what());
        throw nb::python_error();
    }
}

}  // namespace python
