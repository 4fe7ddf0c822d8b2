// The Python class Session: a program of a graph, with carries that each call passes to the next one.
#include <algorithm>
#include <optional>
#include <vector>

#include <nanobind/stl/pair.h>

#include "bind/lock.h"
#include "bind/module.h"
#include "bind/plans.h"
#include "bind/slots.h"

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
    static nb::object call(nb::handle handle, nb::handle arguments, nb::handle named) {
        const auto args = nb::borrow<nb::tuple>(arguments);
        Session& self = *nb::inst_ptr<Session>(handle);
        const bool is_named = named.is_valid() && PyDict_Size(named.ptr());
        const nb::handle out = is_named ? PyDict_GetItemString(named.ptr(), "out") : nullptr;
        if (!is_named || (out.is_valid() && PyDict_Size(named.ptr()) == 1)) {
            const CallLock::Held held(*nb::inst_ptr<CallLock>(self.lock));
            if (nb::object y = self.run(args, out.is_none() ? nb::handle() : out); y.is_valid()) return y;
        }
        return handle.attr("_converted")(args, is_named ? nb::borrow(named) : nb::object(nb::dict()));
    }

    nb::list carries() const {
        nb::list arrays;
        for (const auto& [array, operand, moves] : now)
            arrays.append(moves ? array_at(array, operand.data, operand.shape, array.attr("dtype")) : array);
        return arrays;
    }

    // Takes arrays to which there is no other reference.
    void set_carries(const std::vector<nb::object>& arrays) {
        std::vector<Carry> carries;
        for (const nb::object& array : arrays) carries.emplace_back(array);
        now = std::move(carries);
        rooms.assign(now.size(), {}), other.clear(), can_repeat = false;
    }

    bool is_open = true;  // otherwise calls go to the subclass, which raises an error
    int axes = -1;        // of the first input of the last call; -1: unknown

