/* Counts the allocations of each function of libonward after the memory of a session is reserved.
 *
 *     allocations model.onward MODE STREAMS TIME SIZE...      the largest block, in float32, and its axis of time, 0 or 1
 *
 * It prints a line for each function: its name and how often it allocated; and how many calls ran, because a file may
 * lack programs for some sizes. It replaces the functions of glibc. */
#include <errno.h>
#include <onward.h>
#include <stdio.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static long count;

void *malloc(size_t size) { return count++, __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return count++, __libc_calloc(n, size); }
void *realloc(void *memory, size_t size) { return count++, __libc_realloc(memory, size); }
void *memalign(size_t alignment, size_t size) { return count++, __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return count++, __libc_memalign(alignment, size); }
int posix_memalign(void **memory, size_t alignment, size_t size)
{
    count++;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

static int failed(const char *function)
{
    fprintf(stderr, "%s: %s\n", function, onward_error_message());
    return 1;
}

static void report(const char *function, long before)
{
    const long allocations = count - before;
    printf("%s %ld\n", function, allocations);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    enum { MOST = 8, ROUNDS = 60 };
    const onward_mode mode = (onward_mode)atoi(argv[2]);
    const int64_t streams = atoi(argv[3]);
    onward_model *model;
    onward_session *session;
    onward_tensor in = {0}, out[MOST] = {{0}};
    int64_t ids[64], size = 1, id = mode == ONWARD_POOL;
    void *state;
    size_t bytes;
    const int time = atoi(argv[4]), rows = 1 - time;
    int i, round, ran = 0;
    long before, refused = 0;
    char line[64];
    setvbuf(stdout, line, _IOLBF, sizeof line); /* which does not allocate */
    for (i = 5; i < argc; i++) size *= in.sizes[in.axes++] = atoi(argv[i]);
    in.data = calloc((size_t)size, sizeof(float));
    for (i = 0; i < 64; i++) ids[i] = i;
    if (onward_set_threads(1) || onward_open_file(argv[1], &model) ||
        onward_session_open(model, mode, streams, &session))
        return failed("open");
    if (onward_session_reserve(session, &in, 1)) return failed("reserve");
    before = count;
    for (round = 0; round < ROUNDS; round++) {
        const long now = count;
        onward_status status;
        in.sizes[time] = round * 7 % (atoi(argv[5 + time]) + 1);
        if (mode != ONWARD_STREAM) in.sizes[rows] = round % atoi(argv[5 + rows]) + 1;
        for (i = 0; i < MOST; i++) out[i].data = NULL;
        status = mode == ONWARD_POOL ? onward_step(session, ids, in.sizes[rows], &in, 1, out, MOST)
                                     : onward_run(session, &in, 1, out, MOST);
        if (status == ONWARD_OK) ran++;
        else if (status == ONWARD_NO_PROGRAM || status == ONWARD_BAD_ARGUMENT) refused += count - now; /* the message */
        else return failed("run");
    }
    printf("calls %d\n", ran);
    before += refused;
    report("run", before);
    if (mode == ONWARD_CALL) return 0;
    if (onward_state_size(session, id, &bytes)) return failed("size");
    state = malloc(bytes);
    before = count;
    if (onward_save_state(session, id, state, bytes)) return failed("save");
    report("save", before);
    before = count;
    if (onward_restore_state(session, id, state, bytes)) return failed("restore");
    report("restore", before);
    before = count;
    if (onward_reset(session, id)) return failed("reset");
    report("reset", before);
    free(state);
    onward_session_close(session);
    onward_close(model);
    return 0;
}
