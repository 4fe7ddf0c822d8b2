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

void IntegerMatrix::pack_row(const uint8_t* x, std::span<const Size> pieces, Size length, uint8_t flip,
                             int zero_point, int32_t* row) const {
    uint8_t* const stored = (uint8_t*)row + sizeof(RowHeader);
    uint8_t* to = stored;
    const Size n = K;  // a local variable, which bytes cannot alias
    for (const Size piece : pieces) {
        if (length < 16)
            for (Size i = 0; i < length; i++) to[i] = x[piece + i];
        else
            std::memcpy(to, x + piece, length);
        to += length;
    }
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
    const RowHeader header{1, zero_point, sum};
    std::memcpy(row, &header, sizeof header);
}

}  // namespace onward
