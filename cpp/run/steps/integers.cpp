// Steps on numbers in bytes with scales and zero points.
#include <algorithm>
#include <optional>
#include <stdexcept>

#include "platform/dispatch.h"
#include "platform/temporary.h"
#include "platform/threads.h"
#include "run/plan.h"

namespace onward {

namespace {

constexpr Size packed_at_once = 96;    // rows of an integer product
constexpr Size windows_at_once = 128;  // whose places are computed together

bool is_byte(const View& view) { return view.dtype == DType::int8 || view.dtype == DType::uint8; }

int lowest(const View& view) { return view.dtype == DType::int8 ? -128 : 0; }

}  // namespace

void Plan::quantize_dynamically(const View& x, const View& y, const View& scale, const View& zero_point) {
    check_floats({&x, &scale});
    check(y, DType::uint8), check(zero_point, DType::uint8);
    const Size n = elements(x.shape);
    if (n == 0 || n != elements(y.shape) || !is_contiguous(x) || !is_contiguous(y) || elements(scale.shape) != 1 ||
        elements(zero_point.shape) != 1)
        throw std::invalid_argument("the views of a dynamic quantization do not match");
    add([n, x = Place(x), y = Place(y), scale = Place(scale), zero_point = Place(zero_point),
         &bytes = selected().bytes](std::byte* const* spaces) {
        const float* const from = at<float>(x, spaces);
        float low, high;
        bytes.range(n, from, &low, &high);
        float s = (high - low) / 255;
        if (s == 0) s = 1;
        uint8_t zero = 0;
        const float start = -low;
        bytes.quantize(1, &start, s, 0, 0, &zero);
        bytes.quantize(n, from, s, zero, 0, at<uint8_t>(y, spaces));
        *at<float>(scale, spaces) = s;
        *at<uint8_t>(zero_point, spaces) = zero;
    });
}

void Plan::quantize(const View& x, const View& scale, const View& zero_point, const View& y) {
    check_floats({&x, &scale});
    check(y), check(zero_point, y.dtype);
    if (!is_byte(y)) throw std::invalid_argument("a quantized array must have dtype int8 or uint8");
    const int low = lowest(y);
    add([low, &bytes = selected().bytes, loops = Loops<4>(kept, {&x, &scale, &zero_point, &y})](
            std::byte* const* spaces) {
        loops.run<std::byte>(spaces, [&](const auto& p, Size n, const auto& step) {
            const float *const x = (const float*)p[0], *const scale = (const float*)p[1];
            const uint8_t* const zero = (const uint8_t*)p[2];
            uint8_t* const y = (uint8_t*)p[3];
            auto zero_at = [&](Size i) { return low ? int(int8_t(zero[i])) : int(zero[i]); };
            if (step[0] == 1 && step[1] == 0 && step[2] == 0 && step[3] == 1)
                return bytes.quantize(n, x, *scale, zero_at(0), low, y);
            for (Size i = 0; i < n; i++)
                bytes.quantize(1, x + i * step[0], scale[i * step[1]], zero_at(i * step[2]), low, y + i * step[3]);
        });
    });
}

void Plan::dequantize(const View& x, const View& scale, const View& zero_point, const View& y) {
    check_floats({&scale, &y});
    check(x), check(zero_point, x.dtype);
    if (!is_byte(x) && x.dtype != DType::int32)
        throw std::invalid_argument("a quantized array must have dtype int8, uint8 or int32");
    with_type(x.dtype, [&]<class T>(T) {
        add([loops = Loops<4>(kept, {&x, &scale, &zero_point, &y})](std::byte* const* spaces) {
            loops.run<std::byte>(spaces, [](const auto& p, Size n, const auto& step) {
                const T *const x = (const T*)p[0], *const zero = (const T*)p[2];
                const float* const scale = (const float*)p[1];
                float* const y = (float*)p[3];
                using Wide = std::conditional_t<sizeof(T) == 1, int32_t, int64_t>;
                auto centered = [](T number, T zero) { return float(Wide(number) - Wide(zero)); };
                if (step[0] == 1 && step[1] == 0 && step[2] == 0 && step[3] == 1)
                    for (Size i = 0; i < n; i++) y[i] = centered(x[i], *zero) * *scale;
                else
                    for (Size i = 0; i < n; i++)
                        y[i * step[3]] = centered(x[i * step[0]], zero[i * step[2]]) * scale[i * step[1]];
            });
        });
    });
}

void Plan::quantize_rows(bool is_symmetric, const View& x, const View& q, const View& scale, const View& zero_point) {
    check_floats({&x, &scale}), check(q, DType::int8), check(zero_point, DType::int8);
    if (x.shape.empty() || is_empty(x)) throw std::invalid_argument("a quantization of rows needs elements");
    const Size K = x.shape.back(), rows = elements(x.shape) / K;
    for (const View* view : {&x, &q, &scale, &zero_point})
        if (!is_contiguous(*view) || elements(view->shape) != (view == &x || view == &q ? rows * K : rows))
            throw std::invalid_argument("the views of a quantization of rows do not match");
    add([=, x = Place(x), q = Place(q), scale = Place(scale), zero_point = Place(zero_point),
         &bytes = selected().bytes](std::byte* const* spaces) {
        for (Size row = 0; row < rows; row++)
            at<float>(scale, spaces)[row] = bytes.quantize_one_row(
                K, at<float>(x, spaces) + row * K, is_symmetric, at<uint8_t>(q, spaces) + row * K,
                at<int8_t>(zero_point, spaces) + row);
    });
}

// The vectors of the stage have one number for all units or one for each.
class Plan::IntegerSums {
public:
    IntegerSums(Memory& memory, const OutputStage& stage, const Rescaling& rescaling, const View& y)
        : rescaling(rescaling), is_float(y.dtype == DType::float32), y(y),
          places(memory, y, 0, std::max<size_t>(y.shape.size(), 1) - 1) {
        if (y.shape.size() < 2 || (y.strides.back() != 1 && y.shape.back() > 1))
            throw std::invalid_argument("exact sums must be rows of adjacent units");
        places.keep(memory);
        rows = places.count, units = result.units = y.shape.back(), result.stride = places.stride;
        is_rescaled = stage.multiplier.has_value(), adds_first = stage.bias && stage.bias->dtype == DType::int32;
        if (stage.bias && elements(stage.bias->shape) != units)
            throw std::invalid_argument("a bias needs a number for each unit");
        if (stage.row_scale && elements(stage.row_scale->shape) != rows)
            throw std::invalid_argument("exact sums need a scale for each row");
        row_scale = place(stage.row_scale, rows), scale = place(stage.scale, units), bias = place(stage.bias, units);
        multiplier = place(stage.multiplier, units), shift = place(stage.shift, units);
        result.has_scale_per_unit = is_vector(stage.scale);
        this->rescaling.multiplier_step = is_vector(stage.multiplier);
        this->rescaling.shift_step = is_vector(stage.shift);
    }
    // Calls store(result) with what n rows from `first` on become.
    template <class Store>
    void store(std::byte* const* spaces, Size first, Size n, Store store) const {
        Rescaling own = rescaling;
        IntegerResult to = result;
        Size start = first * to.stride;
        if (places.line < places.count) to.places = places.some(first, n, nullptr), start = 0;
        if (is_rescaled) {
            own.multiplier = numbers<int32_t>(multiplier, spaces), own.shift = numbers<int32_t>(shift, spaces);
            to.rescaling = &own;
        }
        if (is_rescaled && own.to_bytes) {
            to.bytes = at<uint8_t>(y, spaces) + start;
        } else if (is_float) {
            to.floats = at<float>(y, spaces) + start;
            to.scale = numbers<float>(scale, spaces), to.row_scale = numbers<float>(row_scale, spaces);
            if (to.row_scale) to.row_scale += first;
        } else {
            to.integers = at<int32_t>(y, spaces) + start;
        }
        if (adds_first) to.integer_bias = numbers<int32_t>(bias, spaces);
        else to.bias = numbers<float>(bias, spaces);
        store(to);
    }

