// Fourier transforms of sizes with small prime factors. Each lane of a vector holds a row of its own, so that the order
// of the sums does not depend on the vector length.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec.h"

namespace {

using onward::Fourier;

template <class Real>
struct Complex {
    vec_of<Real> re, im;
    Complex operator+(Complex other) const { return {re + other.re, im + other.im}; }
    Complex operator-(Complex other) const { return {re - other.re, im - other.im}; }
    Complex times_minus_i() const { return {im, -re}; }
    // The product with cos - i sin.
    Complex turned(const Real* turn) const {
        const vec_of<Real> cosine = broadcast(turn[0]), sine = broadcast(turn[1]);
        return {fma(im, sine, re * cosine), fma(re, -sine, im * cosine)};
    }
};

// One stage: points = before * radix * after. Elements i of `after` of the `radix` parts of a group become the elements
// i of one group in each of `radix` parts, turned by the angle 2 pi part i / (radix * after).
template <class Real>
struct Stage {
    Size before, radix, after;
    const Complex<Real>* from;
    Complex<Real>* to;
    const Real* turns;  // [radix - 1][after][2]

    Complex<Real> part(Size i, Size number, Size group) const { return from[i + after * (number + radix * group)]; }
    void put(Size i, Size number, Size group, Complex<Real> value) const {
        const bool turns_it = number && i;
        if (turns_it) value = value.turned(turns + 2 * ((number - 1) * after + i));
        to[i + after * (group + before * number)] = {flush<Real>(value.re), flush<Real>(value.im)};
    }
};

template <class Real>
void radix_2(const Stage<Real>& s, Size i, Size group) {
    const Complex<Real> a = s.part(i, 0, group), b = s.part(i, 1, group);
    s.put(i, 0, group, a + b), s.put(i, 1, group, a - b);
}

template <class Real>
void radix_3(const Stage<Real>& s, Size i, Size group) {
    const Complex<Real> a = s.part(i, 0, group), b = s.part(i, 1, group), c = s.part(i, 2, group);
    const Complex<Real> sum = b + c, difference = b - c;
    constexpr Real half = Real(-0.5), root = Real(0x1.bb67ae8584caap-1);  // sqrt(3) / 2
    const Complex<Real> middle{fma(sum.re, broadcast(half), a.re), fma(sum.im, broadcast(half), a.im)};
    const Complex<Real> side = Complex<Real>{difference.re * root, difference.im * root}.times_minus_i();
    s.put(i, 0, group, a + sum), s.put(i, 1, group, middle + side), s.put(i, 2, group, middle - side);
}

template <class Real>
void radix_4(const Stage<Real>& s, Size i, Size group) {
    const Complex<Real> a = s.part(i, 0, group), b = s.part(i, 1, group), c = s.part(i, 2, group),
                        d = s.part(i, 3, group);
    const Complex<Real> even = a + c, odd = b + d, low = a - c, high = (b - d).times_minus_i();
    s.put(i, 0, group, even + odd), s.put(i, 1, group, low + high);
    s.put(i, 2, group, even - odd), s.put(i, 3, group, low - high);
}

// Outputs number to number + J - 1 of an odd radix and their mirrored ones, from the sums and differences of the
// mirrored inputs. Row `number - 1` of the matrix holds the cosines and sines of its multiples.
template <class Real, int J>
void odd_outputs(const Stage<Real>& s, Size i, Size group, Size number, Complex<Real> first,
                 const Complex<Real>* sums, const Complex<Real>* differences, const Real* matrix) {
    const Size half = s.radix / 2;
    const vec_of<Real> zero{};
    Complex<Real> even[J], odd[J];
    for (int j = 0; j < J; j++) even[j] = first, odd[j] = Complex<Real>{zero, zero};
    for (Size k = 0; k < half; k++)
#pragma GCC unroll 4
        for (int j = 0; j < J; j++) {
            const Real* const turn = matrix + 2 * ((number - 1 + j) * half + k);
            const vec_of<Real> cosine = broadcast(turn[0]), sine = broadcast(turn[1]);
            even[j] = Complex<Real>{fma(sums[k].re, cosine, even[j].re), fma(sums[k].im, cosine, even[j].im)};
            odd[j] = Complex<Real>{fma(differences[k].re, sine, odd[j].re), fma(differences[k].im, sine, odd[j].im)};
        }
    for (int j = 0; j < J; j++) {
        const Complex<Real> side = odd[j].times_minus_i();
        s.put(i, number + j, group, even[j] + side), s.put(i, s.radix - number - j, group, even[j] - side);
    }
}

template <class Real>
void odd_radix(const Stage<Real>& s, Size i, Size group, const Real* matrix) {
    const Size half = s.radix / 2;
    Complex<Real> sums[onward::largest_radix / 2], differences[onward::largest_radix / 2];
    const Complex<Real> first = s.part(i, 0, group);
    Complex<Real> total = first;
    for (Size k = 0; k < half; k++) {
        const Complex<Real> a = s.part(i, 1 + k, group), b = s.part(i, s.radix - 1 - k, group);
        sums[k] = a + b, differences[k] = a - b;
        total = total + sums[k];
    }
    s.put(i, 0, group, total);
    Size number = 1;
    for (; number + 2 <= half; number += 3)
        odd_outputs<Real, 3>(s, i, group, number, first, sums, differences, matrix);
    for (; number <= half; number++) odd_outputs<Real, 1>(s, i, group, number, first, sums, differences, matrix);
}

// Transforms points that lie in `points`, using as much memory again; returns where the result is, and the rest of the
// table.
template <class Real>
Complex<Real>* transform(const Fourier<Real>& f, Complex<Real>* points, Complex<Real>* other, const Real*& table) {
    Size before = 1;
    for (Size stage = 0; stage < f.stages; stage++) {
        const Size radix = f.factors[stage], after = f.points / before / radix;
        const Stage<Real> s{before, radix, after, points, other, table};
        table += 2 * (radix - 1) * after;
        const Real* const matrix = table;
        if (radix > 4) table += 2 * (radix / 2) * (radix / 2);
        for (Size group = 0; group < before; group++)
            for (Size i = 0; i < after; i++) switch (radix) {
                case 2: radix_2(s, i, group); break;
                case 3: radix_3(s, i, group); break;
                case 4: radix_4(s, i, group); break;
                default: odd_radix(s, i, group, matrix);
            }
        before *= radix;
        Complex<Real>* const next = points;
        points = other, other = next;
    }
    return points;
}

// Element i of a row in each lane, times that of the window.
template <class Real>
vec_of<Real> gathered(const Fourier<Real>& f, const Real* x, const Size* rows, Size count, Size i, Size part) {
    alignas(vector_bytes) Real lanes[Float<Real>::L] = {};
    if (i >= f.length) return vec_of<Real>{};
    for (Size lane = 0; lane < count; lane++) lanes[lane] = x[rows[lane] + i * f.x_stride + part * f.x_part];
    const vec_of<Real> found = load((const Real*)lanes);
    return f.window ? found * broadcast(f.window[i]) : found;
}

// The spectrum X of n real numbers from that of n / 2 complex ones, Z: X[k] = E[k] + O[k] (cos - i sin) with the sum E
// and the difference O of Z[k] and the conjugate of Z[n / 2 - k].
template <class Real>
Complex<Real> of_halves(Complex<Real> a, Complex<Real> b, const Real* turn) {
    const Complex<Real> conjugate{b.re, -b.im};
    const Complex<Real> even = a + conjugate, odd = (a - conjugate).times_minus_i(), whole = even + odd.turned(turn);
    return {whole.re * Real(0.5), whole.im * Real(0.5)};
}

// Its inverse, twice as large, with real and imaginary parts exchanged.
template <class Real>
Complex<Real> to_halves(Complex<Real> a, Complex<Real> b, const Real* turn) {
    const Complex<Real> conjugate{b.re, -b.im}, sum = a + conjugate, difference = a - conjugate;
    // i (cos + i sin) times the difference
    const Complex<Real> exchanged = Complex<Real>{difference.im, difference.re}.turned(turn);
    return {sum.im + exchanged.im, sum.re - exchanged.re};
}

// Loads what the transform takes into `points`. `spectrum` is memory for half a spectrum.
template <class Real>
void load_points(const Fourier<Real>& f, const Real* x, const Size* rows, Size count, const Real* turns,
                 Complex<Real>* spectrum, Complex<Real>* points) {
    auto element = [&](Size i, Size part) { return gathered(f, x, rows, count, i, part); };
    const bool is_half = f.points < f.n;
    if (!f.is_complex_x) {
        for (Size i = 0; i < f.points; i++)
            points[i] = is_half ? Complex<Real>{element(2 * i, 0), element(2 * i + 1, 0)}
                                : Complex<Real>{element(i, 0), vec_of<Real>{}};
        return;
    }
    if (f.is_complex_y) {
        for (Size i = 0; i < f.n; i++)
            points[i] = f.inverse ? Complex<Real>{element(i, 1), element(i, 0)}
                                  : Complex<Real>{element(i, 0), element(i, 1)};
        return;
    }
    const Size middle = f.n / 2;
    for (Size i = 0; i <= middle; i++) {
        const bool is_real = i == 0 || 2 * i == f.n;
        spectrum[i] = {element(i, 0), is_real ? vec_of<Real>{} : element(i, 1)};
    }
    for (Size i = 0; i < f.points; i++)
        if (is_half)
            points[i] = to_halves(spectrum[i], spectrum[middle - i], turns + 2 * i);
        else
            points[i] = i <= middle ? Complex<Real>{spectrum[i].im, spectrum[i].re}
                                    : Complex<Real>{-spectrum[f.n - i].im, spectrum[f.n - i].re};
}

template <class Real>
void put_lanes(Real* y, const Size* rows, Size count, Size place, vec_of<Real> value) {
    alignas(vector_bytes) Real lanes[Float<Real>::L];
    store(lanes, value);
    for (Size lane = 0; lane < count; lane++) y[rows[lane] + place] = lanes[lane];
}

template <class Real>
void store_points(const Fourier<Real>& f, const Complex<Real>* points, const Real* turns, Real* y, const Size* rows,
                  Size count) {
    const bool is_half = f.points < f.n;
    const vec_of<Real> scale = broadcast(Real(1) / Real(f.n)), zero{};
    auto put = [&](Size i, Complex<Real> value) {
        put_lanes(y, rows, count, i * f.y_stride, value.re);
        if (f.is_complex_y) put_lanes(y, rows, count, i * f.y_stride + f.y_part, value.im);
    };
    if (!f.is_complex_y) {
        for (Size i = 0; i < f.points; i++) {
            const Size place = is_half ? 2 * i : i;
            put(place, Complex<Real>{points[i].im * scale, zero});
            if (is_half) put(place + 1, Complex<Real>{points[i].re * scale, zero});
        }
    } else if (f.inverse) {
        for (Size i = 0; i < f.bins; i++) put(i, Complex<Real>{points[i].im * scale, points[i].re * scale});
    } else if (!is_half) {
        for (Size i = 0; i < f.bins; i++) put(i, points[i]);
    } else {
        for (Size i = 0; i <= f.points; i++) {
            const Complex<Real> found =
                of_halves(points[i % f.points], points[(f.points - i) % f.points], turns + 2 * i);
            if (i < f.bins) put(i, found);
            if (i && f.n - i < f.bins) put(f.n - i, Complex<Real>{found.re, -found.im});
        }
    }
}

// Transforms up to L rows, which start at these places.
template <class Real>
void fourier(const Fourier<Real>& f, Size count, const Real* x, const Size* x_rows, Real* y, const Size* y_rows,
             Real* memory) {
    auto* const points = (Complex<Real>*)memory;
    const Real* table = f.table;
    const Real* const turns = f.table + f.turns;
    load_points(f, x, x_rows, count, turns, points + f.points, points);
    const Complex<Real>* const found = transform(f, points, points + f.points, table);
    store_points(f, found, turns, y, y_rows, count);
}

}  // namespace
