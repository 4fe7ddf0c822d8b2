// The Python class Session: a program of a graph, with carries that each call passes to the next one.
#include <algorithm>
#include <optional>
#include <vector>

#include <nanobind/stl/pair.h>

#include "bind/lock.h"
#include "bind/module.h"
#include "bind/plans.h"

namespace python {

namespace {

// How blocks of fewer axes than the graph's inputs run: the axes of size 1 that each input has in addition, and the
// axes that each output loses again. All are ascending.
struct Layout {
    std::vector<std::vector<Size>> added, dropped;
};

using LayoutIn = std::pair<std::vector<std::vector<Size>>, std::vector<std::vector<Size>>>;

// The time axis of an input that is a sequence, and its steps for each unit of time.
using Time = std::pair<Size, Size>;

class Session {
public:
    // The inputs of the graph are the carries, in order, and then those of a call; so are its outputs. `layouts` holds
    // how the inputs of a call run, by the number of axes of the first; without layouts, they run as they are.
    Session(const nb::object& plans, const nb::object& lock, size_t outputs,
            const std::vector<std::optional<LayoutIn>>& layouts, const std::vector<Time>& times)
        : plans(plans), lock(lock), outputs(outputs), times(times) {
        for (const auto& layout : layouts)
            this->layouts.push_back(layout ? std::optional(Layout{layout->first, layout->second}) : std::nullopt);
    }

    // Runs arguments that a program accepts as they are. All others go to the Python subclass, which converts them,
    // compiles a program, runs one that needs Python, or raises an error.
    static nb::object call(nb::handle_t<Session> handle, const nb::args& args, const nb::kwargs& named) {
        Session& self = *nb::inst_ptr<Session>(handle);
        nb::object out = nb::none();
        const size_t known = named.size() ? size_t(named.contains("out")) : 0;
        if (known) out = named["out"];
        if (named.size() == known) {
            const CallLock::Held held(*nb::inst_ptr<CallLock>(self.lock));
            if (nb::object y = self.run(args, out); y.is_valid()) return y;
        }
        return nb::borrow<nb::object>(handle).attr("_converted")(args, named);
    }

    nb::list carries() const {
        nb::list arrays;
        for (const Carry& carry : now) arrays.append(carry.array);
        return arrays;
    }

    // Takes arrays to which there is no other reference.
    void set_carries(const std::vector<nb::object>& arrays) {
        std::vector<Carry> carries;
        for (const nb::object& array : arrays) carries.emplace_back(array);
        now = std::move(carries);
        other.clear();
    }

    bool is_open = true;  // otherwise calls go to the subclass, which raises an error
    int axes = -1;        // of the first input of the last call; -1: unknown

private:
    struct Carry {
        nb::object array;
        Operand operand;

        explicit Carry(const nb::object& object) : array(object) {
            const auto found = Operand::of(object.ptr());
            if (!found) throw nb::type_error("a carry must be an array");
            operand = *found;
        }
    };

    // Returns the output, or an invalid object if no program accepts the arguments as they are.
    nb::object run(const nb::args& args, const nb::object& out) {
        const Plans& programs = *nb::inst_ptr<Plans>(plans);
        if (!is_open || now.size() + args.size() != programs.inputs()) return {};
        inputs.clear();
        for (const Carry& carry : now) inputs.push_back(carry.operand);
        for (const nb::handle arg : args) {
            const auto operand = Operand::of(arg.ptr());
            if (!operand) return {};
            inputs.push_back(*operand);
        }
        const size_t axes_of_input = args.size() ? inputs[now.size()].shape.size() : 0;
        const bool is_known = axes_of_input < layouts.size() && layouts[axes_of_input];
        const Layout* const layout = is_known ? &*layouts[axes_of_input] : nullptr;
        if (!layouts.empty() && !(layout && has_layout(*layout))) return {};
        const Found found = programs.find(inputs);
        if (!found.plan || found.entry->dtypes.size() != now.size() + outputs) return {};

        std::vector<nb::object> copies;
        std::vector<std::byte*> spaces = found.spaces(inputs, copies);
        if (other.size() != now.size()) other.clear();
        for (size_t i = 0; i < now.size(); i++) {
            const auto& shape = found.plan->core->outputs[i];
            const auto made = [&] { return Carry(empty(shape, found.entry->dtypes[i])); };
            if (i == other.size()) other.push_back(made());
            else if (other[i].operand.dtype != found.entry->signature.outputs[i] ||
                     !(other[i].operand.shape == shape))
                other[i] = made();
            spaces.push_back(other[i].operand.data);
        }
        std::vector<nb::object> results;
        for (size_t i = 0; i < outputs; i++) {
            nb::object target = out;
            if (!out.is_none() && outputs > 1) {
                if (!PyTuple_CheckExact(out.ptr()) || size_t(PyTuple_Size(out.ptr())) != outputs) return {};
                target = out[i];
                if (target.is_none()) return {};
            }
            nb::object y = result(found, now.size() + i, layout, i, target);
            if (!y.is_valid()) return {};
            spaces.push_back(memory_of<std::byte>(y));
            results.push_back(std::move(y));
        }
        with_argument_errors([&] {
            const WithoutGil release;
            found.plan->run(spaces);
        });
        if (PyErr_CheckSignals()) throw nb::python_error();  // the call has no effect
        std::swap(now, other);
        axes = int(axes_of_input);
        return outputs == 1 ? std::move(results[0]) : nb::object(tuple_of(results));
    }

