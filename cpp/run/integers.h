// A matrix of bytes with zero points, applied to rows of bytes. All sums are exact.
#pragma once

#include "platform/packed.h"

namespace onward {

class IntegerMatrix {
public:
    // q (O, K) and the zero point of each row; numbers and zero points lie between -128 and 127.
    IntegerMatrix(const int8_t* q, const int32_t* zero_points, Size O, Size K);
    // Copies a row, given in pieces of `length` bytes, in front of which its header goes. `flip` is added to each byte,
    // modulo 256, to obtain how the kernels store it.
    void pack_row(const uint8_t* x, const std::vector<Size>& pieces, Size length, uint8_t flip, int zero_point,
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
