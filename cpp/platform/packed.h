// Aligned memory, and matrices packed in panels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "kernels/kernels.h"

namespace onward {

constexpr Size ceil_div(Size a, Size b) { return (a + b - 1) / b; }

// Memory at a cache line's boundary.
template <class Real>
class Buffer {
public:
    explicit Buffer(Size n = 0) : data_(n ? new (std::align_val_t(64)) Real[n] : nullptr) {}
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

// A matrix as it comes, its rows one after another: numbers of a format and, of bytes, a scale for each row.
template <class Real>
struct Matrix {
    Format format = Format::native;
    const void* numbers = nullptr;  // null: there is none
    const Real* scale = nullptr;
};

// Rows of a matrix (G*N, K), from the gate `first` on, packed in panels, with the memory that they point to.
template <class Real>
struct Packed : Panels<Real> {
    Packed() = default;
    Packed(const Matrix<Real>& matrix, const Real* bias, Size first, Size G, Size N, Size K, Size L);
    // The transpose of a matrix (.., N): its rows are those of some gates, H each, one gate after the other, each
    // padded with zeros to whole blocks.
    static Packed transposed(const Real* matrix, const std::vector<int>& gates, Size H, Size N, Size L);

private:
    Buffer<std::byte> weights_memory;
    Buffer<Real> constants_memory;
};

}  // namespace onward
