// A matrix of bytes with zero points, applied to rows of bytes. All sums are exact.
#pragma once

#include <span>

#include "platform/packed.h"

namespace onward {

// Rows that consist of pieces of `length` bytes, with one zero point or one for each row.
struct ByteRows {
    const uint8_t* x;
    const Size* places;
    Size count;
    std::span<const Size> pieces;
    Size length;
    bool is_unsigned;
    const uint8_t* zero_points;
    bool has_zero_point_per_row;
};

class IntegerMatrix {
public:
    // q (O, K) and the zero point of each row; numbers and zero points lie between -128 and 127.
    IntegerMatrix(const int8_t* q, const int32_t* zero_points, Size O, Size K);
    // Copies rows as the kernels store them, each behind its header.
    void pack(const ByteRows& rows, int32_t* packed) const;
    const Panels<float>& panels() const { return packed; }
    const ByteKernels& byte_kernels() const { return bytes; }

    const Size O, K;

private:
    const ByteKernels& bytes;
    const Packed<float> packed;
    const bool has_zero_points;  // whether any is not 0
};

}  // namespace onward
