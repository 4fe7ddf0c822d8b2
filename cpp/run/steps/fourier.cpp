// Fourier transforms of rows.
#include <algorithm>
#include <stdexcept>

#include "platform/temporary.h"
#include "run/plan.h"
#include "run/steps/parts.h"

namespace onward {

namespace {

// Where the turns of halves are in the table, after the numbers of all factors, whose product is the number of points.
Size turns_after(std::span<const Size> factors, Size points) {
    Size numbers = 0, before = 1;
    for (const Size radix : factors) {
        if (radix < 2 || radix > largest_radix || (radix > 4 && radix % 2 == 0) || points % (before * radix))
            throw std::invalid_argument("a Fourier transform does not have this factor");
        numbers += 2 * (radix - 1) * (points / before / radix);
        if (radix > 4) numbers += 2 * (radix / 2) * (radix / 2);
        before *= radix;
    }
    if (before != points) throw std::invalid_argument("the factors of a Fourier transform have another product");
    return numbers;
}

}  // namespace

void Plan::fourier(Size n, bool inverse, std::span<const Size> factors, const View& table, const View* window,
                   const View& x, const View& y) {
    check_floats({&table, window ? window : &table, &x, &y});
    const size_t axes = y.shape.size();
    if (axes < 2 || x.shape.size() != axes || n < 1)
        throw std::invalid_argument("a Fourier transform needs rows of numbers with parts");
    const bool is_complex_x = x.shape[axes - 1] == 2, is_complex_y = y.shape[axes - 1] == 2;
    const bool is_half = n % 2 == 0 && !(is_complex_x && is_complex_y);
    const Size points = is_half ? n / 2 : n, turns = turns_after(factors, points), bins = y.shape[axes - 2];
    const Size numbers = turns + (is_half ? 2 * (points + 1) : 0);
    const bool has_parts = (x.shape[axes - 1] == 1 || is_complex_x) && (y.shape[axes - 1] == 1 || is_complex_y) &&
                           (is_complex_y ? is_complex_x || !inverse : is_complex_x && inverse);
    if (!has_parts || bins > n || (!is_complex_y && bins != n) || table.shape != Axes{numbers} ||
        !is_contiguous(table) || (window && (window->shape != Axes{n} || !is_contiguous(*window))) ||
        !std::equal(y.shape.begin(), y.shape.end() - 2, x.shape.begin()))
        throw std::out_of_range("the views of a Fourier transform have the wrong shapes");
    const Offsets in(kept, x, 0, axes - 2), out(kept, y, 0, axes - 2);
    const Fourier<float> base{n, points, Size(factors.size()), factors.data(), nullptr, turns, nullptr, inverse,
                              is_complex_x, is_complex_y, std::min(n, x.shape[axes - 2]), bins,
                              x.strides[axes - 2], is_complex_x ? x.strides[axes - 1] : 0, y.strides[axes - 2],
                              is_complex_y ? y.strides[axes - 1] : 0};
    const Size rows = in.count, work = rows * n * 16;
    const bool has_window = window;
    const Place window_place = window ? *window : View{};
    add([=, this, table = Place(table), x = Place(x), y = Place(y)](std::byte* const* spaces) {
        Fourier<float> whole = base;
        whole.table = at<float>(table, spaces);
        whole.window = has_window ? at<float>(window_place, spaces) : nullptr;
        const Size L = kernels.L, groups = ceil_div(rows, L);
        in_parts(groups, groups, work, [&](Size group, Size end) {
            const Temporary<float> memory(2 * (2 * points + 1) * L);
            Size x_rows[64], y_rows[64];  // at least L
            for (; group < end; group++) {
                const Size first = group * L, count = std::min(L, rows - first);
                for (Size lane = 0; lane < count; lane++)
                    x_rows[lane] = in[first + lane], y_rows[lane] = out[first + lane];
                kernels.fourier(whole, count, at<float>(x, spaces), x_rows, at<float>(y, spaces), y_rows,
                                memory.data());
            }
        });
    });
}

}  // namespace onward
