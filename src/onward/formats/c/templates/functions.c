static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t bits_of_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double double_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* In double, the product is exact, and only its sum with c is rounded. Rounding that sum to float differs from rounding
   once only if it lies halfway between two floats and was inexact: then the rounding error of the sum decides. */
static float fused(float a, float b, float c)
{
    const double product = (double)a * b;
    double sum = product + c;
    uint64_t bits = bits_of_double(sum);
    if ((bits & 0x1fffffffu) == 0x10000000u) {
        const double rest = sum - product, error = (product - (sum - rest)) + (c - rest);
        if (error < 0 || error > 0) sum = double_of_bits((error < 0) == (sum < 0) ? bits + 1 : bits - 1);
    }
    return (float)sum;
}

static void exact_sum(double a, double b, double *sum, double *error)
{
    const double s = a + b, rest = s - a;
    *sum = s;
    *error = (a - (s - rest)) + (b - rest);
}

/* The upper 26 bits of a number. */
static inline double upper_half(double x)
{
    const double scaled = x * 134217729.0;
    return scaled - (scaled - x);
}

/* Source: Boldo and Melquiond 2008, with the exact product of Dekker 1971. */
static double fused_double(double a, double b, double c)
{
    const double product = a * b, a_high = upper_half(a), b_high = upper_half(b), a_low = a - a_high, b_low = b - b_high;
    const double rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    double low, lowest, high, middle, sum, error;
    exact_sum(c, rest, &low, &lowest);
    exact_sum(product, low, &high, &middle);
    exact_sum(middle, lowest, &sum, &error);
    if ((error < 0 || error > 0) && !(bits_of_double(sum) & 1))  /* rounds to odd */
        sum = double_of_bits((error < 0) == (sum < 0) ? bits_of_double(sum) + 1 : bits_of_double(sum) - 1);
    return high + sum;
}

/* The square root, rounded once, digit by digit. */
static double root(double x)
{
    const uint64_t bits = bits_of_double(x);
    uint64_t mantissa = (bits & 0xfffffffffffffu) | 0x10000000000000u, rest = 0, digits = 0;
    int exponent = (int)(bits >> 52) - 1023, place;
    if (!(x > 0)) return x < 0 ? (double)NOT_A_NUMBER : x;
    if (x - x != 0) return x;
    if (exponent & 1) mantissa <<= 1, exponent--;
    for (place = 52; place >= -54; place -= 2) {
        rest = rest << 2 | (place >= 0 ? mantissa >> place & 3 : 0);
        digits <<= 1;
        if (rest > 2 * digits) rest -= 2 * digits + 1, digits++;
    }
    digits = (digits + 1) >> 1;
    return double_of_bits(((uint64_t)(exponent / 2 + 1023) << 52) + (digits - 0x10000000000000u));
}

static inline float minus_abs(float x)
{
    return of_bits(bits_of(x) | 0x80000000u);
}

static inline float at_least(float x, float low)
{
    return x < low ? low : x;
}

static inline float at_most(float x, float high)
{
    return x > high ? high : x;
}

static inline float clip(float x, float low, float high)
{
    return at_most(at_least(x, low), high);
}

/* x = n log(2) + r: returns exp(r) - 1 and the scale 2^n. For x from -88 to 88.25. */
static inline float expm1_reduced(float x, float *scale)
{
    const float shifted = ONWARD_FMA(x, 0x1.715476p0f, 0x1.8p23f), n = shifted - 0x1.8p23f;
    const float high = ONWARD_FMA(n, -0x1.62e4p-1f, x), low = n * -0x1.7f7d1cp-20f, r = high + low;
    float q = 0x1.6d5d76p-10f;
    q = ONWARD_FMA(q, r, 0x1.1227acp-7f);
    q = ONWARD_FMA(q, r, 0x1.5554dap-5f);
    q = ONWARD_FMA(q, r, 0x1.5554b0p-3f);
    q = ONWARD_FMA(q, r, 0x1p-1f);
    *scale = of_bits((bits_of(shifted) + 127u) << 23);
    return high + ONWARD_FMA(r * r, q, low);
}

