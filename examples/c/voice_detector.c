/* Find speech in a WAV file with Silero's voice detector: prints the start and the end of each segment in seconds.
 *
 *     onward compile silero_vad.onnx -o silero_vad.onward        (with --fix sr=16000 if the model takes a rate)
 *     cc voice_detector.c $(pkg-config --cflags --libs onward) -o voice_detector
 *     ./voice_detector silero_vad.onward speech.wav
 *
 * The WAV file has one channel of 16-bit samples at 16 kHz. The segments are those of voice_detector.py.
 */
#include <onward.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RATE = 16000, WINDOW = 512, CONTEXT = 64 };             /* samples: a frame has 32 ms */
enum { MIN_SPEECH = 4000, MIN_SILENCE = 1600, PAD = 480 };     /* samples */
static const float SPEECH = 0.5f, SILENCE = 0.35f;             /* a segment starts and ends at these probabilities */

static void check(onward_status status) {
    if (status == ONWARD_OK) return;
    fprintf(stderr, "%s\n", onward_error_message());
    exit(1);
}

/* Moves to the samples of a WAV file, and returns their number; -1 if it is of another kind. */
static long find_samples(FILE *file) {
    unsigned char header[12], format[16], chunk[8];
    int is_known = 0;
    if (fread(header, 1, 12, file) != 12 || memcmp(header, "RIFF", 4) || memcmp(header + 8, "WAVE", 4)) return -1;
    while (fread(chunk, 1, 8, file) == 8) {
        const unsigned long size = chunk[4] | chunk[5] << 8 | chunk[6] << 16 | (unsigned long)chunk[7] << 24;
        if (!memcmp(chunk, "data", 4)) return is_known ? (long)(size / 2) : -1;
        if (!memcmp(chunk, "fmt ", 4) && size >= 16) {
            if (fread(format, 1, 16, file) != 16) return -1;
            is_known = format[2] == 1 && format[14] == 16 && (format[4] | format[5] << 8 | format[6] << 16) == RATE;
            if (fseek(file, (long)(size - 16 + size % 2), SEEK_CUR)) return -1;
        } else if (fseek(file, (long)(size + size % 2), SEEK_CUR)) {
            return -1;
        }
    }
    return -1;
}

/* What has been heard of the present segment, in samples; -1 if there is none. */
static long started = -1, silent_since = -1;

static void print_segment(long start, long end) {
    printf("%.3f %.3f\n", (double)start / RATE, (double)end / RATE);
}

static void hear(float probability, long sample) {
    if (probability >= SPEECH) {
        silent_since = -1;
        if (started < 0) started = sample;
    } else if (probability < SILENCE && started >= 0) {
        if (silent_since < 0) silent_since = sample;
        if (sample - silent_since < MIN_SILENCE) return;
        if (silent_since - started > MIN_SPEECH)
            print_segment(started > PAD ? started - PAD : 0, silent_since + PAD);
        started = silent_since = -1;
    }
}

int main(int argc, char **argv) {
    onward_model *model;
    onward_session *session;
    FILE *sound;
    long samples, sample;
    float frame[CONTEXT + WINDOW] = {0};
    onward_tensor in = {frame, ONWARD_FLOAT32, 2, {1, CONTEXT + WINDOW}, 0}, out[1] = {{0}};

    if (argc != 3) {
        fprintf(stderr, "usage: %s model.onward sound.wav\n", argv[0]);
        return 2;
    }
    sound = fopen(argv[2], "rb");
    samples = sound ? find_samples(sound) : -1;
    if (samples < 0) {
        fprintf(stderr, "%s must be a WAV file with one channel of 16-bit samples at %d Hz\n", argv[2], RATE);
        return 1;
    }
    check(onward_open_file(argv[1], &model));
    check(onward_session_open(model, ONWARD_STREAM, 1, &session));
    for (sample = 0; sample < samples; sample += WINDOW) {
        unsigned char bytes[2 * WINDOW];
        const size_t got = fread(bytes, 2, WINDOW, sound);
        size_t i;
        if (got < WINDOW) samples = sample + (long)got;  /* of a recording that was cut off, fewer than announced */
        if (got == 0) break;
        memmove(frame, frame + WINDOW, CONTEXT * sizeof *frame);
        for (i = 0; i < WINDOW; i++)
            frame[CONTEXT + i] = i < got ? (float)(int16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8) / 32768 : 0;
        out->data = NULL;  /* in memory of the session */
        check(onward_run(session, &in, 1, out, 1));
        hear(*(const float *)out->data, sample);
    }
    if (started >= 0 && samples - started > MIN_SPEECH) print_segment(started > PAD ? started - PAD : 0, samples);
    onward_session_close(session);
    onward_close(model);
    fclose(sound);
    return 0;
}
