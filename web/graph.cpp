// The interface of the core for JavaScript: programs of whole models.
//
// A graph holds the packed weights and the programs of one file. The words that describe them are checked here and
// in Program, and so is the size of every array.
#include <emscripten.h>

#include "platform/dispatch.h"
#include "run/program.h"
#include "run/weights.h"

using namespace onward;

namespace {

std::string message;            // describes the last error
constexpr Size alignment = 64;  // of spaces in bytes
constexpr Size most = 1 << 30;  // bytes of all spaces

// A program, and the memory of its plan for the sizes that it is bound to.
struct ProgramInMemory {
    const Program program;
    BoundPlan bound{program.kernels};
    Buffer<std::byte> memory;
    Size capacity = 0;
    std::vector<std::byte*> spaces;

    ProgramInMemory(const int64_t* words, Size n, const std::vector<PackedWeights>& weights)
        : program(words, n, weights) {}

    bool bind(const std::vector<Size>& axes) {
        if (!program.bind(axes, bound)) return false;
        Size total = 0;
        for (const Size size : bound.plan.sizes())
            if (size < 0 || size > most || (total += padded(size)) > most) throw std::bad_alloc();
        if (total > capacity) memory = Buffer<std::byte>::zeros(total), capacity = total;
        std::byte* space = memory.data();
        spaces.clear();
        for (const Size size : bound.plan.sizes()) spaces.push_back(space), space += padded(size);
        return true;
    }

    static Size padded(Size size) { return (size + alignment - 1) / alignment * alignment; }
};

struct Graph {
    std::vector<std::unique_ptr<KeptWeights>> weights;
    std::vector<std::unique_ptr<ProgramInMemory>> programs;
};

// Returns what f(data) returns, or -1 if it throws.
int caught(int (*f)(void*), void* data) {
    try {
        return f(data);
    } catch (const std::bad_alloc&) {
        message = "out of memory";
    } catch (const std::exception& error) {
        message = error.what();
    }
    return -1;
}

template <class Function>
int guarded(Function f) {
    return caught([](void* data) { return (*(Function*)data)(); }, &f);
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

// Returns the number of the program, or -1.
EMSCRIPTEN_KEEPALIVE int graph_add_program(Graph* graph, const int64_t* first, int n) {
    return guarded([&] {
        graph->programs.push_back(std::make_unique<ProgramInMemory>(first, n, packed(graph->weights)));
        return int(graph->programs.size()) - 1;
    });
}

// Returns 1, 0 if the program does not hold for these sizes of its axes, or -1.
EMSCRIPTEN_KEEPALIVE int program_bind(const Graph* graph, int program, const Size* axes, int n) {
    return guarded([&] { return int(graph->programs[program]->bind({axes, axes + n})); });
}

// The size of an axis of an output, or -1 behind the last one.
EMSCRIPTEN_KEEPALIVE int program_output(const Graph* graph, int program, int output, int axis) {
    const std::vector<Axes>& outputs = graph->programs[program]->bound.outputs;
    return output < int(outputs.size()) && axis < int(outputs[output].size()) ? int(outputs[output][axis]) : -1;
}

// The address of a space of a program: 0 is the arena, 1 holds the constants; the inputs and then the outputs follow.
// Returns -1 if there is no such space of this size.
EMSCRIPTEN_KEEPALIVE int program_space(const Graph* graph, int program, int space, int size) {
    const ProgramInMemory& p = *graph->programs[program];
    const std::vector<Size>& sizes = p.bound.plan.sizes();
    return space < int(sizes.size()) && sizes[space] == size ? int(intptr_t(p.spaces[space])) : -1;
}

// Returns 0, or -1.
EMSCRIPTEN_KEEPALIVE int program_run(const Graph* graph, int program) {
    return guarded([&] {
        const ProgramInMemory& p = *graph->programs[program];
        p.bound.plan.run(p.spaces.data(), 0, p.bound.plan.size());
        return 0;
    });
}
}
