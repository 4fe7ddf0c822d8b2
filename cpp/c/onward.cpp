// The C library: models and sessions behind pointers, and exceptions as errors with a message.
#include "onward.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#include "platform/threads.h"
#include "run/session.h"

using namespace onward;

struct onward_model {
    const ModelFile file;
};

struct onward_session {
    Session core;
    std::vector<CallArray> inputs;
    std::vector<Target> targets;

    onward_session(const ModelFile& file, Session::Mode mode, Size streams) : core(file, mode, streams) {
        inputs.reserve(core.graph().inputs.size()), targets.reserve(core.graph().outputs.size());
    }
};

namespace {

constexpr size_t most_text = 1000;
thread_local char message[most_text];  // describes the last error; no allocation can fail here

onward_status failed(onward_status status, const char* text) {
    std::snprintf(message, sizeof message, "%s", text);
    return status;
}

// Puts the path of the file in front of the last error.
void name_file(const char* path) noexcept {
    char text[most_text - 4] = {};  // leaves room in the message for a short path
    std::memcpy(text, message, sizeof text - 1);
    std::snprintf(message, sizeof message, "%s: %s", path, text);
}

// Runs f. Returns what it returns, or the error for what it throws.
template <class Function>
onward_status guarded(const Function& f) noexcept {
    try {
        return f();
    } catch (const std::bad_alloc&) {
        return failed(ONWARD_OUT_OF_MEMORY, "not enough memory");
    } catch (const std::length_error&) {
        return failed(ONWARD_OUT_OF_MEMORY, "not enough memory");
    } catch (const NotReadable& error) {
        return failed(ONWARD_NOT_READABLE, error.what());
    } catch (const BadFile& error) {
        return failed(ONWARD_BAD_FILE, error.what());
    } catch (const NoProgram& error) {
        return failed(ONWARD_NO_PROGRAM, error.what());
    } catch (const BadCall& error) {
        return failed(ONWARD_BAD_ARGUMENT, error.what());
    } catch (const std::exception& error) {  // a step does not accept a value; the message names its node
        return failed(ONWARD_BAD_VALUE, error.what());
    } catch (...) {
        return failed(ONWARD_BAD_VALUE, "a step failed");
    }
}

void require(bool holds, const char* problem) {
    if (!holds) throw BadCall(problem);
}

// The graph of a mode, and how many of its inputs and outputs a stream carries; null if the file has no such graph.
std::pair<const FileGraph*, size_t> graph_of(const ModelFile& file, onward_mode mode) {
    if (mode == ONWARD_CALL) return {file.calls ? &*file.calls : nullptr, 0};
    if (!file.stream || (mode != ONWARD_STREAM && mode != ONWARD_POOL)) return {};
    return {mode == ONWARD_STREAM ? &file.stream->graph : &file.stream->of_rows(), file.stream->carries.size()};
}

int32_t count(const onward_model* model, onward_mode mode, std::vector<Port> FileGraph::* ports) {
    if (!model) return 0;
    const auto [graph, carried] = graph_of(model->file, mode);
    return graph ? int32_t((graph->*ports).size() - carried) : 0;
}

onward_status describe(const onward_model* model, onward_mode mode, int32_t i, std::vector<Port> FileGraph::* ports,
                       onward_port* to) {
    return guarded([&] {
        require(model && to && i >= 0 && i < count(model, mode, ports), "the model has no such input or output");
        const auto [graph, carried] = graph_of(model->file, mode);
        const Port& port = (graph->*ports)[carried + size_t(i)];
        *to = {port.name.c_str(), onward_dtype(port.dtype), port.has_axes ? int32_t(port.axes.size()) : -1, {}, {}};
        for (size_t axis = 0; axis < port.axes.size(); axis++)
            to->sizes[axis] = port.axes[axis].size, to->axis_names[axis] = port.axes[axis].name.c_str();
        return ONWARD_OK;
    });
}

// Checks inputs, and returns them as the core takes them.
std::span<const CallArray> arrays(onward_session& session, const onward_tensor* inputs, int32_t n, bool are_read) {
    require(n >= 0 && (inputs || n == 0), "the inputs are missing");
    session.inputs.clear();
    for (int32_t i = 0; i < n; i++) {
        const onward_tensor& from = inputs[i];
        require(from.axes >= 0 && from.axes <= ONWARD_MAX_AXES, "an input has too many axes");
        require(from.dtype >= ONWARD_FLOAT32 && from.dtype <= ONWARD_BOOL, "an input has an unknown dtype");
        CallArray array{(std::byte*)from.data, DType(from.dtype), {}, 0, true};
        for (int32_t axis = 0; axis < from.axes; axis++) {
            require(from.sizes[axis] >= 0, "an input has a size below 0");
            array.shape.push_back(from.sizes[axis]);
        }
        array.bytes = bytes_of(array.shape, *array.dtype);
        require(from.data || array.bytes == 0 || !are_read, "an input has no data");
        session.inputs.push_back(array);
    }
    return session.inputs;
}

std::span<const Target> targets(onward_session& session, const onward_tensor* outputs, int32_t n) {
    require(n >= 0 && (outputs || n == 0), "the outputs are missing");
    session.targets.clear();
    n = std::min(n, int32_t(session.core.graph().outputs.size()));  // further ones stay as they are
    for (int32_t i = 0; i < n; i++) session.targets.push_back({(std::byte*)outputs[i].data, Size(outputs[i].bytes)});
    return session.targets;
}

onward_status report(std::span<const Result> results, onward_tensor* outputs, int32_t n) {
    for (size_t i = 0; i < size_t(n) && i < results.size(); i++) {
        const Result& result = results[i];
        if (!outputs[i].data) outputs[i].data = result.data, outputs[i].bytes = size_t(result.bytes);
        outputs[i].dtype = onward_dtype(result.dtype), outputs[i].axes = int32_t(result.shape.size());
        std::copy(result.shape.begin(), result.shape.end(), outputs[i].sizes);
    }
    return ONWARD_OK;
}

static_assert(int(DType::boolean) == ONWARD_BOOL && Axes::most == ONWARD_MAX_AXES);

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

extern "C" {

const char* onward_version(void) { return ONWARD_VERSION; }

const char* onward_error_message(void) { return message; }

onward_status onward_set_threads(int32_t n) {
    return guarded([&] {
        require(n >= 1, "a call needs a thread");
        set_num_threads(n);
        return ONWARD_OK;
    });
}

onward_status onward_open_file(const char* path, onward_model** model) {
    const onward_status status = guarded([&] {
        require(path && model, "the path or the model is null");
        const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path, "rb"));
        if (!file) return failed(ONWARD_NOT_READABLE, "the file cannot be opened");
        *model = new onward_model{ModelFile(Content(file.get()))};
        return ONWARD_OK;
    });
    if (status == ONWARD_NOT_READABLE || status == ONWARD_BAD_FILE) name_file(path);
    return status;
}

