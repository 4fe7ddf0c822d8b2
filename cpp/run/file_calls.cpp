// Finds the program for the inputs of a call, binds it to their sizes, and runs it.
#include "run/file_calls.h"

namespace onward {

std::string described(const CallArray& array) {
    std::string text = "(";
    for (const Size size : array.shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    for (const auto& [name, dtype] : dtypes)
        if (array.dtype == dtype) return text + ") " + name;
    return text + ")";
}

const BoundPlan& FileCalls::find(std::span<const CallArray> inputs) {
    const auto bind = [&](size_t tried, const std::vector<Size>& sizes) {
        const Program& program = *graph.programs[tried].program;
        auto bound = plans[tried].find(sizes, false, [&](BoundPlan& made) { return program.bind(sizes, made); });
        if (bound && bound->memory > most_memory) throw std::bad_alloc();
        return bound;
    };
    size_t first = 0;  // in the order of the file: a program that refuses sizes may throw, which allocates
    auto found = find_plan(graph.programs, inputs, first, axes, bind);
    if (!found) refuse(inputs);
    number = first, plan = std::move(found);
    return *plan;
}

void FileCalls::refuse(std::span<const CallArray> inputs) const {
    std::string text = "the file has no program for";
    for (size_t i = 0; i < inputs.size(); i++)
        text += (i ? ", " : " ") + graph.inputs[i].name + " " + described(inputs[i]);
    throw NoProgram(text + ": if the model takes these sizes, compile it with these inputs as an example");
}

void FileCalls::run(std::span<const CallArray> inputs, std::span<std::byte* const> outputs) {
    const FileGraph::Compiled& found = graph.programs[number];
    spaces.resize(plan->plan.sizes().size());
    size_t space = 2;
    spaces[0] = arena.at_least(plan->arena_size), spaces[1] = (std::byte*)found.constants;
    for (size_t i = 0; i < inputs.size(); i++)
        if (!found.signature.inputs[i].value) spaces[space++] = inputs[i].data;
    for (std::byte* const output : outputs) spaces[space++] = output;
    plan->plan.run(spaces.data(), 0, plan->plan.size());
}

void FileCalls::reserve() {
    arena.at_least(plan->arena_size + plan->arena_size / 4);  // smaller arrays may leave larger gaps
    plans[number].reserve(plan->axes);
}

}  // namespace onward
