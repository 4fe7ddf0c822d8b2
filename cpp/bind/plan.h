// A plan as a Python object.
#pragma once

#include <vector>

#include "bind/arrays.h"
#include "platform/reuse.h"
#include "run/names.h"
#include "run/plan.h"

namespace python {

using onward::DType;

struct Plan {
    onward::Plan core;
    std::vector<nb::object> weights;  // keeps alive the weights that the steps use

    explicit Plan(const std::vector<Size>& sizes) : core(sizes) {}
    Plan(const Plan&) = delete;

    // Runs all steps in an arena of this call. Concurrent calls use separate arenas, which later calls reuse.
    // `spaces` holds the memory of all spaces except the first.
    void run(std::vector<std::byte*>& spaces) {
        auto unused = arenas.take([](const auto&) { return true; });
        struct Return {
            Plan& plan;
            onward::Buffer<std::byte> arena;
            ~Return() { plan.arenas.give(std::move(arena)); }
        } call{*this, unused ? std::move(*unused) : onward::Buffer<std::byte>::zeros(core.sizes()[0])};
        spaces[0] = call.arena.data();
        core.run(spaces.data(), 0, core.size());
    }

private:
    static constexpr size_t most_arenas = 64;
    onward::Reusable<onward::Buffer<std::byte>> arenas{most_arenas};
};

}  // namespace python
