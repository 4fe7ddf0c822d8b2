// Packs matrices of bytes and the rows that they multiply.
#include "run/integers.h"

#include <algorithm>
#include <cstring>

#include "platform/dispatch.h"

namespace onward {

IntegerMatrix::IntegerMatrix(const int8_t* q, const int32_t* zero_points, Size O, Size K)
    : O(O), K(K), bytes(selected().bytes),
      packed({Format::integer, q, nullptr, zero_points}, nullptr, 0, 1, O, K, kernels<float>().L),
      has_zero_points(std::any_of(zero_points, zero_points + O, [](int32_t z) { return z != 0; })) {}

namespace {

// Pieces of four bytes are frequent: a pixel, or a step, of few channels.
uint8_t* copy_piece(uint8_t* to, const uint8_t* x, Size length) {
    if (length == 4)
        std::memcpy(to, x, 4);
    else if (length < 16)
        for (Size i = 0; i < length; i++) to[i] = x[i];
    else
        std::memcpy(to, x, length);
    return to + length;
}

}  // namespace

void IntegerMatrix::pack_row(const uint8_t* x, std::span<const Size> pieces, Size length, uint8_t flip,
                             int zero_point, int32_t* row) const {
    uint8_t* const stored = (uint8_t*)row + sizeof(RowHeader);
    uint8_t* to = stored;
    const Size n = K;  // a local variable, which bytes cannot alias
    for (const Size piece : pieces) to = copy_piece(to, x + piece, length);
    if (flip)
        for (Size k = 0; k < n; k++) stored[k] ^= flip;
    int32_t sum = 0;
    if (has_zero_points) {
        if (bytes.offset)
            for (Size k = 0; k < n; k++) sum += stored[k];
        else
            for (Size k = 0; k < n; k++) sum += int8_t(stored[k]);
        sum -= int32_t(bytes.offset * n);
    }
    auto& header = *(RowHeader*)row;  // its numbers are stored one by one: joining them first would take longer
    header.scale = 1, header.zero_point = zero_point, header.sum = sum;
}

}  // namespace onward
