/* libonward: runs compiled models (.onward files), without Python and without a compiler.
 *
 * A model is opened once and never changes; any number of threads may use it at the same time. A session is one user of
 * a model: its calls, or the streams that it continues from block to block. It has its own memory, and one thread at a
 * time may use it. Functions return ONWARD_OK or an error; onward_error_message() then tells what was wrong. A function
 * that fails changes nothing. No function throws C++ exceptions, prints, or ends the process.
 *
 *     onward_model *model;
 *     onward_session *session;
 *     float samples[512];
 *     onward_tensor in = {samples, ONWARD_FLOAT32, 2, {1, 512}, 0}, out = {0};
 *     if (onward_open_file("model.onward", &model) != ONWARD_OK ||
 *         onward_session_open(model, ONWARD_STREAM, 1, &session) != ONWARD_OK ||
 *         onward_run(session, &in, 1, &out, 1) != ONWARD_OK)
 *         fprintf(stderr, "%s\n", onward_error_message());
 */
#ifndef ONWARD_H
#define ONWARD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(ONWARD_SHARED)
#ifdef ONWARD_BUILD
#define ONWARD_API __declspec(dllexport)
#else
#define ONWARD_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define ONWARD_API __attribute__((visibility("default")))
#else
#define ONWARD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct onward_model onward_model;
typedef struct onward_session onward_session;

typedef enum onward_status {
    ONWARD_OK = 0,
    ONWARD_OUT_OF_MEMORY = 1,
    ONWARD_NOT_READABLE = 2,    /* the file cannot be read */
    ONWARD_BAD_FILE = 3,        /* the file or the state is damaged, or of another version or model */
    ONWARD_BAD_ARGUMENT = 4,    /* an argument that no call takes */
    ONWARD_NO_PROGRAM = 5,      /* the file has no program for inputs of these sizes */
    ONWARD_BAD_VALUE = 6        /* a node of the model, which the message names, does not accept a value */
} onward_status;

typedef enum onward_dtype {
    ONWARD_FLOAT32 = 0,
    ONWARD_FLOAT64 = 1,
    ONWARD_INT32 = 2,
    ONWARD_INT64 = 3,
    ONWARD_INT8 = 4,
    ONWARD_UINT8 = 5,
    ONWARD_BOOL = 6             /* bytes, 0 or 1 */
} onward_dtype;

/* What a session runs, and whose inputs and outputs are described: calls that are independent of one another; the
 * blocks of one stream, which continues what it carries from one block to the next; or those of many streams. */
typedef enum onward_mode { ONWARD_CALL = 0, ONWARD_STREAM = 1, ONWARD_POOL = 2 } onward_mode;

enum { ONWARD_MAX_AXES = 16 };

/* An input or an output of a model; the names live as long as the model. The size of an open axis is -1, and its name
 * may be empty. axes is -1 if the number of axes is open, too. */
typedef struct onward_port {
    const char *name;
    onward_dtype dtype;
    int32_t axes;
    int64_t sizes[ONWARD_MAX_AXES];
    const char *axis_names[ONWARD_MAX_AXES];
} onward_port;

/* An array in row-major order without gaps. An input is only read. The `data` of an output is memory of `bytes` bytes,
 * whose end the result may leave unused, or null: then the call sets `data` to memory of the session, which is valid
 * until its next call, and `bytes` to the size of the result. Set `data` to null again before that call. A call sets
 * the other fields of an output. The memory of outputs must not overlap that of inputs. */
typedef struct onward_tensor {
    void *data;
    onward_dtype dtype;
    int32_t axes;
    int64_t sizes[ONWARD_MAX_AXES];
    size_t bytes;               /* of an output; ignored for an input */
} onward_tensor;

/* The version of the library, such as "0.1.0". */
ONWARD_API const char *onward_version(void);

/* What was wrong in the last call of this thread that failed. It is valid until the next one fails. */
ONWARD_API const char *onward_error_message(void);

