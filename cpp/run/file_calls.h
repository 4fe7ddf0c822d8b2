// Calls of a graph in a file: plans for the sizes of the most recent ones, and their memory.
#pragma once

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "run/model_file.h"
#include "run/recent_plans.h"

namespace onward {

// What arguments throw that the model does not take.
struct BadCall : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// What arguments throw for which the file has no program.
struct NoProgram : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The shape and the dtype of an array, for messages.
std::string described(const CallArray& array);

class FileCalls {
public:
    explicit FileCalls(const FileGraph& graph) : graph(graph), plans(graph.programs.begin(), graph.programs.end()) {}

    // Finds the plan for inputs. Throws NoProgram, and std::bad_alloc if it would need too much memory.
    const BoundPlan& find(std::span<const CallArray> inputs);
    // Runs the plan that was found. Throws what its steps throw.
    void run(std::span<const CallArray> inputs, std::span<std::byte* const> outputs);
    // Makes room for the plans of other calls, which are no larger than the one that was found.
    void reserve();

    const Signature& signature() const { return graph.programs[number].signature; }

    const FileGraph& graph;

private:
    static constexpr size_t most_plans = 5;             // of a program
    static constexpr Size most_memory = Size(1) << 32;  // bytes of a call

    // One thread uses the plans, so that nothing protects them.
    struct Mutex {};
    struct Lock {
        explicit Lock(Mutex&) {}
    };
    struct Plans : RecentPlans<BoundPlan, Mutex, Lock> {
        explicit Plans(const FileGraph::Compiled& compiled) : RecentPlans(*compiled.program, most_plans) {}
    };

    [[noreturn]] void refuse(std::span<const CallArray> inputs) const;

    std::vector<Plans> plans;  // of each program
    size_t number = 0;         // of the program that the last call found
    std::shared_ptr<BoundPlan> plan;
    Growing arena;
    std::vector<std::byte*> spaces;
    std::vector<Size> axes;
};

}  // namespace onward
