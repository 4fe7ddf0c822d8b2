/* Prints hashes of what the C library computes for compiled models: calls, a stream in blocks, and a pool. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onward.h"

enum { MAX_PORTS = 8 };

static uint64_t state = 1;

/* From -1 to 1, the same on every machine. */
static float number(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(state >> 32)) * 0x1p-31f;
}

static size_t bytes_of(onward_dtype dtype) {
    switch (dtype) {
        case ONWARD_FLOAT64: case ONWARD_INT64: return 8;
        case ONWARD_FLOAT32: case ONWARD_INT32: return 4;
        default: return 1;
    }
}

static int64_t count_of(const onward_tensor *tensor) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < tensor->axes; axis++) count *= tensor->sizes[axis];
    return count;
}

/* Random inputs: the open axis `time` has as many steps, any other is an axis of rows. */
static void fill(onward_model *model, onward_mode mode, int64_t rows, int64_t steps, onward_tensor *inputs) {
    for (int32_t i = 0; i < onward_inputs(model, mode); i++) {
        onward_port port;
        onward_input(model, mode, i, &port);
        onward_tensor *x = &inputs[i];
        *x = (onward_tensor){.dtype = port.dtype, .axes = port.axes};
        for (int32_t axis = 0; axis < port.axes; axis++) {
            const int is_time = port.axis_names[axis] && strcmp(port.axis_names[axis], "time") == 0;
            x->sizes[axis] = port.sizes[axis] >= 0 ? port.sizes[axis] : is_time ? steps : rows;
        }
        const int64_t count = count_of(x);
        x->data = calloc((size_t)count + 1, bytes_of(port.dtype));
        for (int64_t k = 0; k < count; k++)
            if (port.dtype == ONWARD_FLOAT32) ((float *)x->data)[k] = number();
    }
}

static void print(const char *file, const char *what, onward_status status, const onward_tensor *outputs, int32_t n) {
    printf("%s %s: ", file, what);
    if (status != ONWARD_OK) {
        printf("%s\n", onward_error_message());
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        uint64_t hash = 0xcbf29ce484222325u;
        const unsigned char *data = outputs[i].data;
        for (size_t k = 0; k < (size_t)count_of(&outputs[i]) * bytes_of(outputs[i].dtype); k++)
            hash = (hash ^ data[k]) * 0x100000001b3u;
        printf("%016" PRIx64 " ", hash);
    }
    printf("\n");
}

static void run(onward_model *model, const char *file) {
    static const int64_t sizes[] = {1, 3, 2, 10, 40, 1, 7};
    onward_tensor inputs[MAX_PORTS], outputs[MAX_PORTS];
    for (onward_mode mode = ONWARD_CALL; mode <= ONWARD_POOL; mode++) {
        const int32_t n_inputs = onward_inputs(model, mode), n_outputs = onward_outputs(model, mode);
        onward_session *session;
        if (n_inputs == 0 || n_inputs > MAX_PORTS || n_outputs > MAX_PORTS) continue;
        if (onward_session_open(model, mode, mode == ONWARD_POOL ? 10 : 1, &session) != ONWARD_OK) {
            print(file, "session", ONWARD_BAD_ARGUMENT, NULL, 0);
            continue;
        }
        for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
            const int64_t ids[] = {9, 0, 4, 2, 7, 1, 3, 8, 5, 6}, rows = mode == ONWARD_STREAM ? 1 : 1 + sizes[at] % 7;
            fill(model, mode, rows, mode == ONWARD_POOL ? 1 : sizes[at], inputs);
            memset(outputs, 0, sizeof outputs);
            const onward_status status = mode == ONWARD_POOL
                ? onward_step(session, ids, rows, inputs, n_inputs, outputs, n_outputs)
                : onward_run(session, inputs, n_inputs, outputs, n_outputs);
            print(file, mode == ONWARD_CALL ? "call" : mode == ONWARD_STREAM ? "stream" : "pool", status, outputs,
                  n_outputs);
            for (int32_t i = 0; i < n_inputs; i++) free(inputs[i].data);
        }
        onward_session_close(session);
    }
}

int main(int count, char **files) {
    for (int i = 1; i < count; i++) {
        onward_model *model;
        if (onward_open_file(files[i], &model) != ONWARD_OK) {
            fprintf(stderr, "%s: %s\n", files[i], onward_error_message());
            return 1;
        }
        run(model, files[i]);
        onward_close(model);
    }
    return count < 2;
}
