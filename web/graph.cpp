// The interface of the core for JavaScript: plans of whole models.
//
// A graph holds the packed weights and the plans of one file. The words that describe them are checked here and in
// Program, and so is the size of every array.
#include <emscripten.h>

#include "platform/dispatch.h"
#include "run/program.h"
#include "run/weights.h"

using namespace onward;

namespace {

std::string message;  // describes the last error

struct PlanInMemory {
    const Program program;
    const std::unique_ptr<BoundPlan> bound = program.unbound();
    std::vector<Buffer<std::byte>> memory;
    std::vector<std::byte*> spaces;

    PlanInMemory(const int64_t* words, Size n, const std::vector<PackedWeights>& weights) : program(words, n, weights) {
        if (!program.bind({}, *bound)) throw std::invalid_argument("the guards of a program do not hold");
        for (const Size size : bound->plan.sizes()) {
            if (size < 0) throw std::out_of_range("a space has a negative size");
            memory.push_back(Buffer<std::byte>::zeros(size));
            spaces.push_back(memory.back().data());
        }
    }
};

struct Graph {
    std::vector<std::unique_ptr<KeptWeights>> weights;
    std::vector<std::unique_ptr<PlanInMemory>> plans;
};

// Returns what f returns, or -1 if it throws.
template <class Function>
int guarded(Function f) {
    try {
        return f();
    } catch (const std::bad_alloc&) {
        message = "out of memory";
    } catch (const std::exception& error) {
        message = error.what();
    }
    return -1;
}

}  // namespace

extern "C" {

EMSCRIPTEN_KEEPALIVE const char* error_message() { return message.c_str(); }

EMSCRIPTEN_KEEPALIVE int lanes() { return int(kernels<float>().L); }

EMSCRIPTEN_KEEPALIVE Graph* graph_new() { return new Graph; }

EMSCRIPTEN_KEEPALIVE void graph_free(Graph* graph) { delete graph; }

// Packs weights of `count` arrays, which are not needed any more afterwards. Returns their number, or -1.
EMSCRIPTEN_KEEPALIVE int graph_add_weights(Graph* graph, const int64_t* first, int n, const Array* arrays, int count) {
    return guarded([&] {
        Words words(first, n);
        words.arrays.assign(arrays, arrays + count);
        graph->weights.push_back(pack_weights(words));
        return int(graph->weights.size()) - 1;
    });
}

// Returns the number of the plan, or -1.
EMSCRIPTEN_KEEPALIVE int graph_add_plan(Graph* graph, const int64_t* first, int n) {
    return guarded([&] {
        graph->plans.push_back(std::make_unique<PlanInMemory>(first, n, packed(graph->weights)));
        return int(graph->plans.size()) - 1;
    });
}

// The address of a space of a plan: 0 is the arena, 1 holds the constants; the inputs and then the outputs follow.
// Returns -1 if there is no such space of this size.
EMSCRIPTEN_KEEPALIVE int plan_space(const Graph* graph, int plan, int space, int size) {
    const std::vector<Size>& sizes = graph->plans[plan]->bound->plan.sizes();
    return space < int(sizes.size()) && sizes[space] == size ? int(intptr_t(graph->plans[plan]->spaces[space])) : -1;
}

// Returns 0, or -1.
EMSCRIPTEN_KEEPALIVE int plan_run(const Graph* graph, int plan) {
    return guarded([&] {
        const PlanInMemory& p = *graph->plans[plan];
        p.bound->plan.run(p.spaces.data(), 0, p.bound->plan.size());
        return 0;
    });
}
}
