// The plans of a program for the sizes of recent calls, and the search for the one that fits the inputs of a call.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "run/calls.h"

namespace onward {

// Keeps the most recent plans of a program. A new one takes the memory of the oldest one, unless that is in use. A Lock
// protects the list where several threads use it. `Plan` is a BoundPlan.
template <class Plan, class Mutex, class Lock>
class RecentPlans {
public:
    RecentPlans(const Program& program, size_t most) : program(program), plans(most) {}

    // Returns the plan for these sizes of the axes. If there is none yet, bind(plan) makes it. That returns false or
    // throws if the program does not hold for the sizes: then this returns null or, if `throws`, throws the same.
    template <class Bind>
    std::shared_ptr<Plan> find(const std::vector<Size>& axes, bool throws, const Bind& bind) {
        size_t hash = 0;
        for (const Size size : axes) hash = hash * 0x9e3779b97f4a7c15 + size_t(size);
        Kept* place;
        Kept kept;
        {
            const Lock lock(mutex);
            calls++;
            for (Kept& known : plans)
                if (known.hash == hash && known.is_bound && known.plan->axes == axes) {
                    known.used = calls;
                    return known.plan;
                }
            place = &*std::ranges::min_element(plans, {}, &Kept::used);
            kept = std::exchange(*place, {hash, calls, false, nullptr});
        }
        if (kept.plan.use_count() == 1) std::atomic_thread_fence(std::memory_order_acquire);  // after its last call
        else kept = {hash, 0, false, std::make_shared<Plan>(program.kernels)};
        bool holds = false;
        try {
            holds = bind(*kept.plan);
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception&) {  // a view does not fit: another program is needed, whose compiler tells why
            if (throws) throw;
            kept.is_bound = false;
        }
        const Lock lock(mutex);
        if (holds) kept.hash = hash, kept.used = calls, kept.is_bound = true;
        *place = kept;
        return holds ? std::move(kept.plan) : nullptr;
    }

    // Reserves memory, so that later plans that are no larger than the one for these sizes allocate nothing.
    void reserve(const std::vector<Size>& axes) {
        for (Kept& kept : plans) {
            if (kept.is_bound && kept.plan->axes == axes) continue;
            if (!kept.plan) kept.plan = std::make_shared<Plan>(program.kernels);
            kept.is_bound = false, kept.used = 0;
            program.bind(axes, *kept.plan);
        }
    }

private:
    // The hash of the sizes stands beside a plan, so that a search does not read the others.
    struct Kept {
        size_t hash = 0;
        uint64_t used = 0;  // when, counted in calls
        bool is_bound = false;
        std::shared_ptr<Plan> plan;
    };

    const Program& program;
    uint64_t calls = 0;
    std::vector<Kept> plans;
    Mutex mutex;
};

// Returns the plan for the inputs of a call, or null: that of the first program, from `number` on, that accepts them
// and has one; bind(number, axes) returns it. `number` becomes that of this program, and `axes` the sizes of its axes.
template <class Programs, class Inputs, class Bind>
auto find_plan(const Programs& programs, const Inputs& inputs, size_t& number, std::vector<Size>& axes,
               const Bind& bind) -> decltype(bind(number, axes)) {
    for (size_t tried = 0; tried < programs.size(); tried++, number++) {
        if (number >= programs.size()) number = 0;
        const Signature& signature = programs[number].signature;
        if (!signature.accepts(inputs, axes)) continue;
        auto plan = bind(number, axes);
        if (!plan) continue;
        if (!plan->has_fitted) plan->has_fitted = signature.fits(*plan, inputs);
        if (plan->has_fitted) return plan;
    }
    return nullptr;
}

}  // namespace onward
