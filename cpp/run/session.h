// Calls and streams of a compiled model, without Python.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "run/carries.h"
#include "run/file_calls.h"

namespace onward {

// An output of a call: its memory is that of the caller, or of the session until its next call.
struct Result {
    DType dtype;
    Axes shape;
    std::byte* data;
    Size bytes;
};

// Where a caller wants an output; null: in memory of the session.
struct Target {
    std::byte* data;
    Size bytes;
};

// A session is used by one thread at a time; sessions of a file are independent.
class Session {
public:
    enum class Mode { call, stream, pool };

    // Runs calls, the blocks of one stream, or those of `capacity` streams with the ids from 0 on. The file must
    // outlive the session. Throws BadCall if the file does not hold the programs.
    Session(const ModelFile& file, Mode mode, Size capacity = 1);

    // Each of these returns the outputs in order. One that throws changes no stream.
    std::span<const Result> run(std::span<const CallArray> inputs, std::span<const Target> targets);
    // In a pool, the inputs and the outputs have a row for each id.
    std::span<const Result> step(std::span<const int64_t> ids, std::span<const CallArray> inputs,
                                 std::span<const Target> targets);
    // Ends the sequence of a stream: the steps that remain.
    std::span<const Result> finish(int64_t id, std::span<const Target> targets);

    // Runs calls with zeros of these shapes, which allocate the memory of later calls that are no larger.
    void reserve(std::span<const CallArray> inputs);

    void reset(int64_t id);
    // The state of a stream in bytes.
    Size state_size(int64_t id) const;
    void save(int64_t id, std::span<std::byte> to) const;
    // Throws BadFile, and leaves the state as it is, if it is damaged or of another model.
    void restore(int64_t id, std::span<const std::byte> from);

    const Mode mode;
    const Size capacity;
    const FileGraph& graph() const { return calls.graph; }

private:
    // These throw BadCall if there is no stream with this id, and if its sequence has ended.
    void check(int64_t id) const;
    void check_continues(int64_t id) const;
    const FileStream& model() const { return *file.stream; }
    void check(std::span<const CallArray> inputs, size_t count) const;
    Size rows_of(std::span<const CallArray> inputs) const;
    std::vector<std::vector<CallArray>> smaller(std::span<const CallArray> inputs) const;
    void reserve_parts(std::span<const CallArray> inputs, std::span<const Result> outputs);
    void visit(const std::vector<std::vector<CallArray>>& sizes, std::span<const int64_t> ids);
    void run_rows(FileCalls& calls, std::span<const int64_t> ids, Size first, Size rows,
                  std::span<const CallArray> inputs, std::span<const Target> targets);
    std::span<const Result> run_block(FileCalls& calls, int64_t id, std::span<const CallArray> inputs,
                                      std::span<const Target> targets);
    void store(size_t number, const std::byte* from, Size first, Size rows, Size n) const;
    CallArray carried(size_t carry, std::span<const int64_t> ids);
    CallArray part_of(size_t input, const CallArray& whole, Size first, Size rows, Size n);
    Result& prepare(size_t i, DType dtype, const Axes& shape, const Target& target);

    const ModelFile& file;
    FileCalls calls;
    std::optional<FileCalls> last;
    Carries carries;
    Carries::Shapes shapes;                  // of what some streams carry after a call
    std::vector<char> have_ended, are_used;  // sequences, by id; ids, in a call
    std::vector<Growing> carried_memory, result_memory, part_memory;
    std::vector<Result> results;
    std::vector<CallArray> operands;
    std::vector<std::byte*> outputs;
};

}  // namespace onward
