// How the rows of an array lie in memory.
#pragma once

#include <cstring>

#include "run/view.h"

namespace onward {

// Along an axis of a contiguous array, each row consists of so many parts of adjacent bytes.
struct Cut {
    Size parts = 1, bytes;

    // The sizes along the other axes decide. Below 0, there is no axis: the array is a single row.
    template <class Shape>
    Cut(const Shape& shape, Size axis, Size itemsize) : bytes(itemsize) {
        for (Size i = 0; i < Size(shape.size()); i++)
            if (i != axis) (i < axis ? parts : bytes) *= shape[i];
    }

    Size row() const { return parts * bytes; }

    // A place in an array: row `first` of n.
    template <class Byte>
    struct Place {
        Byte* array;
        Size first, n;
    };

    void copy(const Place<std::byte>& to, const Place<const std::byte>& from, Size rows) const {
        for (Size part = 0; part < parts; part++)
            std::memcpy(to.array + (part * to.n + to.first) * bytes, from.array + (part * from.n + from.first) * bytes,
                        size_t(rows * bytes));
    }
};

}  // namespace onward