/* Subnormal results become 0. */
static inline float exponential(float x)
{
    const float high = x > 88.25f ? x - 0x1.62e4p-1f : x;
    float scale;
    const float p = expm1_reduced(clip(high, -88.0f, 88.25f), &scale), y = ONWARD_FMA(p, scale, scale);
    const float doubled = ONWARD_FMA(y, -0x1.7f7d1cp-20f, y) * 2.0f;
    return x > 0x1.62e42ep6f ? INFINITE : x > 88.25f ? doubled : y;
}

/* exp(x) - 1 for x <= 0. */
static inline float expm1_negative(float x)
{
    float scale;
    const float p = expm1_reduced(at_least(x, -88.0f), &scale);
    return ONWARD_FMA(p, scale, scale - 1.0f);
}

/* A quotient that is not divided yet, so that a product of gates takes one division. */
typedef struct {
    float numerator, denominator;
} quotient;

static inline float value_of(quotient q)
{
    return q.numerator / q.denominator;
}

static inline float product_of(quotient a, quotient b)
{
    return (a.numerator * b.numerator) / (a.denominator * b.denominator);
}

static inline quotient plain(float x)
{
    quotient q;
    q.numerator = x;
    q.denominator = 1.0f;
    return q;
}

static inline quotient sigmoid_quotient(float x)
{
    float scale;
    const float p = expm1_reduced(at_least(minus_abs(x), -88.0f), &scale), e = ONWARD_FMA(p, scale, scale);
    quotient q;
    q.numerator = x < 0.0f ? e : 1.0f;
    q.denominator = e + 1.0f;
    return q;
}

/* -m / (m + 2) with m = exp(-2 |x|) - 1, and the sign of x. */
static inline quotient tanh_quotient(float x)
{
    const float m = expm1_negative(minus_abs(x) * 2.0f);
    quotient q;
    q.numerator = of_bits((bits_of(m) & 0x7fffffffu) | (bits_of(x) & 0x80000000u));
    q.denominator = m + 2.0f;
    return q;
}

static inline float sigmoid(float x)
{
    return value_of(sigmoid_quotient(x));
}

static inline float tangent(float x)
{
    return value_of(tanh_quotient(x));
}

/* relu and relu6 compare x with a neighbor of the bound: from `x < 0 ? 0 : x`, compilers make a maximum, which turns
   subnormal numbers into zeros. */
static inline float relu(float x)
{
    return x <= -0x1p-126f ? 0.0f : x;
}

static inline float relu6(float x)
{
    return x >= 0x1.800002p2f ? 6.0f : relu(x);
}

static inline float affine(float x, float alpha, float beta)
{
    return ONWARD_FMA(alpha, x, beta);
}

static inline float elu(float x, float alpha, float beta)
{
    return beta * (x < 0.0f ? alpha * expm1_negative(x) : x);
}

static inline float hard_sigmoid(float x, float alpha, float beta)
{
    return clip(ONWARD_FMA(alpha, x, beta), 0.0f, 1.0f);
}

static inline float hard_swish(float x, float alpha, float beta)
{
    return x * hard_sigmoid(x, alpha, beta);
}

static inline float leaky_relu(float x, float alpha)
{
    return x < 0.0f ? alpha * x : x;
}

static inline float scaled_tanh(float x, float alpha, float beta)
{
    return alpha * tangent(beta * x);
}

static inline float thresholded_relu(float x, float alpha)
{
    return x <= alpha ? 0.0f : x;
}

/* max(x, 0) + log(1 + e) with e = exp(-|x|), and log(1 + e) = 2 atanh(s) with s = e / (2 + e). */
static inline float softplus(float x)
{
    const float e = exponential(minus_abs(x)), s = FLUSHED(e / (e + 2.0f)), w = s * s;
    float q = 0x1.dba26p-4f;
    q = ONWARD_FMA(q, w, 0x1.bc8cf8p-4f);
    q = ONWARD_FMA(q, w, 0x1.24c926p-3f);
    q = ONWARD_FMA(q, w, 0x1.9998d4p-3f);
    q = ONWARD_FMA(q, w, 0x1.555556p-2f);
    return relu(x) + 2.0f * ONWARD_FMA(s * w, q, s);
}

