/* Measures libonward in a new process: the time from opening a file to the first answer, and of one step.
 *
 *     c model.onward SIZE...        the shape of a block of its stream, in float32
 */
#define _POSIX_C_SOURCE 199309L
#include <onward.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int smaller(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv) {
    enum { STEPS = 2001 };
    static double times[STEPS];
    onward_model *model;
    onward_session *session;
    onward_tensor in = {0}, out[8] = {{0}};
    const double start = now();
    double first;
    int64_t count = 1;
    int i, outputs;

    if (argc < 3) return 2;
    for (i = 2; i < argc; i++) count *= in.sizes[in.axes++] = atoi(argv[i]);
    in.data = calloc((size_t)count, sizeof(float));
    if (onward_set_threads(1) || onward_open_file(argv[1], &model) ||
        onward_session_open(model, ONWARD_STREAM, 1, &session) || onward_run(session, &in, 1, out, 8)) {
        fprintf(stderr, "%s\n", onward_error_message());
        return 1;
    }
    first = now() - start;
    outputs = onward_outputs(model, ONWARD_STREAM);
    for (i = 0; i < STEPS; i++) {
        int place;
        double began = now();
        for (place = 0; place < outputs; place++) out[place].data = NULL;
        if (onward_run(session, &in, 1, out, outputs)) return 1;
        times[i] = now() - began;
    }
    qsort(times, STEPS, sizeof *times, smaller);
    printf("%.9f %.9f\n", first, times[STEPS / 2]);
    return 0;
}
