// Steps on numbers in bytes with scales and zero points.
#include <algorithm>
#include <stdexcept>

#include "platform/dispatch.h"
#include "platform/threads.h"
#include "run/plan.h"

namespace onward {

namespace {

constexpr Size packed_at_once = 96;  // rows of an integer product

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
                auto centered = [](T number, T zero) { return float(int32_t(uint32_t(number) - uint32_t(zero))); };
                if (step[0] == 1 && step[1] == 0 && step[2] == 0 && step[3] == 1)
                    for (Size i = 0; i < n; i++) y[i] = centered(x[i], *zero) * *scale;
                else
                    for (Size i = 0; i < n; i++)
                        y[i * step[3]] = centered(x[i * step[0]], zero[i * step[2]]) * scale[i * step[1]];
            });
        });
    });
}

void Plan::integer_product(const IntegerMatrix& W, const View& x, Size row_axes, const View& zero_point,
                           const View* scale, const View* bias, const View& y) {
    check(x), check(zero_point, x.dtype), check(y);
    if (scale) check(*scale, DType::float32);
    if (bias) check(*bias);
    const bool is_float = y.dtype == DType::float32, adds_first = bias && bias->dtype == DType::int32;
    if ((!is_float && (y.dtype != DType::int32 || scale)) ||
        (bias && !adds_first && !(is_float && bias->dtype == DType::float32)))
        throw std::invalid_argument("the dtypes of an integer product do not fit each other");
    const Rows rows(kept, x, row_axes, W.K);
    const Size count = rows.offsets.count;
    const Size scales = scale ? elements(scale->shape) : 1;
    if (!is_byte(x) || y.shape.size() != 2 || y.shape[0] != count ||
        y.shape[1] != W.O || (y.strides[1] != 1 && W.O > 1) || (scales != 1 && scales != W.O) ||
        elements(zero_point.shape) != 1 || (scale && !is_contiguous(*scale)) ||
        (bias && (bias->shape.size() != 1 || bias->shape[0] != W.O || !is_contiguous(*bias))))
        throw std::invalid_argument("the views of an integer product do not match its weights");
    struct Places {
        Place x, zero_point, y, scale, bias;
    };
    const Places v{x, zero_point, y, scale ? *scale : View{}, bias ? *bias : View{}};
    const bool is_unsigned = x.dtype == DType::uint8;
    const Size stride = y.strides[0];
    const bool has_scale = scale, has_bias = bias, worth_threads = count * W.K * W.O >= 4'000'000;
    add([=, &W](std::byte* const* spaces) {
        const ByteKernels& bytes = W.byte_kernels();
        const uint8_t* const from = at<uint8_t>(v.x, spaces);
        const int zero = is_unsigned ? *at<uint8_t>(v.zero_point, spaces) - 128 : *at<int8_t>(v.zero_point, spaces);
        const uint8_t flip = is_unsigned == (bytes.offset == 128) ? 0 : 128;
        int parts = 1;
        const int useful = worth_threads ? int(std::min<Size>(num_threads(), ceil_div(count, rows_worth_a_thread))) : 1;
        parallel(useful, [&](int n) { parts = n; }, [&](int part) {
            const Size last = count * (part + 1) / parts, size = W.panels().quantized_size;
            const Buffer<int32_t> packed(std::min(packed_at_once, count) * size);
            for (Size first = count * part / parts; first < last; first += packed_at_once) {
                const Size n = std::min(packed_at_once, last - first);
                for (Size row = 0; row < n; row++)
                    W.pack_row(from + rows.offsets[first + row], rows.pieces, rows.length, flip, zero,
                               packed.data() + row * size);
                IntegerResult out{W.O, stride, nullptr, nullptr, nullptr, nullptr, scales > 1, nullptr};
                if (is_float)
                    out.floats = at<float>(v.y, spaces) + first * stride;
                else
                    out.integers = at<int32_t>(v.y, spaces) + first * stride;
                if (has_scale) out.scale = at<float>(v.scale, spaces);
                if (adds_first)
                    out.integer_bias = at<int32_t>(v.bias, spaces);
                else if (has_bias)
                    out.bias = at<float>(v.bias, spaces);
                bytes.integer_product(W.panels(), packed.data(), n, out);
            }
        });
    });
}

}  // namespace onward
