// Programs, and plans of them for the sizes of a call, as Python objects.
#pragma once

#include <memory>
#include <vector>

#include "bind/arrays.h"
#include "platform/reuse.h"
#include "run/names.h"
#include "run/program.h"

namespace python {

using onward::DType;

// Memory for the arenas of a program: each call uses one of its own, which later calls reuse.
class Arenas {
public:
    // Calls f with an arena of at least this size.
    template <class Function>
    void with(Size size, Function f) {
        struct Return {
            Arenas& owner;
            std::unique_ptr<Arena> arena;
            ~Return() { owner.arenas.give(std::move(arena)); }
        } call{*this, arenas.take([](const Arena&) { return true; })};
        if (!call.arena || call.arena->size < size) call.arena = std::make_unique<Arena>(size);
        f(call.arena->memory.data());
    }

private:
    struct Arena {
        Size size;
        onward::Buffer<std::byte> memory;
        explicit Arena(Size size) : size(size), memory(onward::Buffer<std::byte>::zeros(size)) {}
    };

    static constexpr size_t most_arenas = 64;
    onward::Reusable<Arena> arenas{most_arenas};
};

// What the plans of a program share.
struct Code {
    const std::shared_ptr<const onward::Program> core;
    Arenas arenas{};
};

// The steps of a program for the sizes of a call.
struct Plan {
    std::unique_ptr<onward::BoundPlan> core;
    std::shared_ptr<Code> code;
    bool is_allowed = false;         // whether calls may take so much memory and work
    bool has_fitted = false;         // whether arrays with these sizes fill the spaces

    // Runs all steps in an arena of this call. `spaces` holds the memory of all spaces except the first.
    void run(std::vector<std::byte*>& spaces) const {
        const auto run_in = [&](std::byte* arena) {
            spaces[0] = arena;
            core->plan.run(spaces.data(), 0, core->plan.size());
        };
        alignas(64) std::byte small[small_arena];
        if (core->arena_size <= small_arena) run_in(small);
        else code->arenas.with(core->arena_size, run_in);
    }

private:
    static constexpr Size small_arena = 4096;  // bytes on the stack
};

class Program {
public:
    Program(const In& words, const std::vector<nb::object>& weights);
    explicit Program(std::shared_ptr<const onward::Program> core);
    Program(const Program&) = delete;

    // Returns the plan for these sizes of the axes, or null if the program does not hold for them: because of its
    // guards or, unless `throws`, because a step does not accept its views. The most recent plans are kept; a new one
    // takes the memory of the oldest one, unless that is in use.
    std::shared_ptr<Plan> bind(const std::vector<Size>& axes, bool throws = false);

    Size size() const { return code->core->size(); }

private:
    static constexpr Size most_steps = 1024;  // of all plans, if there are more than 8
    // Calls that need more bytes or elementary operations ask Python first.
    static constexpr Size free_memory = Size(1) << 26, free_work = 10'000'000'000;

    // A plan that is kept. The hash of its sizes stands beside it, so that a search does not read the other plans.
    struct Kept {
        size_t hash;
        uint64_t used;  // when, counted in calls
        std::shared_ptr<Plan> plan;
    };

    // Keeps a plan in place of the one that was not used for longest, if there are many.
    void keep(size_t hash, std::shared_ptr<Plan> plan);
    std::vector<Kept>::iterator oldest();

    const std::shared_ptr<Code> code;
    const size_t most_plans;
    uint64_t calls = 0;
    std::vector<Kept> plans;
    nb::ft_mutex mutex;                        // the GIL takes its place where there is one
};

}  // namespace python