onward_status onward_open_memory(const void* data, size_t size, onward_model** model) {
    return guarded([&] {
        require(data && model, "the data or the model is null");
        const bool stays = uintptr_t(data) % ModelFile::alignment == 0;
        *model = new onward_model{ModelFile(Content((const std::byte*)data, Size(size), stays))};
        return ONWARD_OK;
    });
}

void onward_close(onward_model* model) { delete model; }

int32_t onward_inputs(const onward_model* model, onward_mode mode) { return count(model, mode, &FileGraph::inputs); }

int32_t onward_outputs(const onward_model* model, onward_mode mode) { return count(model, mode, &FileGraph::outputs); }

onward_status onward_input(const onward_model* model, onward_mode mode, int32_t i, onward_port* port) {
    return describe(model, mode, i, &FileGraph::inputs, port);
}

onward_status onward_output(const onward_model* model, onward_mode mode, int32_t i, onward_port* port) {
    return describe(model, mode, i, &FileGraph::outputs, port);
}

onward_status onward_session_open(const onward_model* model, onward_mode mode, int64_t streams,
                                  onward_session** session) {
    return guarded([&] {
        require(model && session, "the model or the session is null");
        require(mode == ONWARD_CALL || mode == ONWARD_STREAM || mode == ONWARD_POOL, "the mode is unknown");
        require(mode == ONWARD_POOL || streams == 1, "only a pool has several streams");
        *session = new onward_session(model->file, Session::Mode(mode), streams);
        return ONWARD_OK;
    });
}

void onward_session_close(onward_session* session) { delete session; }

onward_status onward_session_reserve(onward_session* session, const onward_tensor* inputs, int32_t n_inputs) {
    return guarded([&] {
        require(session, "the session is null");
        session->core.reserve(arrays(*session, inputs, n_inputs, false));
        return ONWARD_OK;
    });
}

onward_status onward_run(onward_session* session, const onward_tensor* inputs, int32_t n_inputs,
                         onward_tensor* outputs, int32_t n_outputs) {
    return guarded([&] {
        require(session, "the session is null");
        const auto given = arrays(*session, inputs, n_inputs, true);
        return report(session->core.run(given, targets(*session, outputs, n_outputs)), outputs, n_outputs);
    });
}

onward_status onward_step(onward_session* session, const int64_t* ids, int64_t n, const onward_tensor* inputs,
                          int32_t n_inputs, onward_tensor* outputs, int32_t n_outputs) {
    return guarded([&] {
        require(session && ids && n > 0, "the session or the ids are missing");
        const auto given = arrays(*session, inputs, n_inputs, true);
        const std::span<const int64_t> own(ids, size_t(n));
        return report(session->core.step(own, given, targets(*session, outputs, n_outputs)), outputs, n_outputs);
    });
}

onward_status onward_finish(onward_session* session, int64_t id, onward_tensor* outputs, int32_t n_outputs) {
    return guarded([&] {
        require(session, "the session is null");
        return report(session->core.finish(id, targets(*session, outputs, n_outputs)), outputs, n_outputs);
    });
}

onward_status onward_reset(onward_session* session, int64_t id) {
    return guarded([&] {
        require(session, "the session is null");
        session->core.reset(id);
        return ONWARD_OK;
    });
}

onward_status onward_state_size(const onward_session* session, int64_t id, size_t* size) {
    return guarded([&] {
        require(session && size, "the session or the size is null");
        *size = size_t(session->core.state_size(id));
        return ONWARD_OK;
    });
}

onward_status onward_save_state(const onward_session* session, int64_t id, void* state, size_t size) {
    return guarded([&] {
        require(session && state, "the session or the state is null");
        session->core.save(id, {(std::byte*)state, size});
        return ONWARD_OK;
    });
}

onward_status onward_restore_state(onward_session* session, int64_t id, const void* state, size_t size) {
    return guarded([&] {
        require(session && state, "the session or the state is null");
        session->core.restore(id, {(const std::byte*)state, size});
        return ONWARD_OK;
    });
}
}
