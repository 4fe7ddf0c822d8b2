/* Rounds the K numbers of x, which lie in pieces, to integers from -127 to 127 with one scale, which is returned: NaN if
   one of them is not finite. */
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
    largest = of_bits(most);
    some = largest > 1e-30f && most < 0x7f800000u;
    inverse = some ? 127.0f / largest : 0.0f;
    for (piece = 0; piece < count; piece++)
        for (k = 0; k < length; k++)
            *bytes++ = (int8_t)(bits_of(ONWARD_FMA(x[(pieces ? pieces[piece] : 0) + k], inverse, 0x1.8p23f)) & 0xffu);
    return some ? largest / 127.0f : most < 0x7f800000u ? 0.0f : NOT_A_NUMBER;
}

/* y = W x + b with weights in int8, stored as [O][K], each unit with its scale; x is rounded to bytes. */
static void product_of_bytes(const float *x, const int32_t *pieces, int count, int length, const int8_t *W,
                             const float *scale, const float *b, int O, float *y, int8_t *bytes)
{
    const float row_scale = row_of_bytes(x, pieces, count, length, bytes);
    const int K = count * length;
    int o, k;
    for (o = 0; o < O; o++, W += K) {
        int32_t sum = 0;
        for (k = 0; k < K; k++) sum += (int32_t)W[k] * bytes[k];
        y[o] = ONWARD_FMA((float)sum, scale[o] * row_scale, b ? b[o] : 0.0f);
    }
}
