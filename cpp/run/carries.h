// What streams carry from block to block, by the id of the stream.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "run/cut.h"

namespace onward {

// The shapes of what a stream carries depend on its phase. Streams with the same shapes are alike, and run together: a
// call takes an array with a row for each of them.
class Carries {
public:
    // Below 0, `rows` means that there is no axis for rows: the streams run one after the other.
    struct Kind {
        Size itemsize, rows;
    };
    using Shapes = std::vector<Axes>;  // of the carries of one stream

    // `initial` holds the values at the start of a sequence, which must outlive the object.
    Carries(std::vector<Kind> kinds, Shapes shapes, std::vector<const std::byte*> initial);
    Carries(const Carries&) = delete;

    size_t size() const { return kinds.size(); }
    const Kind& kind(size_t carry) const { return kinds[carry]; }
    void set_axes(const std::vector<Size>& rows);

    // Makes room for the ids below `capacity`. New streams are at the start of a sequence.
    void reserve(Size capacity);
    void reset(int64_t id) { rows[size_t(id)] = {}; }
    const Shapes& initial_shapes() const { return start; }
    const Shapes& shapes(int64_t id) const { return shapes(rows[size_t(id)]); }
    bool are_alike(int64_t id, int64_t other) const;
    bool are_alike(std::span<const int64_t> ids) const;

    // Copies a carry of streams that are alike to an array with a row for each; without ids, that of the start.
    void gather(std::span<const int64_t> ids, size_t carry, std::byte* to) const;

    // A change consists of new values for some streams: add() makes room for those of streams that are alike, fill()
    // stores them, and exchange() makes them the present ones. A second exchange undoes the change. Threads may fill
    // different rows at once, which are numbered in the order in which they were added.
    void begin();
    // Returns the number of the first row. `shapes` are those of arrays with a row for each id. Throws
    // std::invalid_argument, and adds nothing, if an array has no such rows.
    size_t add(std::span<const int64_t> ids, Shapes shapes);
    void fill(size_t first, size_t n, size_t carry, const std::byte* from);
    void exchange();
    void clear() { changed.clear(), replaced.clear(); }

private:
    // What a stream carries.
    struct Row {
        std::shared_ptr<const Shapes> shapes;  // null: as at the start of a sequence
        std::unique_ptr<std::byte[]> memory;   // the values, one after the other; null: likewise
        Size bytes = 0;
    };

    const Shapes& shapes(const Row& row) const { return row.shapes ? *row.shapes : start; }
    Cut cut(const Axes& shape, size_t carry) const { return {shape, kinds[carry].rows, kinds[carry].itemsize}; }
    // Where a carry starts in the values of a row.
    Size offset(const Shapes& shapes, size_t carry) const;

    std::vector<Kind> kinds;
    const Shapes start;
    const std::vector<const std::byte*> initial;
    std::vector<Row> rows;
    std::vector<int64_t> changed;  // the ids of a change
    std::vector<Row> replaced;     // their new rows, and after exchange() the old ones
    std::vector<Row> spare;        // of the change before
};

}  // namespace onward
