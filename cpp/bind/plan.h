// A plan as a Python object, and the dtypes of its values.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "bind/arrays.h"
#include "run/plan.h"

namespace python {

using onward::DType;

constexpr std::pair<const char*, DType> dtypes[] = {
    {"float32", DType::float32}, {"float64", DType::float64}, {"int32", DType::int32}, {"int64", DType::int64},
    {"int8", DType::int8}, {"uint8", DType::uint8}, {"bool", DType::boolean},
};

struct Plan {
    onward::Plan core;
    std::vector<nb::object> weights;  // keeps alive the weights that the steps use

    explicit Plan(const std::vector<Size>& sizes) : core(sizes) {}
    Plan(const Plan&) = delete;

    // Runs all steps in an arena of this call. Concurrent calls use separate arenas, which later calls reuse.
    // `spaces` holds the memory of all spaces except the first.
    void run(std::vector<std::byte*>& spaces) {
        onward::Buffer<std::byte> arena = take_arena();
        spaces[0] = arena.data();
        struct Return {
            Plan& plan;
            onward::Buffer<std::byte>& arena;
            ~Return() {
                const std::lock_guard lock(plan.mutex);
                plan.arenas.push_back(std::move(arena));
            }
        } give_back{*this, arena};
        core.run(spaces.data(), 0, core.size());
    }

private:
    onward::Buffer<std::byte> take_arena() {
        {
            const std::lock_guard lock(mutex);
            if (!arenas.empty()) {
                onward::Buffer<std::byte> arena = std::move(arenas.back());
                arenas.pop_back();
                return arena;
            }
        }
        return onward::Buffer<std::byte>::zeros(core.sizes()[0]);
    }

    std::mutex mutex;
    std::vector<onward::Buffer<std::byte>> arenas;
};

}  // namespace python
