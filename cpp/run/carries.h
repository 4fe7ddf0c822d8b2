// What streams carry from block to block, by the id of the stream.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "platform/packed.h"
#include "run/cut.h"

namespace onward {

// The shapes of what a stream carries depend on its phase. Streams with the same shapes are alike, and run together: a
// call takes an array with a row for each of them.
class Carries {
public:
    // The shape and the values are those of one stream at the start of a sequence; the values must outlive the object.
    // Below 0, `rows` means that there is no axis for rows: the streams run one after the other.
    struct Kind {
        Size itemsize, rows;
        Axes shape;
        const std::byte* initial;
    };
    using Shapes = std::vector<Axes>;  // of the carries of one stream

    Carries(std::vector<Kind> kinds, Size capacity);
    Carries(const Carries&) = delete;

    size_t size() const { return kinds.size(); }
    const Kind& kind(size_t carry) const { return kinds[carry]; }
    void set_axes(const std::vector<Size>& rows);

    // Makes room for the ids below `capacity`. New streams are at the start of a sequence.
    void reserve(Size capacity);
    // Starts another sequence; the stream keeps its memory.
    void reset(int64_t id) { rows[size_t(id)].now.shapes.reset(); }
    // Starts another sequence, and frees the memory of the stream.
    void release(int64_t id) { rows[size_t(id)] = {}; }

    const Shapes& initial_shapes() const { return start; }
    const Shapes& shapes(int64_t id) const { return shapes(rows[size_t(id)].now); }
    bool are_alike(int64_t id, int64_t other) const;
    bool are_alike(std::span<const int64_t> ids) const;

    // A carry of one stream.
    const std::byte* values(int64_t id, size_t carry) const;
    // Copies a carry of streams that are alike to an array with a row for each; without ids, that of the start.
    void gather(std::span<const int64_t> ids, size_t carry, std::byte* to) const;

    // A change consists of new values for some streams: add() makes room for those of streams that are alike, fill()
    // or the caller stores them, and exchange() makes them the present ones. A second exchange undoes the change.
    // Threads may store values of different streams at once.
    void begin() { changed.clear(); }
    // `shapes` are those of arrays with a row for each id; they become those of one row. Throws std::invalid_argument,
    // and adds nothing, if an array has no such rows.
    void add(std::span<const int64_t> ids, Shapes& shapes);
    std::byte* next_values(int64_t id, size_t carry);
    void fill(std::span<const int64_t> ids, size_t carry, const std::byte* from);
    void exchange();

private:
    struct State {
        std::shared_ptr<const Shapes> shapes;  // null: as at the start of a sequence, with its values
        Growing memory;                        // the values, one after the other
    };
    // What a stream carries now, and after a call.
    struct Row {
        State now, next;
    };

    const Shapes& shapes(const State& state) const { return state.shapes ? *state.shapes : start; }
    // Returns equal shapes that a stream had recently, or a copy of these.
    const std::shared_ptr<const Shapes>& shared(const Shapes& shapes);
    Cut cut(const Axes& shape, size_t carry) const { return {shape, kinds[carry].rows, kinds[carry].itemsize}; }
    // Where a carry starts in the values of a state; for the number of carries, how many bytes there are.
    Size offset(const Shapes& shapes, size_t carry) const;

    std::vector<Kind> kinds;
    Shapes start;
    std::vector<Row> rows;
    std::vector<int64_t> changed;  // the ids of a change
    std::array<std::shared_ptr<const Shapes>, 64> recent;
    size_t oldest = 0;  // counts the shapes that were added
};

}  // namespace onward