static inline float silu(float x)
{
    const quotient s = sigmoid_quotient(x);
    return at_least(x, -88.0f) * s.numerator / s.denominator;
}

/* The polynomial q of the normal distribution function, exp(-u^2 / 2) q(t) / (u + 4) for u <= 0. */
static inline float normal_polynomial(float t)
{
    float q = -0x1.d0af12p-20f;
    q = ONWARD_FMA(q, t, -0x1.49ecd6p-13f);
    q = ONWARD_FMA(q, t, 0x1.184a9ep-13f);
    q = ONWARD_FMA(q, t, 0x1.99eff6p-10f);
    q = ONWARD_FMA(q, t, -0x1.c81fe6p-9f);
    q = ONWARD_FMA(q, t, -0x1.ec5254p-8f);
    q = ONWARD_FMA(q, t, 0x1.eec4f4p-5f);
    q = ONWARD_FMA(q, t, -0x1.7e01b8p-3f);
    q = ONWARD_FMA(q, t, 0x1.8c6dbep-2f);
    q = ONWARD_FMA(q, t, -0x1.373e32p-1f);
    return ONWARD_FMA(q, t, 0x1.82b4bcp-1f);
}

static inline float gelu(float x)
{
    const float u = at_most(-minus_abs(x), 40.0f), square = u * u, rest = ONWARD_FMA(u, u, -square);
    const float e = exponential(square * -0.5f), r = 1.0f / (u + 4.0f);
    const float q = normal_polynomial(ONWARD_FMA(r, -8.0f, 1.0f));
    const float tail = FLUSHED(ONWARD_FMA(e * -0.5f, rest, e) * q * r);
    return at_least(x, -88.0f) * (x > 0.0f ? 1.0f - tail : tail);
}

static inline float mish(float x)
{
    const float e = exponential(minus_abs(x)), square = e * e;
    const float numerator = x > 0.0f ? e * 2.0f + 1.0f : ONWARD_FMA(e, 2.0f, square);
    const float two = x > 0.0f ? square * 2.0f : 2.0f;
    return at_least(x, -88.0f) * (numerator / (numerator + two));
}

static inline float softsign(float x)
{
    const float finite = clip(x, -0x1.fffffep127f, 0x1.fffffep127f);
    return finite / (1.0f - minus_abs(finite));
}

static inline float absolute(float x)
{
    return -minus_abs(x);
}

static inline float negative(float x)
{
    return -x;
}

static inline float reciprocal(float x)
{
    return 1.0f / x;
}

static inline float square_root(float x)
{
    return ROOT(x);
}

static inline float sign_of(float x)
{
    return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x;
}

/* To the nearest integer, ties to even. Larger numbers are integers already. */
static inline float rounded(float x)
{
    const float magnitude = -minus_abs(x), whole = (magnitude + 0x1p23f) - 0x1p23f;
    return magnitude < 0x1p23f ? of_bits(bits_of(whole) | (bits_of(x) & 0x80000000u)) : x;
}

static inline float rounded_down(float x)
{
    const float nearest = rounded(x);
    return nearest > x ? nearest - 1.0f : nearest;
}

static inline float rounded_up(float x)
{
    return -rounded_down(-x);
}

/* log(m 2^n) = n log(2) + 2 atanh(s) with s = (m - 1) / (m + 1); -infinity for subnormal numbers. */
static inline float logarithm(float x)
{
    const uint32_t offset = bits_of(x) - 0x3f3504f3u;
    const int32_t exponent = (int32_t)(offset >> 23) - (int32_t)(offset >> 31) * 512;
    const float m = of_bits(bits_of(x) - ((uint32_t)exponent << 23)), n = (float)exponent, f = m - 1.0f;
    const float s = f / (m + 1.0f), w = s * s;
    float q = 0x1.dba26p-4f, tail, y;
    q = ONWARD_FMA(q, w, 0x1.bc8cf8p-4f);
    q = ONWARD_FMA(q, w, 0x1.24c926p-3f);
    q = ONWARD_FMA(q, w, 0x1.9998d4p-3f);
    q = ONWARD_FMA(q, w, 0x1.555556p-2f);
    tail = ONWARD_FMA(2.0f * s * w, q, n * 0x1.7f7d1cp-20f - f * s);
    y = ONWARD_FMA(n, 0x1.62e4p-1f, f + tail);
    if (x >= 0x1p-126f && x <= 0x1.fffffep127f) return y;
    return x < 0x1p-126f ? (x < 0.0f ? NOT_A_NUMBER : -INFINITE) : x;
}

