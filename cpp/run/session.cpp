// Runs calls and streams of a compiled model: it finds plans, and moves what streams carry from block to block.
#include "run/session.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "run/cut.h"

namespace onward {

namespace {

constexpr Size most_streams = Size(1) << 24, streams_at_once = 64;  // their values stay in the caches

// The graph that a session runs.
const FileGraph& graph_of(const ModelFile& file, Session::Mode mode) {
    if (mode == Session::Mode::call) {
        if (!file.calls) throw BadCall("the file has programs for streams only: compile the model with a call");
        return *file.calls;
    }
    if (!file.stream) throw BadCall("the file has no programs for streams: the model does not stream");
    return mode == Session::Mode::stream ? file.stream->graph : file.stream->of_rows();
}

std::vector<Carries::Kind> kinds_of(const ModelFile& file, Session::Mode mode) {
    std::vector<Carries::Kind> kinds;
    if (mode != Session::Mode::call)
        for (const auto& [initial, rows, time, has_any_shape] : file.stream->carries)
            kinds.push_back({size_of(*initial.dtype), rows, initial.shape, initial.data});
    return kinds;
}

Size checked(Session::Mode mode, Size capacity) {
    if (capacity < 1 || capacity > most_streams || (mode != Session::Mode::pool && capacity > 1))
        throw BadCall("a session has 1 to " + std::to_string(most_streams) + " streams");
    return capacity;
}

}  // namespace

Session::Session(const ModelFile& file, Mode mode, Size capacity)
    : mode(mode), capacity(checked(mode, capacity)), file(file), calls(graph_of(file, mode)),
      carries(kinds_of(file, mode), capacity), have_ended(size_t(capacity)), are_used(size_t(capacity)),
      carried_memory(carries.size()) {
    if (mode != Mode::call && model().last) last.emplace(*model().last);
}

void Session::check(std::span<const CallArray> inputs, size_t count) const {
    if (inputs.size() != count)
        throw BadCall("got " + std::to_string(inputs.size()) + " inputs, but the model takes " + std::to_string(count));
}

Result& Session::prepare(size_t i, DType dtype, const Axes& shape, const Target& target) {
    if (results.size() <= i) results.resize(i + 1);
    if (result_memory.size() <= i) result_memory.resize(i + 1);
    const Size bytes = bytes_of(shape, dtype);
    if (target.data && target.bytes < bytes)
        throw BadCall("output " + std::to_string(i) + " has " + std::to_string(bytes) + " bytes, but memory of " +
                      std::to_string(target.bytes));
    return results[i] = {dtype, shape, target.data ? target.data : result_memory[i].at_least(bytes), bytes};
}

std::span<const Result> Session::run(std::span<const CallArray> inputs, std::span<const Target> targets) {
    if (mode == Mode::pool) throw BadCall("the session is a pool: pass the ids of streams");
    if (mode == Mode::stream) {
        check(inputs, model().input_rows.size());
        check_continues(0);
        const std::span<const Result> found = run_block(calls, 0, inputs, targets);
        carries.exchange();
        return found;
    }
    check(inputs, calls.graph.inputs.size());
    const BoundPlan& plan = calls.find(inputs);
    outputs.clear();
    for (size_t i = 0; i < plan.outputs.size(); i++) {
        const Target target = i < targets.size() ? targets[i] : Target{};
        outputs.push_back(prepare(i, calls.signature().outputs[i], plan.outputs[i], target).data);
    }
    calls.run(inputs, outputs);
    return {results.data(), plan.outputs.size()};
}

// ---- Streams --------------------------------------------------------------------------------------------------------

void Session::check(int64_t id) const {
    if (mode == Mode::call) throw BadCall("the session runs calls: it has no streams");
    if (id < 0 || id >= capacity)
        throw BadCall("there is no stream " + std::to_string(id) + ": the session has " + std::to_string(capacity));
}

void Session::check_continues(int64_t id) const {
    if (have_ended[size_t(id)]) throw BadCall("the sequence has ended: reset the stream to start another one");
}

void Session::reset(int64_t id) {
    check(id);
    carries.reset(id);
    have_ended[size_t(id)] = false;
}

// A carry of streams that are alike.
CallArray Session::carried(size_t carry, std::span<const int64_t> ids) {
    const DType dtype = *model().carries[carry].initial.dtype;
    CallArray operand{(std::byte*)carries.values(ids[0], carry), dtype, carries.shapes(ids[0])[carry], 0, true};
    if (ids.size() > 1) operand.shape[carries.kind(carry).rows] = Size(ids.size());
    operand.bytes = bytes_of(operand.shape, dtype);
    if (ids.size() > 1) {
        operand.data = carried_memory[carry].at_least(operand.bytes);
        carries.gather(ids, carry, operand.data);
    }
    return operand;
}

// The rows [first, first + rows) of an input with n rows.
CallArray Session::part_of(size_t input, const CallArray& whole, Size first, Size rows, Size n) {
    const Size axis = model().input_rows[input];
    CallArray part = whole;
    if (axis < 0) part.shape.drop(0, 1);  // a graph without rows takes one at a time
    else if (rows == n) return part;
    else part.shape[axis] = rows;
    const Cut cut(whole.shape, std::max(axis, Size(0)), size_of(*whole.dtype));
    part.bytes = bytes_of(part.shape, *whole.dtype);
    if (cut.parts == 1) {
        part.data += first * cut.bytes;
        return part;
    }
    if (part_memory.size() <= input) part_memory.resize(input + 1);
    part.data = part_memory[input].at_least(part.bytes);
    cut.copy({part.data, 0, rows}, {whole.data, first, n}, rows);
    return part;
}

// Runs a stream on its own, and stores what it carries, if the graph returns it, as a change.
std::span<const Result> Session::run_block(FileCalls& graph, int64_t id, std::span<const CallArray> inputs,
                                           std::span<const Target> targets) {
    operands.clear(), outputs.clear();
    for (size_t i = 0; i < model().carries.size(); i++) operands.push_back(carried(i, {&id, 1}));
    operands.insert(operands.end(), inputs.begin(), inputs.end());
    const BoundPlan& plan = graph.find(operands);
    const size_t kept = graph.graph.outputs.size() - model().outputs.size();  // none at the end of a sequence
    carries.begin();
    if (kept) {
        shapes.assign(plan.outputs.begin(), plan.outputs.begin() + std::ptrdiff_t(kept));
        carries.add({&id, 1}, shapes);
        for (size_t i = 0; i < kept; i++) outputs.push_back(carries.next_values(id, i));
    }
    for (size_t i = kept; i < plan.outputs.size(); i++) {
        const Target target = i - kept < targets.size() ? targets[i - kept] : Target{};
        outputs.push_back(prepare(i - kept, graph.signature().outputs[i], plan.outputs[i], target).data);
    }
    graph.run(operands, outputs);
    return {results.data(), plan.outputs.size() - kept};
}

// Runs some streams of a pool together, and stores their outputs in the results and what they carry in the change.
void Session::run_rows(FileCalls& graph, std::span<const int64_t> ids, Size first, Size rows,
                       std::span<const CallArray> inputs, std::span<const Target> targets) {
    const size_t kept = carries.size();
    const Size n = Size(ids.size());
    const auto own = ids.subspan(size_t(first), size_t(rows));
    operands.clear(), outputs.clear();
    for (size_t i = 0; i < kept; i++) operands.push_back(carried(i, own));
    for (size_t i = 0; i < inputs.size(); i++) operands.push_back(part_of(i, inputs[i], first, rows, n));
    const BoundPlan& plan = graph.find(operands);
    part_memory.resize(std::max(part_memory.size(), inputs.size() + plan.outputs.size()));
    auto temporary = [&](size_t i) {  // for output i of the graph
        return part_memory[inputs.size() + i].at_least(bytes_of(plan.outputs[i], graph.signature().outputs[i]));
    };
    for (size_t i = 0; i < kept; i++) {
        const Size axis = model().carries[i].rows;
        if (axis >= 0 && (axis >= Size(plan.outputs[i].size()) || plan.outputs[i][axis] != rows))
            throw NoProgram("the carry " + calls.graph.inputs[i].name + " has no row for each stream after the call");
        outputs.push_back(temporary(i));
    }
    for (size_t i = kept; i < plan.outputs.size(); i++) {
        const size_t number = i - kept;
        const Size axis = model().outputs[number].rows;
        Axes shape;
        if (axis >= Size(plan.outputs[i].size()) || (axis >= 0 && plan.outputs[i][axis] != rows))
            throw NoProgram("an output has no row for each stream");
        if (axis < 0) shape.push_back(n);
        for (const Size size : plan.outputs[i]) shape.push_back(size);
        if (axis >= 0) shape[axis] = n;
        if (first == 0)
            prepare(number, graph.signature().outputs[i], shape, number < targets.size() ? targets[number] : Target{});
        else if (!(results[number].shape == shape))
            throw BadCall("the streams complete different numbers of steps: step those in another phase separately");
        outputs.push_back(axis >= 0 && rows == n ? results[number].data : temporary(i));
    }
    graph.run(operands, outputs);
    for (size_t i = kept; i < plan.outputs.size(); i++)
        if (outputs[i] != results[i - kept].data) store(i - kept, outputs[i], first, rows, n);
    shapes.assign(plan.outputs.begin(), plan.outputs.begin() + std::ptrdiff_t(kept));
    carries.add(own, shapes);
    for (size_t i = 0; i < kept; i++) carries.fill(own, i, outputs[i]);
}

// Stores the rows [first, first + rows) of n in an output. Without an axis for rows, each row has the whole output.
void Session::store(size_t number, const std::byte* from, Size first, Size rows, Size n) const {
    const Result& result = results[number];
    const Size axis = model().outputs[number].rows;
    const Cut cut(result.shape, std::max(axis, Size(0)), size_of(result.dtype));
    if (axis >= 0) return cut.copy({result.data, first, n}, {from, 0, rows}, rows);
    for (Size row = 0; row < rows; row++) cut.copy({result.data, first + row, n}, {from, 0, 1}, 1);
}

std::span<const Result> Session::step(std::span<const int64_t> ids, std::span<const CallArray> inputs,
                                      std::span<const Target> targets) {
    if (mode != Mode::pool) throw BadCall("the session is no pool: it has no ids");
    check(inputs, model().input_rows.size());
    const Size n = Size(ids.size());
    if (n == 0) throw BadCall("got no ids");
    for (size_t i = 0; i < inputs.size(); i++) {
        const Size axis = std::max(model().input_rows[i], Size(0));
        if (axis >= Size(inputs[i].shape.size()) || inputs[i].shape[axis] != n)
            throw BadCall(calls.graph.inputs[model().carries.size() + i].name + " has shape " +
                          described(inputs[i]) + ", but needs " + std::to_string(n) + " rows on axis " +
                          std::to_string(axis));
    }
    for (const int64_t id : ids) check(id);
    bool are_distinct = true;
    for (const int64_t id : ids) are_distinct &= !std::exchange(are_used[size_t(id)], true);
    for (const int64_t id : ids) are_used[size_t(id)] = false;
    if (!are_distinct) throw BadCall("the ids are not distinct");
    for (const int64_t id : ids) check_continues(id);
    const Size most = model().are_together && carries.are_alike(ids) ? streams_at_once : 1, parts = ceil_div(n, most);
    carries.begin();
    for (Size part = 0; part < parts; part++) {
        const Size first = n * part / parts;
        run_rows(calls, ids, first, n * (part + 1) / parts - first, inputs, targets);
    }
    carries.exchange();
    return {results.data(), model().outputs.size()};
}

std::span<const Result> Session::finish(int64_t id, std::span<const Target> targets) {
    if (mode == Mode::call || !last) throw BadCall("no steps remain at the end of a sequence of this model");
    check(id), check_continues(id);
    CallArray none{nullptr, last->graph.inputs.back().dtype, {}, 0, true};
    for (const Size size : model().step_shape) none.shape.push_back(size);
    none.shape[model().time] = 0;
    const std::span<const Result> found = run_block(*last, id, {&none, 1}, targets);
    have_ended[size_t(id)] = true;
    return found;
}

// The inputs, and smaller ones for which files often have programs of their own, or that need more memory: with size 1
// or 0 on some open axes, and with a short or a slightly smaller one. Axes of one name change together.
std::vector<std::vector<CallArray>> Session::smaller(std::span<const CallArray> inputs) const {
    constexpr size_t most_axes = 4;
    constexpr Size longest = 20, nearest = 4;
    std::vector<std::string> names;
    const size_t first = graph().inputs.size() - inputs.size();  // after the carries
    const auto name_of = [&](size_t i, size_t axis) {
        const Port::Axis& declared = graph().inputs[first + i].axes[axis];
        return declared.size >= 0 ? "" : declared.name.empty() ? std::to_string(axis) : declared.name;
    };
    const auto axes_of = [&](size_t i) {
        return std::min(graph().inputs[first + i].axes.size(), size_t(inputs[i].shape.size()));
    };
    for (size_t i = 0; i < inputs.size(); i++)
        for (size_t axis = 0; axis < axes_of(i); axis++)
            if (const std::string name = name_of(i, axis);
                !name.empty() && names.size() < most_axes && std::ranges::count(names, name) == 0)
                names.push_back(name);
    const auto limited = [&](std::vector<CallArray> some, const std::string& name, Size most) {  // if below 0: by that
        for (size_t i = 0; i < some.size(); i++) {
            for (size_t axis = 0; axis < axes_of(i); axis++)
                if (Size& size = some[i].shape[axis]; name_of(i, axis) == name)
                    size = most < 0 ? std::max(size + most, Size(0)) : std::min(size, most);
            some[i].bytes = bytes_of(some[i].shape, *some[i].dtype);
        }
        return some;
    };
    std::vector<std::vector<CallArray>> found{{inputs.begin(), inputs.end()}};
    const auto add = [&](const std::vector<CallArray>& some) {
        const auto is_same = [&](const auto& known) {
            return std::ranges::equal(known, some, {}, &CallArray::shape, &CallArray::shape);
        };
        if (std::ranges::none_of(found, is_same)) found.push_back(some);
    };
    for (const std::string& name : names)
        for (size_t number = 0, count = found.size(); number < count; number++)
            for (const Size most : {1, 0}) add(limited(found[number], name, most));
    for (const std::string& name : names)
        for (Size n = 1; n < longest; n++) {
            if (n <= nearest) add(limited(found.front(), name, -n));
            std::vector<CallArray> some = limited(found.front(), name, n);
            add(some);
            for (const std::string& other : names)
                if (other != name) some = limited(some, other, 1);
            add(some);
        }
    return found;
}

// How many streams step together for these inputs; 1 unless the session is a pool.
Size Session::rows_of(std::span<const CallArray> inputs) const {
    if (mode != Mode::pool) return 1;
    const size_t axis = size_t(std::max(model().input_rows.empty() ? Size(0) : model().input_rows[0], Size(0)));
    const Size rows = inputs.empty() || axis >= inputs[0].shape.size() ? 0 : inputs[0].shape[axis];
    if (rows < 1 || rows > capacity) throw BadCall("the session has " + std::to_string(capacity) + " streams");
    return rows;
}

void Session::reserve(std::span<const CallArray> inputs) {
    check(inputs, mode == Mode::call ? calls.graph.inputs.size() : model().input_rows.size());
    std::vector<CallArray> zeros(inputs.begin(), inputs.end());
    std::vector<Growing> memory(inputs.size());
    for (size_t i = 0; i < inputs.size(); i++) zeros[i].data = memory[i].at_least(inputs[i].bytes);
    std::vector<int64_t> ids(mode == Mode::call ? 0 : size_t(rows_of(zeros)));
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<std::vector<std::byte>> before;
    for (const int64_t id : ids) save(id, before.emplace_back(size_t(state_size(id))));
    try {
        visit(smaller(zeros), ids);
    } catch (...) {
        for (const int64_t id : ids) restore(id, before[size_t(id)]);
        throw;
    }
    for (const int64_t id : ids) restore(id, before[size_t(id)]);
}

// Makes room for the inputs and outputs of streams of a pool that do not step together, as in different phases.
void Session::reserve_parts(std::span<const CallArray> inputs, std::span<const Result> outputs) {
    const size_t first = inputs.size() + model().carries.size();
    part_memory.resize(std::max(part_memory.size(), first + outputs.size()));
    for (size_t i = 0; i < inputs.size(); i++) part_memory[i].at_least(inputs[i].bytes);
    for (size_t i = 0; i < outputs.size(); i++) part_memory[first + i].at_least(outputs[i].bytes);
}

// Runs blocks of all sizes from each state that they lead to: with strides, what streams carry has several shapes.
void Session::visit(const std::vector<std::vector<CallArray>>& sizes, std::span<const int64_t> ids) {
    constexpr size_t most_states = 64;
    std::vector<std::vector<std::byte>> states;
    std::vector<Carries::Shapes> known;
    const auto add_state = [&] {
        if (ids.empty() || std::ranges::count(known, carries.shapes(0))) return;
        known.push_back(carries.shapes(0));
        save(0, states.emplace_back(size_t(state_size(0))));
    };
    for (const int64_t id : ids) reset(id);
    add_state();
    bool is_first = true;
    for (size_t number = 0; number < std::clamp(states.size(), size_t(1), most_states); number++)
        for (const auto& some : sizes) {
            for (const int64_t id : ids) restore(id, states[number]);
            try {
                if (mode == Mode::pool) reserve_parts(some, step(ids.first(size_t(rows_of(some))), some, {}));
                else run(some, {});
                calls.reserve();
                add_state();
            } catch (const NoProgram&) {  // of a block smaller than the file takes
                if (is_first) throw;
            } catch (const BadCall&) {  // of a pool without rows
                if (is_first) throw;
            }
            is_first = false;
        }
}

}  // namespace onward
