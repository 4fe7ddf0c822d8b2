// Aligned memory, and matrices packed in panels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "kernels/kernels.h"
#include "platform/large_pages.h"

namespace onward {

constexpr Size ceil_div(Size a, Size b) { return (a + b - 1) / b; }

// Uninitialized memory, aligned to a cache line.
template <class Real>
class Buffer {
public:
    explicit Buffer(Size n = 0) : data_(n ? new (std::align_val_t(64)) Real[n] : nullptr) {
        prefer_large_pages(data(), size_t(n) * sizeof(Real));
    }
    static Buffer zeros(Size n) {
        Buffer buffer(n);
        std::fill_n(buffer.data(), n, Real(0));
        return buffer;
    }
    Real* data() const { return data_.get(); }

private:
    struct Delete {
        void operator()(Real* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    std::unique_ptr<Real, Delete> data_;
};

// Memory that grows.
class Growing {
public:
    // Makes room for this many bytes. The values are lost if it grows.
    std::byte* at_least(Size bytes);
    std::byte* data() const { return memory.data(); }

private:
    Buffer<std::byte> memory;
    Size size = 0;
};

// An unpacked matrix in row-major order, with a scale for each row if its format is int8 or dynamic, and a zero point
// for each row if its format is integer or dynamic.
template <class Real>
struct Matrix {
    Format format = Format::native;
    const void* numbers = nullptr;  // null: no matrix
    const Real* scale = nullptr;
    const int32_t* zero_points = nullptr;
    Size taps = 1;  // of a convolution: numbers are [rows][columns / taps][taps], and columns are packed tap by tap
};

// G gates of a matrix (.., K), starting with gate `first`, N rows each: packed panels and their memory.
template <class Real>
struct Packed : Panels<Real> {
    Packed() = default;
    Packed(const Matrix<Real>& matrix, const Real* bias, Size first, Size G, Size N, Size K, Size L);
    // The transpose of the given gates of a matrix (.., N), H rows each. Its K axis is the gates in that order, each
    // padded with zeros to whole blocks.
    static Packed transposed(const Real* matrix, const std::vector<int>& gates, Size H, Size N, Size L);

private:
    WeightMemory weights_memory, constants_memory;
};

}  // namespace onward