static double logarithm_double(double x)
{
    static const double coefficients[] = {
        0x1.37efaea22dc4bp-4, 0x1.0371f75936f6fp-5, 0x1.9739afdde0110p-5, 0x1.ad46f379b316dp-5,
        0x1.e2046677f3c39p-5, 0x1.11103f2bddc9fp-4, 0x1.3b13b7c41e111p-4, 0x1.745d1724e5b21p-4,
        0x1.c71c71c77e0f7p-4, 0x1.2492492491fe8p-3, 0x1.999999999999cp-3, 0x1.5555555555555p-2};
    const uint64_t offset = bits_of_double(x) - bits_of_double(0x1.6a09e667f3bcdp-1);
    const int64_t exponent = (int64_t)(offset >> 52) - (int64_t)(offset >> 63) * 4096;
    const double m = double_of_bits(bits_of_double(x) - ((uint64_t)exponent << 52)), n = (double)exponent, f = m - 1.0;
    const double s = f / (m + 1.0), w = s * s;
    double q = coefficients[0], tail;
    int i;
    for (i = 1; i < 12; i++) q = FMA_DOUBLE(q, w, coefficients[i]);
    if (!(x >= 0x1p-1022 && x <= 0x1.fffffffffffffp1023))
        return x < 0x1p-1022 ? (x < 0 ? (double)NOT_A_NUMBER : -(double)INFINITE) : x;
    tail = FMA_DOUBLE(2.0 * s * w, q, n * 0x1.a39ef35793c76p-33 - f * s);
    return FMA_DOUBLE(n, 0x1.62e42feep-1, f + tail);
}

/* The Taylor series up to 1, and 1 - 2 Phi(-sqrt(2) x) above, where Phi is the normal distribution function. */
static float error_function(float x)
{
    static const float series[] = {0x1.fcc572p-27f, -0x1.5f742ep-23f, 0x1.b9e6cap-20f, -0x1.f4d25cp-17f,
                                   0x1.f9a326p-14f, -0x1.c02db4p-11f, 0x1.565bcep-8f, -0x1.b82ce4p-6f,
                                   0x1.ce2f22p-4f, -0x1.812746p-2f, 0x1.20dd76p+0f};
    const float u = at_most(-minus_abs(x), 28.0f), square = u * u, rest = ONWARD_FMA(u, u, -square);
    const float e = exponential(-square), r = 1.0f / ONWARD_FMA(u, 0x1.6a09e6p+0f, 4.0f);
    const float q = normal_polynomial(ONWARD_FMA(r, -8.0f, 1.0f));
    const float far = 1.0f - ONWARD_FMA(-e, rest, e) * q * r * 2.0f, w = at_most(x * x, 1.0f);
    float near = series[0];
    int i;
    for (i = 1; i < 11; i++) near = ONWARD_FMA(near, w, series[i]);
    return u < 1.0f ? x * near : u == u ? of_bits(bits_of(far) | (bits_of(x) & 0x80000000u)) : x;
}

static inline float larger(float a, float b)
{
    return FLUSHED(a) >= FLUSHED(b) || a != a ? a : b;
}

static inline float smaller(float a, float b)
{
    return FLUSHED(a) <= FLUSHED(b) || a != a ? a : b;
}

/* The upper half of a product; its lower half is added to *low, and the carry to the upper one. */
static inline uint64_t high_product(uint64_t a, uint64_t b, uint64_t *low)
{
    const uint64_t a_high = a >> 32, a_low = a & 0xffffffffu, b_high = b >> 32, b_low = b & 0xffffffffu;
    const uint64_t lowest = a_low * b_low, left = a_high * b_low, right = a_low * b_high;
    const uint64_t middle = (lowest >> 32) + (left & 0xffffffffu) + (right & 0xffffffffu);
    const uint64_t product = middle << 32 | (lowest & 0xffffffffu);
    *low += product;
    return a_high * b_high + (left >> 32) + (right >> 32) + (middle >> 32) + (*low < product);
}

