/* Rounds the K numbers of x, which lie in pieces, to integers from -127 to 127 with one scale, which is returned: NaN if
   one of them is NaN. An infinity counts as the largest float. */
static float row_of_bytes(const float *x, const int32_t *pieces, int count, int length, int8_t *bytes)
{
    uint32_t most = 0;
    float largest, inverse;
    int piece, k, some;
    for (piece = 0; piece < count; piece++)
        for (k = 0; k < length; k++) {
            const uint32_t magnitude = bits_of(x[(pieces ? pieces[piece] : 0) + k]) & 0x7fffffffu;
            most = magnitude > most ? magnitude : most;
        }
    if (most == 0x7f800000u) most--;
    largest = of_bits(most);
    some = largest > 1e-30f && most < 0x7f800000u;
    inverse = some ? 127.0f / largest : 0.0f;
    for (piece = 0; piece < count; piece++)
        for (k = 0; k < length; k++) {
            const float number = x[(pieces ? pieces[piece] : 0) + k];
            const float finite = number > largest ? largest : number < -largest ? -largest : number;
            *bytes++ = (int8_t)(bits_of(ONWARD_FMA(finite, inverse, 0x1.8p23f)) & 0xffu);
        }
    return some ? largest / 127.0f : most < 0x7f800000u ? 0.0f : NOT_A_NUMBER;
}

/* The sum of the products of n bytes. ONWARD_DOT names a function that takes its place, such as one of CMSIS. */
static int32_t dot_of_bytes(const int8_t *a, const int8_t *b, int n)
{
#ifdef ONWARD_DOT
    return ONWARD_DOT(a, b, n);
#else
    int32_t sum = 0;
    int k = 0;
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && !defined(__aarch64__) /* four products at a time */
    for (; k + 4 <= n; k += 4) {
        uint32_t u, v, odd_u, odd_v;
        memcpy(&u, a + k, sizeof u);
        memcpy(&v, b + k, sizeof v);
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd_u) : "r"(u));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd_v) : "r"(v));
        __asm__("sxtb16 %0, %0" : "+r"(u));
        __asm__("sxtb16 %0, %0" : "+r"(v));
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(u), "r"(v));
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(odd_u), "r"(odd_v));
    }
#endif
    for (; k < n; k++) sum += (int32_t)a[k] * b[k];
    return sum;
#endif
}

/* y = W x + b with weights in int8, stored as [O][K], each unit with its scale; x is rounded to bytes. */
static void product_of_bytes(const float *x, const int32_t *pieces, int count, int length, const int8_t *W,
                             const float *scale, const float *b, int O, float *y, int8_t *bytes)
{
    const float row_scale = row_of_bytes(x, pieces, count, length, bytes);
    const int K = count * length;
    int o;
    for (o = 0; o < O; o++, W += K)
        y[o] = ONWARD_FMA((float)dot_of_bytes(W, bytes, K), scale[o] * row_scale, b ? b[o] : 0.0f);
}

/* Rounds x / scale + zero, ties to even, to a byte from `low` to `low` + 255; NaN gives `low`. */
static uint8_t quantized(float x, float scale, int zero, int low)
{
    const float least = (float)(low - zero), largest = least + 255.0f;
    float quotient = x / scale;
    quotient = quotient > least ? quotient : least;
    quotient = quotient > largest ? largest : quotient;
    return (uint8_t)(bits_of(quotient + 0x1.8p23f) + (uint32_t)zero);
}

/* Rounds n numbers to bytes; their range, which includes 0, gives the scale and the zero point. */
static void quantize_dynamically(const float *x, int n, uint8_t *y, float *scale, uint8_t *zero)
{
    float low = 0.0f, high = 0.0f, step;
    int i;
    for (i = 0; i < n; i++) {
        low = smaller(x[i], low);
        high = larger(x[i], high);
    }
    step = (high - low) / 255.0f;
    if (step == 0.0f) step = 1.0f;
    *scale = step;
    *zero = quantized(-low, step, 0, 0);
    for (i = 0; i < n; i++) y[i] = quantized(x[i], step, *zero, 0);
}

