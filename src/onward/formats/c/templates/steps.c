/* y = W x + b. W is stored as [K][O], b may be null. The K numbers of x lie in `count` pieces of `length` numbers, which
   start at these offsets, or at 0. Each sum adds its terms in the order of k, four in each pass over y. */
static void product(const float *x, const int32_t *pieces, int count, int length, const float *restrict W, const float *b,
                    int O, float *restrict y)
{
    int piece, k, o;
    for (o = 0; o < O; o++) y[o] = b ? b[o] : 0.0f;
    for (piece = 0; piece < count; piece++) {
        const float *const part = x + (pieces ? pieces[piece] : 0);
        for (k = 0; k + 4 <= length; k += 4, W += 4 * O) {
            const float x_0 = part[k], x_1 = part[k + 1], x_2 = part[k + 2], x_3 = part[k + 3];
            for (o = 0; o < O; o++) {
                const float sum = ONWARD_FMA(W[O + o], x_1, ONWARD_FMA(W[o], x_0, y[o]));
                y[o] = ONWARD_FMA(W[3 * O + o], x_3, ONWARD_FMA(W[2 * O + o], x_2, sum));
            }
        }
        for (; k < length; k++, W += O)
            for (o = 0; o < O; o++) y[o] = ONWARD_FMA(W[o], part[k], y[o]);
    }
}

/* y (M, N) = a (M, K) b (K, N). */
static void matrix_product(int M, int K, int N, const float *a, int a_row, int a_step, const float *b, int b_row,
                           int b_step, float *y, int y_row, int y_step)
{
    int m, k, n;
    for (m = 0; m < M; m++) {
        for (n = 0; n < N; n++) y[m * y_row + n * y_step] = 0.0f;
        for (k = 0; k < K; k++) {
            const float factor = a[m * a_row + k * a_step];
            for (n = 0; n < N; n++)
                y[m * y_row + n * y_step] = ONWARD_FMA(b[k * b_row + n * b_step], factor, y[m * y_row + n * y_step]);
        }
    }
}

/* The sum of n numbers, 16 of which are added at a time. */
static double sum_of(const float *x, int n, int step)
{
    double sums[16] = {0.0};
    int i, k, half;
    for (i = 0; i < n; i++) sums[i % 16] += (double)x[i * step];
    for (half = 8; half; half /= 2)
        for (k = 0; k < half; k++) sums[k] += sums[k + half];
    return sums[0];
}

/* The maximum of n numbers plus 0, which turns -0 into 0. */
static float maximum_of(const float *x, int n, int step)
{
    float most = x[0];
    int i;
    for (i = 1; i < n; i++) most = larger(most, x[i * step]);
    return most + 0.0f;
}

static void softmax(const float *x, int n, int logarithmic, float *y)
{
    const float peak = maximum_of(x, n, 1);
    double total;
    float divisor;
    int i;
    for (i = 0; i < n; i++) y[i] = FLUSHED(exponential(x[i] - peak));
    total = sum_of(y, n, 1);
    if (logarithmic) {
        divisor = (float)logarithm_double(total);
        for (i = 0; i < n; i++) y[i] = FLUSHED(x[i] - peak - divisor);
    } else {
        divisor = (float)total;
        for (i = 0; i < n; i++) y[i] = FLUSHED(y[i] / divisor);
    }
}

/* (x - mean) / sqrt(variance + epsilon) */
static void standardize(const float *x, int n, float epsilon, float *y)
{
    const double mean = sum_of(x, n, 1) / n;
    double sums[16] = {0.0}, deviation;
    int i, k, half;
    for (i = 0; i < n; i++) sums[i % 16] += ((double)x[i] - mean) * ((double)x[i] - mean);
    for (half = 8; half; half /= 2)
        for (k = 0; k < half; k++) sums[k] += sums[k + half];
    deviation = ROOT_DOUBLE(sums[0] / n + (double)epsilon);
    for (i = 0; i < n; i++) y[i] = (float)(((double)x[i] - mean) / deviation);
}

/* Whether element i of x comes before element j in the order of the largest or smallest elements. */
static int precedes(const float *x, int i, int j, int largest, int nan_first)
{
    const float a = x[i], b = x[j];
    if (a != a && b != b) return i < j;
    if (a != a || b != b) return (a != a) == nan_first;
    return a == b ? i < j : (a > b) == largest;
}

/* The k largest or smallest elements, in order, and their indices. */
static void top(const float *x, int n, int k, int largest, int nan_first, float *values, int64_t *indices)
{
    int i, j, last = -1;
    for (i = 0; i < k; i++) {
        int next = -1;
        for (j = 0; j < n; j++)
            if ((last < 0 || precedes(x, last, j, largest, nan_first)) && j != last &&
                (next < 0 || precedes(x, j, next, largest, nan_first)))
                next = j;
        values[i] = x[next];
        indices[i] = next;
        last = next;
    }
}

/* An index from the end if it is negative; one out of range becomes the nearest that exists. */
static int index_in(int64_t index, int n)
{
    if (index < 0) index += n;
    return index < 0 ? 0 : index >= n ? n - 1 : (int)index;
}

/* A float as an integer: truncated, or the smallest integer if it is out of range or NaN. */
static int32_t int32_of(double x)
{
    return x < 2147483648.0 && x > -2147483649.0 ? (int32_t)x : INT32_MIN;
}

static int64_t int64_of(double x)
{
    return x < 9223372036854775808.0 && x >= -9223372036854775808.0 ? (int64_t)x : INT64_MIN;
}

/* The length of a sequence, from 0 to T. */
static int steps_in(int64_t length, int T)
{
    return length < 0 ? 0 : length > T ? T : (int)length;
}

/* A token of linear attention, whose queries share a state (keys, values). */
static void linear_attention(float scale, int queries, int keys, int values, const float *q, const float *k,
                             const float *v, const float *decay, int decay_step, const float *beta, float *y, float *state)
{
    int query, key, j;
    for (j = 0; j < values; j++) {
        float added = v[j], sum = 0.0f;
        for (key = 0; beta && key < keys; key++) {
            const float row = state[key * values + j];
            sum = ONWARD_FMA(k[key], decay_step ? FLUSHED(row * decay[key]) : row, sum);
        }
        if (beta && decay && !decay_step) sum = FLUSHED(FLUSHED(sum) * *decay);
        if (beta) added = FLUSHED(FLUSHED(added - FLUSHED(sum)) * *beta);
        for (key = 0; key < keys; key++) {
            const float row = state[key * values + j], written = FLUSHED(k[key] * added);
            state[key * values + j] = FLUSHED(written + (decay ? FLUSHED(row * decay[key * decay_step]) : row));
        }
    }
    for (query = 0; query < queries; query++)
        for (j = 0; j < values; j++) {
            float sum = 0.0f;
            for (key = 0; key < keys; key++) sum = ONWARD_FMA(q[query * keys + key], state[key * values + j], sum);
            y[query * values + j] = FLUSHED(scale * sum);
        }
}
