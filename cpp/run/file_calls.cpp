// Finds the program for the inputs of a call, binds it to their sizes, and runs it.
#include "run/file_calls.h"

#include <algorithm>

namespace onward {

std::string described(const CallArray& array) {
    std::string text = "(";
    for (const Size size : array.shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    for (const auto& [name, dtype] : dtypes)
        if (array.dtype == dtype) return text + ") " + name;
    return text + ")";
}

FileCalls::Kept* FileCalls::bind(size_t number, const std::vector<Size>& axes) {
    auto& [known, spare] = plans[number];
    for (Kept& kept : known)
        if (kept.plan->axes == axes) return &kept;
    const Program& program = *graph.programs[number].program;
    if (!spare) spare = program.unbound();
    try {
        if (!program.bind(axes, *spare)) return nullptr;
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception&) {  // a view does not fit: the program does not hold for these sizes
        return nullptr;
    }
    if (known.size() < most_plans) return &known.emplace_back(std::move(spare), 0, false);
    Kept& oldest = *std::ranges::min_element(known, {}, &Kept::used);
    std::swap(oldest.plan, spare), oldest.has_fitted = false;
    return &oldest;
}

const BoundPlan& FileCalls::find(std::span<const CallArray> inputs) {
    calls++;
    for (size_t number = 0; number < graph.programs.size(); number++) {
        const FileGraph::Compiled& program = graph.programs[number];
        axes.assign(program.axes, 0);
        bool holds = true;
        for (size_t i = 0; holds && i < inputs.size(); i++)
            holds = program.signature.inputs[i].accepts(inputs[i], axes);
        Kept* const kept = holds ? bind(number, axes) : nullptr;
        if (!kept) continue;
        const std::vector<Size>& sizes = kept->plan->plan.sizes();
        if (!kept->has_fitted) {
            Size memory = kept->plan->arena_size;
            for (size_t i = 0; i < sizes.size(); i++)
                if (sizes[i] < 0 || __builtin_add_overflow(memory, sizes[i], &memory)) throw std::bad_alloc();
            if (memory > most_memory) throw std::bad_alloc();
            if (!program.signature.fits(*kept->plan, inputs)) continue;
        }
        kept->has_fitted = true, kept->used = calls;
        found = &program, plan = kept->plan.get();
        return *plan;
    }
    refuse(inputs);
}

void FileCalls::refuse(std::span<const CallArray> inputs) const {
    std::string text = "the file has no program for";
    for (size_t i = 0; i < inputs.size(); i++)
        text += (i ? ", " : " ") + graph.inputs[i].name + " " + described(inputs[i]);
    throw NoProgram(text + ": if the model takes these sizes, compile it with these inputs as an example");
}

void FileCalls::run(std::span<const CallArray> inputs, std::span<std::byte* const> outputs) {
    spaces.clear();
    spaces.push_back(arena.at_least(plan->arena_size));
    spaces.push_back((std::byte*)found->constants);
    for (size_t i = 0; i < inputs.size(); i++)
        if (!found->signature.inputs[i].value) spaces.push_back(inputs[i].data);
    spaces.insert(spaces.end(), outputs.begin(), outputs.end());
    plan->plan.run(spaces.data(), 0, plan->plan.size());
}

void FileCalls::reserve() {
    arena.at_least(plan->arena_size + plan->arena_size / 4);  // smaller arrays may leave larger gaps
    const size_t number = size_t(found - graph.programs.data());
    const std::vector<Size> sizes = plan->axes;
    auto& [known, spare] = plans[number];
    auto another = [&] {
        auto made = found->program->unbound();
        found->program->bind(sizes, *made);
        return made;
    };
    known.reserve(most_plans);
    if (!spare) spare = another();
    while (known.size() < most_plans) {
        known.emplace_back(another(), 0, false);
        known.back().plan->axes.assign(sizes.size() + 1, -1);  // of no call
    }
}

}  // namespace onward
