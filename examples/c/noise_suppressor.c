/* Remove noise live with DTLN: reads 16-bit samples at 16 kHz from standard input and writes as many to standard output.
 *
 *     onward compile model_1.onnx -o model_1.onward --carry input_3=tf_op_layer_stack_2
 *     onward compile model_2.onnx -o model_2.onward --carry input_5=tf_op_layer_stack_5
 *     cc noise_suppressor.c $(pkg-config --cflags --libs onward) -lm -o noise_suppressor
 *     arecord -r 16000 -f S16_LE -t raw | ./noise_suppressor model_1.onward model_2.onward | aplay -r 16000 -f S16_LE
 *
 * Every 8 ms, the first model masks the spectrum of the last 32 ms, the second one refines the sound, and the blocks
 * are added where they overlap, as in noise_suppressor.py.
 */
#include <math.h>
#include <onward.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

enum { BLOCK = 512, SHIFT = 128, BINS = BLOCK / 2 + 1 };

static void check(onward_status status) {
    if (status == ONWARD_OK) return;
    fprintf(stderr, "%s\n", onward_error_message());
    exit(1);
}

static onward_session *opened(const char *path) {
    onward_model *model;
    onward_session *session;
    check(onward_open_file(path, &model));
    check(onward_session_open(model, ONWARD_STREAM, 1, &session));
    return session;
}

/* Runs a block of n numbers through a stream; the outputs are as many. */
static void run(onward_session *session, float *x, int64_t n, float *y) {
    const onward_tensor in = {x, ONWARD_FLOAT32, 3, {1, 1, n}, 0};
    onward_tensor out = {y, ONWARD_FLOAT32, 0, {0}, (size_t)n * sizeof *y};
    check(onward_run(session, &in, 1, &out, 1));
}

/* The discrete Fourier transform of BLOCK complex numbers in place, or its inverse times BLOCK. */
static void transform(double *real, double *imaginary, int is_inverse) {
    const double pi = 3.14159265358979323846;
    int i, j, half;
    for (i = 1, j = 0; i < BLOCK; i++) {
        int bit = BLOCK / 2;
        for (; j & bit; bit /= 2) j ^= bit;
        j ^= bit;
        if (i < j) {
            const double r = real[i], m = imaginary[i];
            real[i] = real[j], imaginary[i] = imaginary[j], real[j] = r, imaginary[j] = m;
        }
    }
    for (half = 1; half < BLOCK; half *= 2)
        for (j = 0; j < half; j++) {
            const double angle = (is_inverse ? pi : -pi) * j / half, c = cos(angle), s = sin(angle);
            for (i = j; i < BLOCK; i += 2 * half) {
                const double r = c * real[i + half] - s * imaginary[i + half];
                const double m = c * imaginary[i + half] + s * real[i + half];
                real[i + half] = real[i] - r, imaginary[i + half] = imaginary[i] - m;
                real[i] += r, imaginary[i] += m;
            }
        }
}

int main(int argc, char **argv) {
    static double real[BLOCK], imaginary[BLOCK];
    static float heard[BLOCK], spoken[BLOCK], magnitude[BINS], mask[BINS], estimate[BLOCK], clean[BLOCK];
    onward_session *masker, *refiner;
    unsigned char bytes[2 * SHIFT];
    size_t got;
    int i;

    if (argc != 3) {
        fprintf(stderr, "usage: %s model_1.onward model_2.onward <noisy >clean\n", argv[0]);
        return 2;
    }
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY), _setmode(_fileno(stdout), _O_BINARY);
#endif
    masker = opened(argv[1]);
    refiner = opened(argv[2]);
    while ((got = fread(bytes, 2, SHIFT, stdin)) > 0) {
        memmove(heard, heard + SHIFT, sizeof heard - SHIFT * sizeof *heard);
        for (i = 0; i < SHIFT; i++)
            heard[BLOCK - SHIFT + i] =
                (size_t)i < got ? (float)(int16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8) / 32768 : 0;
        for (i = 0; i < BLOCK; i++) real[i] = heard[i], imaginary[i] = 0;
        transform(real, imaginary, 0);
        for (i = 0; i < BINS; i++) magnitude[i] = (float)sqrt(real[i] * real[i] + imaginary[i] * imaginary[i]);
        run(masker, magnitude, BINS, mask);
        for (i = 0; i < BLOCK; i++) {
            const float gain = mask[i < BINS ? i : BLOCK - i];
            real[i] *= gain, imaginary[i] *= gain;
        }
        transform(real, imaginary, 1);
        for (i = 0; i < BLOCK; i++) estimate[i] = (float)(real[i] / BLOCK);
        run(refiner, estimate, BLOCK, clean);
        memmove(spoken, spoken + SHIFT, sizeof spoken - SHIFT * sizeof *spoken);
        memset(spoken + BLOCK - SHIFT, 0, SHIFT * sizeof *spoken);
        for (i = 0; i < BLOCK; i++) spoken[i] += clean[i];
        for (i = 0; i < SHIFT; i++) {
            const float limited = spoken[i] < -1 ? -1 : spoken[i] > 1 ? 1 : spoken[i];
            const int sample = (int)rintf(limited * 32767);
            bytes[2 * i] = (unsigned char)(sample & 255), bytes[2 * i + 1] = (unsigned char)(sample >> 8 & 255);
        }
        if (fwrite(bytes, 2, got, stdout) != got || fflush(stdout)) return 1;
    }
    return 0;
}
