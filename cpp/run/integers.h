// A matrix of bytes with zero points, applied to rows of bytes. All sums are exact.
#pragma once

#include <span>

#include "platform/packed.h"

namespace onward {

class IntegerMatrix {
public:
    // q (O, K) and the zero point of each row; numbers and zero points lie between -128 and 127.
    IntegerMatrix(const int8_t* q, const int32_t* zero_points, Size O, Size K);
    // Copies a row that consists of pieces of `length` bytes, and puts its header in front. The exclusive or of a byte
    // and `flip` is what the kernels store.
    void pack_row(const uint8_t* x, std::span<const Size> pieces, Size length, uint8_t flip, int zero_point,
                  int32_t* row) const;
    const Panels<float>& panels() const { return packed; }
    const ByteKernels& byte_kernels() const { return bytes; }

    const Size O, K;

private:
    const ByteKernels& bytes;
    const Packed<float> packed;
    const bool has_zero_points;  // whether any is not 0
};

}  // namespace onward