    // Adds the axes that the inputs lack; returns false if these have too few axes or different durations.
    bool has_layout(const Layout& layout) {
        const auto steps = [&](size_t i) { return inputs[now.size() + i].shape[times[i].first]; };
        for (size_t i = 0; i < times.size(); i++) {
            add_axes(inputs[now.size() + i], layout.added[i]);
            const auto [axis, rate] = times[i];
            if (Size(inputs[now.size() + i].shape.size()) <= axis || steps(i) % rate ||
                steps(i) / rate != steps(0) / times[0].second)
                return false;
        }
        return true;
    }

    static void add_axes(Operand& operand, const std::vector<Size>& added) {
        for (const Size axis : added) {
            if (axis > Size(operand.shape.size())) return;
            operand.shape.push_back(1);
            std::rotate(operand.shape.begin() + axis, operand.shape.end() - 1, operand.shape.end());
        }
    }

    // The array for output i of a call, or an invalid object if the array in `out` needs a conversion.
    nb::object result(const Found& found, size_t place, const Layout* layout, size_t i, const nb::object& out) {
        const bool drops = layout && !layout->dropped[i].empty();
        onward::Axes shape;
        for (size_t axis = 0; axis < found.plan->core->outputs[place].size(); axis++)
            if (!drops || !std::binary_search(layout->dropped[i].begin(), layout->dropped[i].end(), Size(axis)))
                shape.push_back(found.plan->core->outputs[place][axis]);
        if (out.is_none()) return empty(shape, found.entry->dtypes[place]);
        const auto target = Operand::of(out.ptr());
        if (!target || !target->is_contiguous || !array_in(out.ptr())->is_writeable() ||
            target->dtype != found.entry->signature.outputs[place] || !(target->shape == shape))
            return {};
        const auto is_apart = [&](const Operand& input) {
            return input.is_contiguous && input.extent().is_apart(target->extent());
        };
        if (!std::all_of(inputs.begin(), inputs.end(), is_apart)) return {};
        inputs.push_back(*target);  // the next output must be apart from this one, too
        return out;
    }

    const nb::object plans, lock;
    const size_t outputs;
    const std::vector<Time> times;
    std::vector<std::optional<Layout>> layouts;
    std::vector<Carry> now, other;  // those of the next call, and arrays for those after it
    std::vector<Operand> inputs;    // of the present call, and then the arrays in `out`
};

}  // namespace

void bind_session(nb::module_& m) {
    nb::class_<Session>(m, "Session", "Programs of a graph with carries that each call passes to the next one.")
        .def(nb::init<const nb::object&, const nb::object&, size_t, const std::vector<std::optional<LayoutIn>>&,
                      const std::vector<Time>&>(),
             "plans"_a, "lock"_a, "outputs"_a, "layouts"_a, "times"_a)
        .def("__call__", &Session::call, nb::sig("def __call__(self, *args: object, **inputs: object) -> object"),
             "Run a block, and return the outputs.")
        .def_prop_rw("_carries", &Session::carries, &Session::set_carries, "The carries of the next call.")
        .def_rw("_is_open", &Session::is_open, "Whether the sequence continues.")
        .def_rw("_axes", &Session::axes, "The number of axes of the first input of the last call, or -1.");
}

}  // namespace python