    Size rows, units;

private:
    static bool is_vector(const std::optional<View>& view) { return view && elements(view->shape) != 1; }
    static std::optional<Place> place(const std::optional<View>& view, Size n) {
        if (!view) return {};
        if (is_vector(view) && (elements(view->shape) != n || !is_contiguous(*view)))
            throw std::invalid_argument("a vector of exact sums needs a number for each of them");
        return Place(*view);
    }
    template <class T>
    static const T* numbers(const std::optional<Place>& place, std::byte* const* spaces) {
        return place ? at<T>(*place, spaces) : nullptr;
    }

    IntegerResult result{};
    Rescaling rescaling;
    bool is_float, is_rescaled, adds_first;
    Place y;
    Offsets places;  // of the rows
    std::optional<Place> row_scale, scale, bias, multiplier, shift;
};

Plan::IntegerSums Plan::sums(const OutputStage& stage, const View& y) {
    check(y);
    const bool is_float = y.dtype == DType::float32, is_rescaled = stage.multiplier.has_value();
    for (const auto* view : {&stage.row_scale, &stage.scale})
        if (*view) check(**view, DType::float32);
    for (const auto* view : {&stage.multiplier, &stage.shift})
        if (*view) check(**view, DType::int32);
    if (stage.bias) check(*stage.bias);
    if (is_rescaled != stage.shift.has_value() || (!is_float && (stage.scale || stage.row_scale)) ||
        (!is_float && !is_rescaled && y.dtype != DType::int32) ||
        (stage.bias && stage.bias->dtype != DType::int32 && !(is_float && stage.bias->dtype == DType::float32)))
        throw std::invalid_argument("the dtypes of exact sums do not fit each other");
    return {kept, stage, is_rescaled ? rescaling(stage.zero_point, stage.low, stage.high, y) : Rescaling{}, y};
}

void Plan::integer_product(const IntegerMatrix& W, const View& x, Size row_axes, const View& zero_point,
                           const OutputStage& stage, const View& y) {
    const IntegerSums sums = this->sums(stage, y);
    check(x), check(zero_point, x.dtype);
    Rows rows(kept, x, row_axes, W.K);
    rows.offsets.keep(kept);
    const Size count = rows.offsets.count, zeros = elements(zero_point.shape);
    if (!is_byte(x) || sums.rows != count || sums.units != W.O || (zeros != 1 && zeros != count) ||
        !is_contiguous(zero_point))
        throw std::invalid_argument("the views of an integer product do not match its weights");
    const bool is_unsigned = x.dtype == DType::uint8, worth_threads = count * W.K * W.O >= 4'000'000;
    add([=, &W, x = Place(x), zero_point = Place(zero_point)](std::byte* const* spaces) {
        const ByteKernels& bytes = W.byte_kernels();
        const uint8_t* const zero = at<uint8_t>(zero_point, spaces);
        int parts = 1;
        const int useful = worth_threads ? int(std::min<Size>(num_threads(), ceil_div(count, rows_worth_a_thread))) : 1;
        parallel(useful, [&](int n) { parts = n; }, [&](int part) {
            const Size last = count * (part + 1) / parts, size = W.panels().quantized_size;
            const Temporary<int32_t> packed(std::min(packed_at_once, count) * size);
            for (Size first = count * part / parts; first < last; first += packed_at_once) {
                const Size n = std::min(packed_at_once, last - first);
                Size buffer[packed_at_once];
                const Size* const places = rows.offsets.some(first, n, buffer);
                W.pack({at<uint8_t>(x, spaces), places, n, rows.pieces, rows.length, is_unsigned,
                        zero + (zeros == 1 ? 0 : first), zeros != 1}, packed.data());
                sums.store(spaces, first, n, [&](const IntegerResult& out) {
                    bytes.integer_product(W.panels(), packed.data(), n, out);
                });
            }
        });
    });
}

void Plan::integer_window(const View& weights, const View& x, Size row_axes, const View& zero_point,
                          const OutputStage& stage, const View& y) {
    const IntegerSums sums = this->sums(stage, y);
    check(x), check(zero_point, x.dtype), check(weights, DType::int32);
    if (x.shape.empty() || row_axes < 0 || row_axes >= Size(x.shape.size()))
        throw std::invalid_argument("a window has too few axes");
    const size_t last = x.shape.size() - 1;
    Offsets in(kept, x, 0, size_t(row_axes));
    in.keep(kept);
    const Offsets found(kept, x, size_t(row_axes), last);
    const Size channels = x.shape.back(), taps = found.count, rows = in.count;
    if (!is_byte(x) || sums.rows != rows || sums.units != channels || elements(zero_point.shape) != 1 ||
        (x.strides.back() != 1 && channels > 1) || weights.shape != Axes{taps, channels} || !is_contiguous(weights))
        throw std::invalid_argument("the views of an integer window do not match its weights");
    const Size* const offsets = found.list(kept);
    const bool is_unsigned = x.dtype == DType::uint8;
    const Size work = rows * taps * channels;
    add([=, x = Place(x), zero_point = Place(zero_point), weights = Place(weights),
         &bytes = selected().bytes](std::byte* const* spaces) {
        const uint8_t flip = is_unsigned ? 0 : 128, zero = *at<uint8_t>(zero_point, spaces) ^ flip;
        const ByteWindows whole{at<uint8_t>(x, spaces), nullptr, in.stride, 0, channels, offsets, taps,
                                at<int32_t>(weights, spaces), zero, flip};
        int parts = 1;
        const int useful = int(std::min<Size>(num_threads(), work / worth_threads + 1));
        parallel(useful, [&](int n) { parts = n; }, [&](int part) {
            ByteWindows own = whole;
            const Size end = rows * (part + 1) / parts;
            for (Size first = rows * part / parts; first < end; first += own.rows) {
                Size buffer[windows_at_once];
                own.rows = std::min(end - first, windows_at_once), own.places = in.some(first, own.rows, buffer);
                sums.store(spaces, first, own.rows, [&](const IntegerResult& out) { bytes.window(own, out); });
            }
        }, work);
    });
}

}  // namespace onward
