// Products and sums of windows in which vectors hold adjacent windows instead of units or channels.
#include "run/steps/filters.h"

#include <algorithm>
#include <stdexcept>

#include "platform/temporary.h"
#include "run/plan.h"
#include "run/steps/parts.h"
#include "run/steps/transpose.h"

namespace onward {

namespace {

constexpr Size few_outputs = 4;
// More of them do not stay in the first-level cache, from which each four outputs read the same windows.
constexpr Size most_channels = 128;
// With fewer vectors, or fewer than terms, one more vector takes longer than stores that cross lines of the cache.
constexpr Size aligned_vectors = 8;
// How many windows, and how many of their results, are gathered, if those in memory are not adjacent.
constexpr Size windows_at_once = 256, results_at_once = 1 << 16;
// With so few terms, a vector of units that is scattered takes longer than the sums. Vectors then hold windows even if
// these must be gathered first, so many of their numbers at once.
constexpr Size most_terms = 64, gathered_at_once = 4096;

// Calls use(place in x, place in y, n) for the windows [first, last), n <= most of which are adjacent in x and evenly
// spaced in y.
template <class Use>
void for_runs(const Offsets& x, const Offsets& y, Size first, Size last, Size most, Use use) {
    Offsets::Walk in(x, first), out(y, first);
    if (x.stride != 1) most = 1;
    for (Size n; first < last; first += n, in.skip(n), out.skip(n)) {
        n = std::min({last - first, in.left, out.left, most});
        use(in.offset, out.offset, n);
    }
}

}  // namespace

bool Images::are_in(const View& x, size_t row_axes, const View& y) {
    return row_axes >= 2 && y.shape.size() == row_axes + 1 && x.shape.size() >= row_axes + 2 &&
           std::equal(y.shape.begin(), y.shape.end() - 1, x.shape.begin()) && x.shape[row_axes] == rows_of_kernel &&
           x.shape[row_axes - 2] > rows_of_kernel && x.shape[row_axes - 1] > 0 &&
           x.strides[row_axes] == x.strides[row_axes - 2] && x.strides[row_axes - 1] == 1 &&
           y.strides[row_axes - 1] == 1;
}

Images::Images(Memory& memory, const View& x, size_t row_axes, const View& y)
    : x(memory, x, 0, row_axes - 2), y(memory, y, 0, row_axes - 2), rows(x.shape[row_axes - 2]),
      line(x.shape[row_axes - 1]), x_row(x.strides[row_axes - 2]), y_row(y.strides[row_axes - 2]) {}

void WindowVectors::add(Size x, Size y, Size n) {
    const Size L = kernels.L, size = std::min(n, L);
    if (size != filters.n) finish(), filters.n = size;
    // If all outputs are aligned alike, the second vector overlaps the first one, and starts where stores are aligned.
    const bool aligns = n >= std::max(aligned_vectors, filters.terms) * L && filters.y_stride % L == 0;
    const Size past = aligns ? Size(uintptr_t(filters.y + y) / sizeof(float) % size_t(L)) : 0;
    Size whole = (n + past) / L, step = size - past;
    for (Size first = 0; first < n; first += step, step = size, whole--) {
        const Size at = std::min(first, n - size);
        places[filters.vectors] = x + at, y_places[filters.vectors] = y + at;
        following[filters.vectors] = std::min(step < size ? 1 : whole, most - filters.vectors);
        if (++filters.vectors == most) finish();
    }
}

void WindowVectors::finish() {
    Filters<float> own = filters;
    for (Size channel = 0; filters.vectors && channel < channels.count; channel++) {
        kernels.filter(own);
        own.x += channels.x_step, own.y += own.y_stride, own.weights++;
        if (own.bias) own.bias++;
    }
    filters.vectors = 0;
}

// The windows [first, last), whose outputs go to these places of y. Those that are not adjacent there are gathered.
void Plan::filter_windows(Filters<float> filters, const Offsets& x, const Offsets& y, Size first, Size last,
                          const std::optional<Activation<float>>& f, const Channels& channels) const {
    if (f && f->function == Function::relu) filters.adjusts = true, filters.least = 0;
    const bool applies = f && f->function != Function::relu, is_direct = y.stride == 1 || y.count == 1;
    float* const to = filters.y;
    const Size outputs = filters.outputs * channels.count, y_stride = filters.y_stride;
    auto apply = [&](float* results, Size stride, Size n) {
        for (Size output = 0; applies && output < outputs; output++, results += stride)
            kernels.activate(*f, n, results, results);
    };
    const Size at_once = std::clamp(results_at_once / (outputs + 1), Size(1), windows_at_once);
    const Temporary<float> memory(is_direct ? 0 : outputs * at_once);
    float* const gathered = memory.data();
    if (!is_direct) filters.y = gathered, filters.y_stride = at_once;
    WindowVectors vectors(kernels, filters, channels);
    if (is_direct) {
        for_runs(x, y, first, last, last, [&](Size in, Size out, Size n) { vectors.add(in, out, n); });
        vectors.finish();
        if (applies)
            for_runs(x, y, first, last, last, [&](Size, Size out, Size n) { apply(to + out, y_stride, n); });
    } else {
        for_runs(x, y, first, last, at_once, [&](Size in, Size out, Size n) {
            vectors.add(in, 0, n), vectors.finish();
            apply(gathered, at_once, n);
            scatter(kernels, gathered, at_once, outputs, n, to + out, y_stride, y.stride);
        });
    }
}

void Plan::filter_images(Filters<float> filters, const Images& images, Size first, Size last,
                         const std::optional<Activation<float>>& f, const Channels& channels) const {
    if (f) filters.adjusts = true, filters.least = 0;  // the only function with which there are images
    filters.terms /= rows_of_kernel, filters.x_row = images.x_row, filters.y_row = images.y_row;
    for (Size n; first < last; first += n) {
        const Size image = first / images.rows, row = first % images.rows;
        filters.rows = n = std::min(last - first, images.rows - row);
        WindowVectors vectors(kernels, filters, channels);
        vectors.add(images.x[image] + row * images.x_row, images.y[image] + row * images.y_row, images.line);
        vectors.finish();
    }
}

void Plan::filter_gathered(Filters<float> filters, const Rows& rows, const Offsets& gathered, const Offsets& y,
                           Size first, Size last, const std::optional<Activation<float>>& f) const {
    const Size at_once = gathered_at_once / filters.terms;
    const Temporary<float> memory(gathered_at_once);
    const float* const x = filters.x;
    Offsets::Walk walk(rows.offsets, first);
    for (Size n; first < last; first += n) {
        n = std::min(at_once, last - first);
        rows.gather_columns(kernels, x, walk, n, memory.data(), at_once);
        filters.x = memory.data() - first;
        filter_windows(filters, gathered, y, first, first + n, f, Channels());
    }
}

void Plan::filter(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                  const View& y) {
    check_floats({&x, &y});
    const Panels<float>& panels = W.panels();
    const Rows rows(kept, x, row_axes, W);
    if (y.shape.size() < 2 || y.shape.back() != W.O)
        throw std::out_of_range("the output of a filter must have its units");
    const Offsets to(kept, y, 0, y.shape.size() - 1);
    const Size count = rows.offsets.count, K = panels.K, O = W.O, L = kernels.L, y_stride = y.strides.back();
    if (count != to.count) throw std::out_of_range("the rows of a filter do not match its output");
    const bool has_adjacent = panels.format == Format::native && rows.offsets.stride == 1 &&
                              (O < L || O <= 2 * few_outputs || x.shape.back() <= most_channels);
    const bool gathers = panels.format == Format::native && !has_adjacent && K <= std::min(2 * O, most_terms);
    const Offsets gathered(kept, View{0, 0, {count}, {1}}, 0, 1);
    const Offsets terms = gathers ? Offsets(kept, View{0, 0, {K}, {gathered_at_once / K}}, 0, 1)
                                  : Offsets(kept, x, size_t(row_axes), x.shape.size());
    const Size* const offsets = has_adjacent || gathers ? terms.list(kept) : nullptr;
    const float* weights = (const float*)panels.weights;
    const Size weight_stride = has_adjacent && O <= few_outputs ? O : L, work = count * K * O;
    std::optional<Images> images;
    if (has_adjacent && O == 1 && (!f || f->function == Function::relu) && Images::are_in(x, size_t(row_axes), y))
        images.emplace(kept, x, size_t(row_axes), y);
    if (weight_stride < L) {  // panels would fill much of the first-level cache
        float* const narrow = kept.take<float>(K * O);
        for (Size k = 0; k < K; k++) std::copy_n(weights + k * L, O, narrow + k * O);
        weights = narrow;
    }
    add([=, this, &panels, x = Place(x), y = Place(y)](std::byte* const* spaces) {
        const Filters<float> filters{at<float>(x, spaces), at<float>(y, spaces), y_stride, K, O, offsets,
                                     weights, weight_stride, K * L, panels.constants};
        if (images)
            return in_parts(images->count(), images->count(), work, [&](Size first, Size last) {
                filter_images(filters, *images, first, last, f, Channels());
            });
        in_parts(count, ceil_div(count, rows_worth_a_thread), work, [&](Size first, Size last) {
            if (has_adjacent)
                filter_windows(filters, rows.offsets, to, first, last, f, Channels());
            else if (gathers)
                filter_gathered(filters, rows, gathered, to, first, last, f);
            else
                multiply(panels, filters.x, rows, first, last, f, {filters.y, to, O, y_stride});
        });
    });
}

// A weighted sum of windows that are adjacent, rather than their channels: one filter for each channel.
void Plan::filter_channels(const View& x, const View& weights, const View* bias, const View& y) {
    const size_t row_axes = y.shape.size() - 1, channel_axis = x.shape.size() - 1;
    const Offsets in(kept, x, 0, row_axes), out(kept, y, 0, row_axes), found(kept, x, row_axes, channel_axis);
    const Size count = in.count, taps = found.count, channels = y.shape.back();
    if (!std::equal(y.shape.begin(), y.shape.end() - 1, x.shape.begin()) || x.shape.back() != channels ||
        weights.shape != Axes{taps, channels} || !is_contiguous(weights) ||
        (bias && (bias->shape != Axes{channels} || !is_contiguous(*bias))))
        throw std::out_of_range("the views of a window have the wrong shapes or strides");
    Filters<float> base{nullptr, nullptr, y.strides.back(), taps, 1, found.list(kept), nullptr, channels, 0, nullptr};
    base.adjusts = true, base.added = 0;  // turns -0 into 0, as other sums of windows do
    const Size x_step = x.strides.back(), work = count * taps * channels;
    const bool has_bias = bias;
    const Place bias_place = bias ? *bias : View{};
    std::optional<Images> images;
    if (x.shape.size() > row_axes + 2 && Images::are_in(x, row_axes, y)) images.emplace(kept, x, row_axes, y);
    add([=, this, x = Place(x), weights = Place(weights), y = Place(y)](std::byte* const* spaces) {
        Filters<float> filters = base;
        filters.x = at<float>(x, spaces), filters.y = at<float>(y, spaces);
        filters.weights = at<float>(weights, spaces);
        filters.bias = has_bias ? at<float>(bias_place, spaces) : nullptr;
        const Size items = images ? images->count() : count;
        in_parts(items, items, work, [&](Size first, Size last) {
            const Channels all{channels, x_step};
            if (images) filter_images(filters, *images, first, last, {}, all);
            else filter_windows(filters, in, out, first, last, {}, all);
        });
    });
}

}  // namespace onward