/* y = W x + b for K bytes with this scale and zero point, and weights in int8, each unit with its own. */
static void product_of_range(const uint8_t *x, int K, float scale, int zero, const int8_t *W, const float *W_scale,
                             const int32_t *W_zero, const float *b, int O, float *y)
{
    int o, k;
    for (o = 0; o < O; o++, W += K) {
        uint32_t sum = 0;
        for (k = 0; k < K; k++) sum += (uint32_t)((x[k] - zero) * (W[k] - W_zero[o]));
        y[o] = FLUSHED((float)(int32_t)sum * (W_scale[o] * scale) + (b ? b[o] : 0.0f));
    }
}

/* To the nearest integer, ties away from zero, for numbers of few digits. */
static int rounded_away(float x)
{
    const float size = x < 0.0f ? -x : x;
    const int whole = (int)size, steps = whole + (size - (float)whole >= 0.5f);
    return x < 0.0f ? -steps : steps;
}

/* Rounds a row of n numbers to bytes and returns their scale: from -127 to 127, or, with a zero point, from -128 to 127. */
static float quantized_row(const float *x, int n, int is_symmetric, int8_t *q, int8_t *zero_point)
{
    float low = 0.0f, high = 0.0f, scale, inverse, least = -127.0f, zero = 0.0f;
    int i;
    for (i = 0; i < n; i++) {
        low = smaller(x[i], low);
        high = larger(x[i], high);
    }
    if (is_symmetric) {
        const float size = -low > high || low != low ? -low : high, safe = size == 0.0f ? 127.0f : size;
        inverse = 127.0f / safe;
        scale = safe / 127.0f;
    } else {
        const double step = low == high ? 1.0 : ((double)high - (double)low) / 255.0;
        const double from_low = -128.0 - low / step, from_high = 127.0 - high / step;
        const double found = 128.0 - low / step < 127.0 + high / step ? from_low : from_high;
        const double clipped = found < -128.0 ? -128.0 : found > 127.0 ? 127.0 : found;
        if (low != high && found == found) zero = (float)(clipped < 0.0 ? -(int)(0.5 - clipped) : (int)(clipped + 0.5));
        scale = (float)step;
        inverse = 1.0f / scale;
        least = -128.0f;
    }
    *zero_point = (int8_t)zero;
    for (i = 0; i < n; i++) {
        float steps = x[i] * inverse + zero;
        steps = steps > least ? steps : least;
        q[i] = (int8_t)rounded_away(steps > 127.0f ? 127.0f : steps);
    }
    return FLUSHED(scale);
}

/* Gathers a row of bytes; those without sign are moved by 128. */
static void gather_bytes(const uint8_t *x, const int32_t *pieces, int count, int length, int flip, int8_t *row)
{
    int piece, k;
    for (piece = 0; piece < count; piece++)
        for (k = 0; k < length; k++) *row++ = (int8_t)(x[(pieces ? pieces[piece] : 0) + k] ^ flip);
}

/* The sum of (x - zero) (w - w_zero) over n bytes. */
static int32_t sum_of_bytes(const int8_t *x, const int8_t *W, int n, int32_t zero, int32_t w_zero)
{
    int32_t sum = 0;
    int k;
    for (k = 0; k < n; k++) sum += (x[k] - zero) * (W[k] - w_zero);
    return sum;
}

/* The upper half of 2 a b, rounded to nearest, ties up; only -2^31 squared exceeds the range. */
static int32_t doubled_product(int32_t a, int32_t b)
{
    const int64_t product = ((int64_t)a * b + ((int64_t)1 << 30)) >> 31;
    return product > INT32_MAX ? INT32_MAX : (int32_t)product;
}

