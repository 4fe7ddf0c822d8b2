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

typedef uint8_t Bytes __attribute__((vector_size(16)));

// Copies rows, and calls header(row, to) for each. What is stored is the exclusive or of a byte and `flip`. The bytes
// move in chunks, of which the last two of a piece may overlap.
template <class Chunk, class Header>
void copy_rows(const ByteRows& rows, uint8_t flip, int32_t* packed, Size stride, Header header) {
    constexpr Size size = sizeof(Chunk);
    Chunk flips;
    std::memset(&flips, flip, size);
    const Size length = rows.length, rest = length % size, count = rows.count;
    const std::span<const Size> pieces = rows.pieces;
    for (Size row = 0; row < count; row++, packed += stride) {
        uint8_t* to = (uint8_t*)packed + sizeof(RowHeader);
        auto copy = [&](const uint8_t* from, Size i) {
            Chunk chunk;
            std::memcpy(&chunk, from + i, size);
            chunk ^= flips;
            std::memcpy(to + i, &chunk, size);
        };
        const uint8_t* const x = rows.x + rows.places[row];
        for (const Size piece : pieces) {
            const uint8_t* const from = x + piece;
            for (Size i = 0; i + size <= length; i += size) copy(from, i);
            if (rest) copy(from, length - size);
            to += length;
        }
        header(row, *(RowHeader*)packed);
    }
}

}  // namespace

void IntegerMatrix::pack(const ByteRows& rows, int32_t* packed) const {
    const uint8_t flip = rows.is_unsigned == (bytes.offset == 128) ? 0 : 128;
    auto header = [&](Size row, RowHeader& to) {
        const uint8_t zero = rows.zero_points[rows.has_zero_point_per_row ? row : 0];
        int32_t sum = 0;
        if (has_zero_points) {
            const uint8_t* const stored = (const uint8_t*)(&to + 1);
            if (bytes.offset)
                for (Size k = 0; k < K; k++) sum += stored[k];
            else
                for (Size k = 0; k < K; k++) sum += int8_t(stored[k]);
            sum -= int32_t(bytes.offset * K);
        }
        // its numbers are stored one by one: joining them first would take longer
        to.scale = 1, to.zero_point = rows.is_unsigned ? zero - 128 : int8_t(zero), to.sum = sum;
    };
    const Size stride = this->packed.quantized_size;
    if (rows.length >= 16)
        copy_rows<Bytes>(rows, flip, packed, stride, header);
    else if (rows.length >= 8)
        copy_rows<uint64_t>(rows, flip, packed, stride, header);
    else if (rows.length >= 4)
        copy_rows<uint32_t>(rows, flip, packed, stride, header);
    else
        copy_rows<uint8_t>(rows, flip, packed, stride, header);
}

}  // namespace onward
