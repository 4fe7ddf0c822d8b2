/* An LSTM over T steps. h and c are its state; `sums` has room for ${room} numbers. */
static void $name(const float *x, int T, int x_step, int I, int H, $weights,$parameters float *y, int y_step, float *restrict h, float *restrict c, float *restrict sums$memory)
{
    float *const z = sums, *const u = sums + 4 * H;
    $hidden
    int t, j;
    for (t = 0; t < T; t++) {
        $product_W
        $product_R
        for (j = 0; j < H; j++) {
            const quotient i = $gate($sum_i), g = $candidate(z[2 * H + j] + u[2 * H + j]);
            const quotient f = $forget;
            const float next = $next;
            const quotient o = $gate($sum_o), out = $output(next);
            c[j] = FLUSHED(next);
            $h[j] = FLUSHED(product_of(o, out));
        }
        $project
        memcpy(y + t * y_step, h, (size_t)$P * sizeof *y);
    }
}

/* A GRU over T steps that resets after the product. h is its state; `sums` has room for 6 H numbers. */
static void $name(const float *x, int T, int x_step, int I, int H, $weights,
                  float *y, int y_step, float *restrict h, float *restrict sums$memory)
{
    float *const z = sums, *const u = sums + 3 * H;
    int t, j;
    for (t = 0; t < T; t++) {
        $product_W
        $product_R
        for (j = 0; j < H; j++) {
            const float r = value_of($gate(z[j] + u[j])), update = value_of($gate(z[H + j] + u[H + j]));
            const float n = value_of($candidate(ONWARD_FMA(r, u[2 * H + j], z[2 * H + j])));
            h[j] = FLUSHED(ONWARD_FMA(update, h[j] - n, n));
        }
        memcpy(y + t * y_step, h, (size_t)H * sizeof *y);
    }
}

/* A GRU over T steps that resets before the product. h is its state; `sums` has room for 7 H numbers. */
static void $name(const float *x, int T, int x_step, int I, int H, $weights,
                  float *y, int y_step, float *restrict h, float *restrict sums$memory)
{
    float *const z = sums, *const u = sums + 3 * H, *const reset = sums + 6 * H;
    int t, j;
    for (t = 0; t < T; t++) {
        $product_W
        $product_R
        for (j = 0; j < H; j++) {
            reset[j] = FLUSHED(value_of($gate(z[j] + u[j])) * h[j]);
            u[H + j] = FLUSHED(value_of($gate(z[H + j] + u[H + j])));
        }
        $product_N
        for (j = 0; j < H; j++) {
            const float n = value_of($candidate(z[2 * H + j] + u[2 * H + j]));
            h[j] = FLUSHED(ONWARD_FMA(u[H + j], h[j] - n, n));
        }
        memcpy(y + t * y_step, h, (size_t)H * sizeof *y);
    }
}

/* A simple recurrent layer over T steps. h is its state; `sums` has room for 2 H numbers. */
static void $name(const float *x, int T, int x_step, int I, int H, $weights,
                  float *y, int y_step, float *restrict h, float *restrict sums$memory)
{
    float *const z = sums, *const u = sums + H;
    int t, j;
    for (t = 0; t < T; t++) {
        $product_W
        $product_R
        for (j = 0; j < H; j++) h[j] = FLUSHED(value_of($candidate(z[j] + u[j])));
        memcpy(y + t * y_step, h, (size_t)H * sizeof *y);
    }
}
