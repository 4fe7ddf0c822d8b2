// Programs, and plans of them for the sizes of a call, as Python objects.
#pragma once

#include <memory>
#include <vector>

#include "bind/arrays.h"
#include "platform/reuse.h"
#include "run/names.h"
#include "run/recent_plans.h"

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

// The steps of a program for the sizes of a call.
struct Plan : onward::BoundPlan {
    using BoundPlan::BoundPlan;
    // Sets the spaces of the joined arrays to their places in the arena.
    void place_joined(std::vector<std::byte*>& spaces) const {
        std::byte* place = spaces[0] + arena_size;
        for (size_t space = spaces.size(); space-- > spaces.size() - joined;)
            spaces[space] = place -= in_lines(plan.sizes()[space]);
    }

    // The bytes of the cache lines that an array takes.
    static Size in_lines(Size bytes) { return onward::ceil_div(bytes, line) * line; }

    size_t joined = 0;        // arrays that are the last outputs of the program, and of no call; they end the arena
    bool is_allowed = false;  // whether calls may take so much memory and work
    nb::object views;         // `locations` for Python, once it has asked for them
    nb::ft_mutex mutex;       // of the views
};

class Program {
public:
    Program(const In& words, const std::vector<nb::object>& weights, size_t joined);
    explicit Program(std::shared_ptr<const onward::Program> core, size_t joined = 0);
    Program(const Program&) = delete;

    // Returns the plan for these sizes of the axes, or null if the program does not hold for them: because of its
    // guards or, unless `throws`, because a step does not accept its views.
    std::shared_ptr<Plan> bind(const std::vector<Size>& axes, bool throws = false);

    // Runs all steps of a plan in an arena of this call. `spaces` holds the memory of all spaces except the first and
    // those of the joined arrays, which place() may move elsewhere.
    template <class Place>
    void run(const Plan& plan, std::vector<std::byte*>& spaces, const Place& place) const {
        const auto run_in = [&](std::byte* arena) {
            spaces[0] = arena;
            plan.place_joined(spaces);
            place();
            plan.plan.run(spaces.data(), 0, plan.plan.size());
        };
        alignas(64) std::byte small[small_arena];
        if (plan.arena_size <= small_arena) run_in(small);
        else arenas.with(plan.arena_size, run_in);
    }

    Size size() const { return core->size(); }

private:
    static constexpr Size small_arena = 4096;  // bytes on the stack
    static constexpr Size most_steps = 1024;   // of all plans, if there are more than 8
    // Calls that need more bytes or elementary operations ask Python first.
    static constexpr Size free_memory = Size(1) << 26, free_work = 10'000'000'000;

    const std::shared_ptr<const onward::Program> core;
    const size_t joined;
    onward::RecentPlans<Plan, nb::ft_mutex, nb::ft_lock_guard> plans;  // the GIL is the lock where there is one
    mutable Arenas arenas;
};

}  // namespace python