/* x = n pi / 2 + r with |r| <= pi / 4, for finite |x| > 2^50: returns r and adds n to *quarters. The table holds the bits
   of 2 / pi behind a word of zeros; those that add multiples of 4 to x 2 / pi are skipped.
   Source: Payne and Hanek 1983. */
static double reduced_angle(double x, uint64_t *quarters)
{
    static const uint64_t two_over_pi[] = {
        UINT64_C(0x0000000000000000), UINT64_C(0xa2f9836e4e441529), UINT64_C(0xfc2757d1f534ddc0),
        UINT64_C(0xdb6295993c439041), UINT64_C(0xfe5163abdebbc561)};
    const uint64_t bits = bits_of_double(x), m = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x10000000000000);
    const int first = (int)(bits >> 52 & 0x7ff) - 1023 - 52 - 1 + 63, shift = first % 64;
    uint64_t words[3], low = 0, middle = 0, high, upper, lower, scale_bits;
    int i, above_half, exponent = 0;
    double r;
    for (i = 0; i < 3; i++) {
        const uint64_t *const word = two_over_pi + first / 64 + i;
        words[i] = shift ? word[0] << shift | word[1] >> (64 - shift) : word[0];
    }
    middle = high_product(m, words[2], &low);
    high = m * words[0] + high_product(m, words[1], &middle);
    upper = high << 2 | middle >> 62;
    lower = middle << 2 | low >> 62;
    above_half = (int)(upper >> 63);
    *quarters += (x < 0 ? -((high >> 62) + (uint64_t)above_half) : (high >> 62) + (uint64_t)above_half);
    if (above_half) upper = ~upper + (lower == 0), lower = ~lower + 1;
    for (; (upper | lower) && !(upper >> 63); exponent++) upper = upper << 1 | lower >> 63, lower <<= 1;
    scale_bits = (uint64_t)(1023 - exponent) << 52;
    r = (double)upper * 0x1p-64 * 0x1.921fb54442d18p0 * double_of_bits(scale_bits);
    return above_half != (x < 0) ? -r : r;
}

/* sin(x + quarters pi / 2): x = n pi / 2 + r with |r| <= pi / 4. */
static float sine_in_quarters(float number, int quarters)
{
    static const double sines[] = {1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6};
    static const double cosines[] = {-1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720,
                                     1.0 / 24, -1.0 / 2};
    double x = number, clipped, shifted, n, r, w, y;
    uint64_t quadrant = (uint64_t)quarters;
    int i;
    if ((x > 0x1p50 || x < -0x1p50) && x - x == 0) x = reduced_angle(x, &quadrant);
    clipped = x < -0x1p50 ? -0x1p50 : x > 0x1p50 ? 0x1p50 : x;
    shifted = FMA_DOUBLE(clipped, 0x1.45f306dc9c883p-1, 0x1.8p52);
    n = shifted - 0x1.8p52;
    r = FMA_DOUBLE(n, -0x1.1a62633145c07p-54, FMA_DOUBLE(n, -0x1.921fb54442d18p0, clipped));
    w = r * r;
    quadrant += bits_of_double(shifted);
    if (quadrant & 1) {
        y = cosines[0];
        for (i = 1; i < 7; i++) y = FMA_DOUBLE(y, w, cosines[i]);
        y = FMA_DOUBLE(w, y, 1.0);
    } else {
        y = sines[0];
        for (i = 1; i < 6; i++) y = FMA_DOUBLE(y, w, sines[i]);
        y = r * FMA_DOUBLE(w, y, 1.0);
    }
    return (float)((quadrant & 2 ? -y : y) + x * 0.0);
}

static float sine(float x)
{
    return sine_in_quarters(x, 0);
}

static float cosine(float x)
{
    return sine_in_quarters(x, 1);
}
