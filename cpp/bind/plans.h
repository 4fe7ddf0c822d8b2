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

namespace python {

// An array of a call: its memory, and what programs ask about it.
struct Operand {
    PyObject* array;  // which must stay alive
    std::byte* data;
    std::optional<DType> dtype;  // nullopt if a plan cannot read it
    onward::Axes shape;
    Size bytes;
    bool is_contiguous;

    // The addresses of its elements; the array must be contiguous.
    Extent extent() const { return {uintptr_t(data), uintptr_t(data) + uintptr_t(bytes)}; }

    // Nullopt for an object that is not an array. A subclass of ndarray may behave differently.
    static std::optional<Operand> of(PyObject* object, int flags = 0);
};

// What a program requires of an input: its dtype, its sizes and, if the program depends on it, its value. A size below
// 0 is that of axis -1 - size, which is not empty.
struct Input {
    DType dtype;
    std::vector<Size> shape;
    std::optional<std::string> value;

    // Whether an array fits; `axes` takes the sizes of the axes, which are 0 at first.
    bool accepts(const Operand& operand, std::vector<Size>& axes) const;
};

struct Output {
    nb::object dtype;
    DType kind;
};

// A program with its constants, its inputs, its outputs and the number of its axes.
struct Entry {
    nb::object program, constants;
    std::byte* constant_memory;
    std::vector<Input> inputs;
    std::vector<Output> outputs;
    size_t axes = 0;
};

using EntryIn = std::tuple<nb::object, nb::object,
                           std::vector<std::tuple<std::string, std::vector<Size>, std::optional<nb::bytes>>>,
                           std::vector<nb::object>>;

// A program for the inputs of a call, and its plan for their sizes.
struct Found {
    std::shared_ptr<const std::vector<Entry>> entries;  // keeps the entry alive
    const Entry* entry = nullptr;
    std::shared_ptr<Plan> plan;

    // The memory of the spaces before the outputs; `copies` takes those of inputs that are not contiguous.
    std::vector<std::byte*> spaces(const std::vector<Operand>& inputs, std::vector<nb::object>& copies) const;
};

class Plans {
public:
    Plans(std::vector<nb::str> names, const std::vector<EntryIn>& programs);

    // Takes other programs of the same graph; running calls keep the old ones.
    void replace(const std::vector<EntryIn>& programs);

    std::optional<nb::tuple> call(const nb::tuple& arguments, const nb::dict& named) const;

    // Runs the body of a loop up to `count` >= 1 times, from (i, condition, *carried, *others) to (condition, *carried,
    // *scanned). Returns how often it ran, the last condition, the carried arrays, and the scanned ones of all runs.
    std::optional<std::tuple<Size, bool, nb::tuple, nb::tuple>> repeat(Size count, const nb::tuple& arguments,
                                                                       size_t carried) const;

    // The program and the plan for these inputs, if there are any that need no Python.
    Found find(const std::vector<Operand>& inputs) const;

    size_t inputs() const { return names.size(); }

    // The most elementary operations of a plan that was found.
    Size most_work() const { return work; }

private:
    // The inputs of a call in order; nothing if one is missing or not an array.
    std::vector<Operand> operands(const nb::tuple& arguments, const nb::dict& named) const;

    const std::vector<nb::str> names;
    std::shared_ptr<const std::vector<Entry>> entries;
    mutable std::atomic<Size> work = 0;
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
