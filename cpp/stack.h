// A recurrent layer: its weights packed once, and run over time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "kernels.h"

namespace onward {

long gates(Cell cell);

// Memory at a cache line's boundary.
template <class Real>
class Buffer {
public:
    explicit Buffer(long n = 0) : data_(n ? new (std::align_val_t(64)) Real[n] : nullptr) {}
    static Buffer zeros(long n) {
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

// One direction of one layer as it comes, rows in PyTorch's gate order. Biases and projection may be null.
template <class Real>
struct Weights {
    long I, H, P;
    const Real *W, *R, *b_W, *b_R, *W_hr;  // (G*H, I), (G*H, P), (G*H), (G*H), (P, H)
};

// Time steps of an array (T, B, features) whose last axis is contiguous, from the step t_first on, its rows in another
// order unless that is null.
template <class Real>
struct Rows {
    Real* data;
    long t_stride, b_stride, t_first = 0;
    const long* order = nullptr;
    Real* at(long t, long b) const { return data + (t - t_first) * t_stride + (order ? order[b] : b) * b_stride; }
};

// What one call takes and gives. Initial states and lengths may be null; the states of all layers and directions lie
// one after another: (layers * D, B, P) and (layers * D, B, H).
template <class Real>
struct Sequence {
    long T, B;
    Rows<const Real> x;
    Rows<Real> y;  // D*P features
    const Real *h0, *c0;
    const int64_t* lengths;
    Real *h_n, *c_n;
};

// A matrix (G*N, K) packed in panels, with the memory that they point to.
template <class Real>
struct Packed : Panels<Real> {
    Packed() = default;
    Packed(const Real* matrix, const Real* bias, long G, long N, long K, long L);

private:
    Buffer<Real> memory;
};

template <class Real>
class Stack {
public:
    // Weights in the order of PyTorch: layer by layer, forward before reverse.
    Stack(Cell cell, const std::vector<Weights<Real>>& weights, long num_directions);
    Stack(Stack&&) = default;
    void forward(const Sequence<Real>& sequence) const;

    const Cell cell;
    const long I, H, P, D, layers;

private:
    template <class>
    friend class Team;
    template <class>
    friend class Stream;

    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<Direction<Real>> directions;
};

template <class Real>
class Run;

// One row that goes on from call to call, its state inside. The stack has one direction, and outlives the stream.
template <class Real>
class Stream {
public:
    explicit Stream(const Stack<Real>& stack);
    ~Stream();
    void step(const Real* x, Real* y);                // x (I), y (P)
    void state(Real* h, Real* c) const;               // h (layers, P), c (layers, H) or null
    void set_state(const Real* h, const Real* c);     // null: zeros

    const Stack<Real>& stack;

private:
    std::vector<long> lengths;
    std::vector<Run<Real>> runs;
    Buffer<Real> between;
    long t = 0;
};

// y = W x + b for each row; W (O, I).
template <class Real>
class Dense {
public:
    Dense(const Real* W, const Real* b, long O, long I);
    void forward(const Real* x, long rows, Real* y) const;

    const long O, I;

private:
    const Kernels<Real>& kernels;
    Packed<Real> packed;
};

}  // namespace onward