private:
    struct Carry {
        nb::object array;  // the carry, or the room in which it moves
        Operand operand;
        bool moves = false;

        explicit Carry(const nb::object& object) : array(object) {
            const auto found = Operand::of(object.ptr());
            if (!found) throw nb::type_error("a carry must be an array");
            operand = *found;
        }
    };

    // Memory in which a carry moves on from call to call: the joined array of a call starts with it.
    struct Room {
        nb::object array;
        Size bytes = 0;
    };

    // A joined array of the present plan that lies in a room: its carry, its space, its size and the offset of the next
    // carry in bytes, the bounds of the room, and where it starts in this call.
    struct Slide {
        size_t carry, space;
        Size bytes, next;
        std::byte *first, *end, *start;
    };

    // Returns the output, or an invalid object if no program accepts the arguments as they are. `out` may be invalid.
    nb::object run(const nb::tuple& args, nb::handle out) {
        if (!is_open || !(is_repeated(args) || find(args))) return {};
        const size_t carries = now.size(), first = found.first_output();
        std::vector<nb::object> copies;
        inputs.erase(inputs.begin() + Size(carries + args.size()), inputs.end());
        found.fill(spaces, inputs, copies);
        slide();
        for (size_t i = 0; i < carries; i++) spaces[first + i] = other[i].operand.data;
        results.resize(outputs);
        if (out.is_valid() && outputs > 1 && (!PyTuple_CheckExact(out.ptr()) || nb::len(out) != outputs)) return {};
        for (size_t i = 0; i < outputs; i++) {
            results[i] = result(i, out.is_valid() && outputs > 1 ? nb::handle(out[i]) : out);
            if (!results[i].is_valid()) return {};
            spaces[first + carries + i] = memory_of<std::byte>(results[i]);
        }
        with_argument_errors([&] {
            std::optional<WithoutGil> release;
            if (found.plan->work > short_work) release.emplace();
            found.run(spaces, [&] {
                for (const Slide& slide : slides) spaces[slide.space] = slide.start;
            });
        });
        if (PyErr_CheckSignals()) throw nb::python_error();  // the call has no effect
        std::swap(now, other);
        axes = int(axes_of_input);
        return outputs == 1 ? std::move(results[0]) : nb::object(tuple_of(std::exchange(results, {})));
    }

    // Lets each joined array start at its carry or, if that lies elsewhere or too little room follows it, at the start
    // of the room. The carry and what follows it stay as they are until the call has succeeded.
    void slide() {
        for (Slide& slide : slides) {
            const Carry& carry = now[slide.carry];
            const bool fits = carry.array.is(rooms[slide.carry].array) && carry.operand.data + slide.bytes <= slide.end;
            slide.start = fits ? carry.operand.data : slide.first;
            Carry& next = other[slide.carry];
            next.array = rooms[slide.carry].array, next.moves = true;
            next.operand.data = slide.start + slide.next;
        }
    }

    // Whether arguments and carries are as in the last call, except for their values. If so, stores where they are.
    bool is_repeated(const nb::tuple& args) {
        if (!can_repeat || args.size() != alike.size()) return false;
        const size_t carries = now.size();
        for (size_t i = 0; i < alike.size(); i++) {
            const ArrayObject* const x = array_in(args[i].ptr());
            if (!x || !x->is_contiguous() || dtype_of(*x) != inputs[carries + i].dtype ||
                !std::ranges::equal(x->sizes(), alike[i]))
                return false;
        }
        for (size_t i = 0; i < carries; i++) inputs[i].data = now[i].operand.data;
        for (size_t i = 0; i < alike.size(); i++) inputs[carries + i].data = array_in(args[i].ptr())->data;
        return true;
    }

    // Finds the plan for arguments, and makes room for the carries after it.
    bool find(const nb::tuple& args) {
        can_repeat = false;
        const Plans& programs = *nb::inst_ptr<Plans>(plans);
        if (now.size() + args.size() != programs.inputs()) return false;
        inputs.clear(), alike.clear();
        for (const Carry& carry : now) inputs.push_back(carry.operand);
        for (const nb::handle arg : args) {
            const auto operand = Operand::of(arg.ptr());
            if (!operand) return false;
            inputs.push_back(*operand), alike.push_back(operand->shape);
        }
        axes_of_input = args.size() ? alike[0].size() : 0;
        const bool is_known = axes_of_input < layouts.size() && layouts[axes_of_input];
        layout = is_known ? &*layouts[axes_of_input] : nullptr;
        if (!layouts.empty() && !(layout && has_layout(*layout))) return false;
        found = programs.find(inputs);
        if (!found.plan || found.entry->dtypes.size() != now.size() + outputs) return false;
        bool is_alike = std::ranges::all_of(inputs, &Operand::is_contiguous) && found.needs_no_value();
        if (other.size() != now.size()) other.clear();
        slides.clear();
        for (size_t i = 0; i < now.size(); i++) {
            const auto& shape = found.plan->outputs[i];
            const Size bytes = onward::bytes_of(shape, found.entry->signature.outputs[i]);
            const bool moves = add_slide(i, bytes);
            const auto made = [&] {
                Carry carry(moves ? rooms[i].array : empty_aligned(shape, found.entry->dtypes[i], bytes));
                carry.operand.shape = shape, carry.operand.bytes = bytes, carry.moves = moves;
                return carry;
            };
            const auto is_like = [&](const Carry& carry) {
                return carry.operand.dtype == found.entry->signature.outputs[i] && carry.operand.shape == shape &&
                       (moves || uintptr_t(carry.operand.data) % line == 0);
            };
            if (i == other.size()) other.push_back(made());
            else if (moves || other[i].moves || !is_like(other[i])) other[i] = made();
            is_alike = is_alike && is_like(now[i]);
        }
        shapes.clear();
        for (size_t i = 0; i < outputs; i++) shapes.push_back(shape_of_output(i));
        can_repeat = is_alike;  // last: there may be no memory for the carries
        return true;
    }

    // Gives a joined array that starts with a carry and ends with the next one, of so many bytes, a place in the room
    // of the carry. Returns false if there is none, or if copying the carry takes no time beside the rest: it is short,
    // or the block is longer.
    bool add_slide(size_t carry, Size next) {
        const auto joined = std::ranges::find(found.entry->joined, carry);
        if (joined == found.entry->joined.end()) return false;
        const size_t space = found.first_joined() + size_t(joined - found.entry->joined.begin());
        const Size bytes = found.plan->plan.sizes()[space];
        if (bytes < least_moved || bytes > 2 * now[carry].operand.bytes) return false;
        Room& room = rooms[carry];
        if (room.bytes < 2 * bytes) {  // so that the array never reaches the carry that it is copied from
            const Size elements[] = {2 * bytes / onward::size_of(*now[carry].operand.dtype)};
            room = {empty_aligned(elements, found.entry->dtypes[carry], 2 * bytes), 2 * bytes};
        }
        std::byte* const first = memory_of<std::byte>(room.array);
        slides.push_back({carry, space, bytes, bytes - next, first, first + room.bytes, nullptr});
        return true;
    }

    // The shape of an output, without the axes that the inputs lack.
    onward::Axes shape_of_output(size_t i) const {
        const auto& whole = found.plan->outputs[now.size() + i];
        onward::Axes shape;
        for (size_t axis = 0; axis < whole.size(); axis++)
            if (!layout || !std::ranges::binary_search(layout->dropped[i], Size(axis))) shape.push_back(whole[axis]);
        return shape;
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
    nb::object result(size_t i, nb::handle out) {
        const size_t place = now.size() + i;
        const onward::Axes& shape = shapes[i];
        if (!out.is_valid()) return empty(shape, found.entry->dtypes[place]);
        const auto target = Operand::of(out.ptr());
        if (!target || !target->is_contiguous || !array_in(out.ptr())->is_writeable() ||
            target->dtype != found.entry->signature.outputs[place] || !(target->shape == shape))
            return {};
        const auto is_apart = [&](const Operand& input) {
            return input.is_contiguous && input.extent().is_apart(target->extent());
        };
        if (!std::all_of(inputs.begin(), inputs.end(), is_apart)) return {};
        inputs.push_back(*target);  // the next output must be apart from this one, too
        return nb::borrow(out);
    }

    static constexpr Size least_moved = 1024;  // bytes of a joined array

    // Calls of fewer elementary operations keep the GIL: they take at most about 20 microseconds.
    static constexpr Size short_work = 1 << 19;

    const nb::object plans, lock;
    const size_t outputs;
    const std::vector<Time> times;
    std::vector<std::optional<Layout>> layouts;
    std::vector<Carry> now, other;  // those of the next call, and arrays for those after it
    std::vector<Room> rooms;        // of each carry; empty if it never moved

    // What the last call found.
    Found found;
    const Layout* layout = nullptr;
    bool can_repeat = false;             // whether the next call may have the same plan
    size_t axes_of_input = 0;
    std::vector<Slide> slides;
    std::vector<Operand> inputs;         // in the layout of the graph, and then the arrays in `out`
    std::vector<onward::Axes> alike;     // the shapes of the arguments
    std::vector<onward::Axes> shapes;    // those of the outputs
    std::vector<std::byte*> spaces;
    std::vector<nb::object> results;     // of the present call
};

}  // namespace

void bind_session(nb::module_& m) {
    nb::class_<Session>(m, "Session",
                        "Programs of a graph with carries that each call passes to the next one. A call runs a block, "
                        "and returns the outputs.",
                        nb::type_slots(call_slots<Session::call>()))
        .def(nb::init<const nb::object&, const nb::object&, size_t, const std::vector<std::optional<LayoutIn>>&,
                      const std::vector<Time>&>(),
             "plans"_a, "lock"_a, "outputs"_a, "layouts"_a, "times"_a)
        .def_prop_rw("_carries", &Session::carries, &Session::set_carries,
                     "The carries of the next call, whose memory later calls use.")
        .def_rw("_is_open", &Session::is_open, "Whether the sequence continues.")
        .def_rw("_axes", &Session::axes, "The number of axes of the first input of the last call, or -1.");
}

}  // namespace python
