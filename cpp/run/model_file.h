// Files of compiled models, .onward: programs for the calls and the blocks of a model, with their weights.
//
// All numbers are in little endian. A header of 64 bytes comes first: the signature (8 bytes), the version and the
// lanes that the programs permit (4 bytes each), the checksum of what follows it and the size of the file, and the
// offsets and sizes in bytes of the two sections (8 bytes each). The words, 8 bytes each, are what
// onward/formats/compiled/write.py writes; they refer to arrays in the data, which start at multiples of 64 bytes.
// Behind the data there may be records in JSON, such as the columns of a table, which the core does not read.
//
// Files are not trusted: a reader checks every number. What depends on the sizes of a call is checked when a program
// is bound to them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "run/calls.h"
#include "run/content.h"
#include "run/weights.h"

namespace onward {

// What a file that is damaged throws.
struct BadFile : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// An input or an output: an axis has a size, or is open (-1) and may have a name.
struct Port {
    struct Axis {
        Size size;
        std::string name;
    };
    std::string name;
    DType dtype;
    std::vector<Axis> axes;
    bool has_axes;  // otherwise, their number is open, too
};

// A graph with programs for some of its calls.
struct FileGraph {
    struct Compiled {
        Signature signature;
        const std::byte* constants;
        std::unique_ptr<const Program> program;
    };
    std::vector<Port> inputs, outputs;
    std::vector<Compiled> programs;
};

// Graphs over one block; the carries are their first inputs and outputs. An axis below 0 is one that an array does not
// have.
struct FileStream {
    struct Carry {
        CallArray initial;        // of one stream
        Size rows, time;        // its axes of the streams, and of what may vary in length
        bool has_any_shape;     // whether all axes may vary
    };
    struct Output {
        Size time, rows;
    };
    FileGraph graph;                  // of one stream
    std::optional<FileGraph> pooled;  // of several streams, unless `graph` runs any number of them
    std::optional<FileGraph> last;    // ends a sequence
    std::vector<Carry> carries;
    std::vector<Size> input_rows;   // below 0: streams run one after the other
    std::vector<Output> outputs;
    std::vector<Size> last_rows;    // of the outputs of `last`
    bool are_together;              // whether one run computes several streams
    Size time, rows;                // the axes of the only input of a sequence
    Size latency;
    bool every_step;                // whether each step completes a step of the outputs
    std::vector<Size> step_shape;
    std::string fingerprint;        // identifies the model in saved states

    const FileGraph& of_rows() const { return pooled ? *pooled : graph; }
};

class ModelFile {
public:
    static constexpr char signature[9] = "\x89onward\n";
    static constexpr uint32_t version = 6, lanes = 16;
    static constexpr Size header = 64, alignment = 64;

    // Throws BadFile and NotReadable.
    explicit ModelFile(const Content& content);
    ModelFile(const ModelFile&) = delete;

    std::optional<FileGraph> calls;
    std::optional<FileStream> stream;

private:
    std::vector<std::unique_ptr<KeptWeights>> weights;
    std::vector<Buffer<std::byte>> arrays;  // of the programs, unless the content stays
};

}  // namespace onward