/* x times multiplier / 2^31 times 2^shift, rounded twice: to nearest, ties up, and then away from zero. */
static int32_t rescaled_32(int32_t x, int32_t multiplier, int32_t shift)
{
    const int left = shift < 0 ? 0 : shift > 31 ? 31 : (int)shift, right = shift > 0 ? 0 : shift < -31 ? 31 : (int)-shift;
    const int32_t product = doubled_product((int32_t)((uint32_t)x << left), multiplier);
    const int32_t mask = (int32_t)((UINT32_C(1) << right) - 1), rest = product & mask;
    return (product >> right) + (rest > (mask >> 1) + (product < 0));
}

/* The same for multipliers without a sign and a shift to the right, -31 to 0. */
static int32_t scaled_down(int32_t x, int32_t multiplier, int32_t shift)
{
    const int32_t product = (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << 30)) >> 31);
    const int32_t mask = (int32_t)((UINT32_C(1) << -shift) - 1), rest = product & mask;
    return (product >> -shift) + (rest > (mask >> 1) + (product < 0));
}

/* x times multiplier / 2^(31 - shift), rounded once to nearest, ties up. */
static int64_t rescaled_64(int64_t x, int32_t multiplier, int32_t shift)
{
    const int n = shift > 30 ? 1 : shift < -32 ? 63 : 31 - (int)shift, k = n < 16 ? n : 16;
    const int64_t rest = x & (((int64_t)1 << k) - 1);
    return ((x >> k) * multiplier + ((rest * multiplier + ((int64_t)1 << (n - 1))) >> k)) >> (n - k);
}

static int64_t between(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

static int32_t clipped(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* The number on the line between two elements of a table, whose last one is known, rounded, ties up. */
static int32_t on_line(const int16_t *table, int32_t place, int bits, int last)
{
    const int32_t above = place >> bits, first = above < last ? above : last - 1, rest = place - (first << bits);
    return table[first] + (((table[first + 1] - table[first]) * rest + (1 << (bits - 1))) >> bits);
}

/* 2^31 / x = multiplier / 2^31 2^shift, by three steps of Newton's method with 29 fractional bits; x has no sign. */
static int32_t fixed_reciprocal(int32_t x, int32_t *shift)
{
    uint32_t number = (uint32_t)x, fraction = 0;
    int32_t half, y, i, zeros = 0;
    while (zeros < 32 && !(number >> 31)) number <<= 1, zeros++;
    if (zeros < 32) fraction = number - 0x80000000u;
    half = (int32_t)(((int64_t)(int32_t)fraction + INT32_MAX + 1) / 2);
    y = 1515870810 + doubled_product(half, -1010580540); /* 48 / 17 - 32 / 17 half */
    for (i = 0; i < 3; i++) {
        const int32_t rest = (1 << 29) - doubled_product(half, y);
        y += (int32_t)between((int64_t)doubled_product(y, rest) * 4, INT32_MIN, INT32_MAX);
    }
    *shift = zeros;
    return (int32_t)between((int64_t)y * 2, INT32_MIN, INT32_MAX);
}

/* How a layer of D directions runs over the steps at which a mask (T, B) is true: the rows of x, those that count first;
   the number of these; and for each step, the row of y that is its output. */
static void masked_steps(const uint8_t *mask, int t_step, int b_step, int T, int B, int D, int64_t *counted,
                         int64_t *lengths, int64_t *sources)
{
    int b, t;
    for (b = 0; b < B; b++) {
        int n = 0, total = 0, others;
        for (t = 0; t < T; t++) total += mask[t * t_step + b * b_step] != 0;
        others = total;
        for (t = 0; t < T; t++) {
            const int counts = mask[t * t_step + b * b_step] != 0;
            counted[(counts ? n : others++) * B + b] = t * B + b;
            if (D == 2) sources[(t * B + b) * D + 1] = ((n < total ? n : T) * B + b) * D + 1;
            n += counts;
            sources[(t * B + b) * D] = ((n > 0 ? n - 1 : T) * B + b) * D;
        }
        lengths[b] = total;
    }
}