/* The most threads that a call may use; the default is the number of cores. */
ONWARD_API onward_status onward_set_threads(int32_t n);

/* Opens a model from a file, and closes the file: later changes of it do not affect the model. */
ONWARD_API onward_status onward_open_file(const char *path, onward_model **model);

/* Opens a model from memory, which must stay as it is until the model is closed; it may be mapped from a file, or
 * constant. Memory that does not start at a multiple of 64 bytes is copied. */
ONWARD_API onward_status onward_open_memory(const void *data, size_t size, onward_model **model);

/* Closes a model, after its sessions. Null is allowed. */
ONWARD_API void onward_close(onward_model *model);

/* The number of inputs and outputs, 0 if the file has no programs for the mode, and the description of each. Those that
 * a stream carries from block to block are not among them. */
ONWARD_API int32_t onward_inputs(const onward_model *model, onward_mode mode);
ONWARD_API int32_t onward_outputs(const onward_model *model, onward_mode mode);
ONWARD_API onward_status onward_input(const onward_model *model, onward_mode mode, int32_t i, onward_port *port);
ONWARD_API onward_status onward_output(const onward_model *model, onward_mode mode, int32_t i, onward_port *port);

/* Opens a session. A pool has `streams` streams, with the ids from 0 on; otherwise, `streams` must be 1. */
ONWARD_API onward_status onward_session_open(const onward_model *model, onward_mode mode, int64_t streams,
                                             onward_session **session);
ONWARD_API void onward_session_close(onward_session *session);

/* Allocates the memory of calls up to these sizes, and prepares their programs, so that the first call takes no
 * longer than later ones. The data of the inputs is not read, and may be null; inputs of a pool have a row for each
 * stream that steps together. States stay as they are. The function runs calls of many sizes, most of them short,
 * because a model may have programs of its own for them.
 *
 * Later calls of the same thread with at most 64 rows, and saving and restoring states, allocate nothing if calls have
 * one thread (onward_set_threads). The exceptions are loops of new sizes, recurrent layers with lengths, those with
 * several layers in two directions, and steps that need more than 4 MB of working memory. */
ONWARD_API onward_status onward_session_reserve(onward_session *session, const onward_tensor *inputs, int32_t n_inputs);

/* Runs a call, or the next block of a stream. */
ONWARD_API onward_status onward_run(onward_session *session, const onward_tensor *inputs, int32_t n_inputs,
                                    onward_tensor *outputs, int32_t n_outputs);

/* Runs the next block of n streams of a pool, whose ids must be distinct. The inputs and the outputs have a row for
 * each id, on the axis of their batch, or as an additional first axis if the model has none. The bits are those of each
 * stream on its own. Streams that complete different numbers of steps, as those of a model with a stride may, do not
 * run together: ONWARD_BAD_ARGUMENT. */
ONWARD_API onward_status onward_step(onward_session *session, const int64_t *ids, int64_t n,
                                     const onward_tensor *inputs, int32_t n_inputs, onward_tensor *outputs,
                                     int32_t n_outputs);

/* Ends the sequence of a stream (id 0 unless the session is a pool), and returns the steps that remain, if the model
 * looks ahead. onward_reset starts another sequence. */
ONWARD_API onward_status onward_finish(onward_session *session, int64_t id, onward_tensor *outputs,
                                       int32_t n_outputs);

/* Sets what a stream carries to its initial values. */
ONWARD_API onward_status onward_reset(onward_session *session, int64_t id);

/* The number of bytes of the state of a stream; writes it to memory of `size` bytes; and replaces the state by one that
 * a stream of the same model wrote. */
ONWARD_API onward_status onward_state_size(const onward_session *session, int64_t id, size_t *size);
ONWARD_API onward_status onward_save_state(const onward_session *session, int64_t id, void *state, size_t size);
ONWARD_API onward_status onward_restore_state(onward_session *session, int64_t id, const void *state, size_t size);

#ifdef __cplusplus
}
#endif

#endif
