// The Python class ModelFile: the programs of a compiled model.
#include "run/model_file.h"

#include <nanobind/stl/pair.h>

#include <cstring>

#include "bind/memory.h"
#include "bind/module.h"
#include "bind/plans.h"

namespace python {

namespace {

using onward::FileGraph;
using onward::FileStream;

nb::object dtype_object(DType dtype) {
    for (const auto& [name, known] : onward::dtypes)
        if (known == dtype) return nb::module_::import_("numpy").attr("dtype")(name);
    return nb::none();
}

onward::Content content_of(const Memory& memory) { return {(const std::byte*)memory.data(), memory.size(), false}; }

template <class Numbers>
nb::tuple tuple_of_numbers(const Numbers& numbers) {
    nb::list items;
    for (const Size number : numbers) items.append(number);
    return nb::tuple(items);
}

class ModelFile {
public:
    explicit ModelFile(nb::object content) {
        const Memory memory(content);
        const onward::Content in_memory = content_of(memory);
        try {
            const WithoutGil release;
            file = std::make_shared<const onward::ModelFile>(in_memory);
        } catch (const onward::BadFile& error) {
            throw nb::value_error(error.what());
        }
    }
    ModelFile(const ModelFile&) = delete;

    // The inputs and the outputs of a graph: (name, dtype, axes), in which an axis is its size or its name.
    nb::object ports(const std::string& graph) const {
        const FileGraph* const found = graph_named(graph);
        if (!found) return nb::none();
        return nb::make_tuple(described(found->inputs), described(found->outputs));
    }

    Plans* plans(const std::string& graph) const {
        const FileGraph* const found = graph_named(graph);
        if (!found) throw nb::value_error("the file has no such graph");
        std::vector<nb::str> names;
        for (const onward::Port& port : found->inputs) names.emplace_back(port.name.c_str());
        std::vector<Entry> entries;
        for (const FileGraph::Compiled& compiled : found->programs) {
            std::vector<nb::object> dtypes;
            for (const DType dtype : compiled.signature.outputs) dtypes.push_back(dtype_object(dtype));
            const nb::object program = nb::cast(
                new Program(std::shared_ptr<const onward::Program>(file, compiled.program.get())),
                nb::rv_policy::take_ownership);
            entries.push_back({program, nb::none(), (std::byte*)compiled.constants, compiled.signature,
                               std::move(dtypes), {}});
        }
        return new Plans(std::move(names), std::move(entries));
    }

    nb::object stream() const {
        if (!file->stream) return nb::none();
        const FileStream& stream = *file->stream;
        nb::list carries, outputs;
        for (const FileStream::Carry& carry : stream.carries) {
            const auto& initial = carry.initial;
            const nb::object array = empty(initial.shape, dtype_object(*initial.dtype));
            std::memcpy(memory_of<std::byte>(array), initial.data, size_t(initial.bytes));
            carries.append(nb::make_tuple(array, carry.rows, carry.time, carry.has_any_shape));
        }
        for (const auto& [time, rows] : stream.outputs) outputs.append(nb::make_tuple(time, rows));
        nb::dict found;
        found["carries"] = carries, found["outputs"] = outputs;
        found["input_rows"] = tuple_of_numbers(stream.input_rows);
        found["last_rows"] = tuple_of_numbers(stream.last_rows);
        found["are_together"] = stream.are_together, found["every_step"] = stream.every_step;
        found["x"] = nb::make_tuple(stream.time, stream.rows), found["latency"] = stream.latency;
        found["step_shape"] = tuple_of_numbers(stream.step_shape);
        found["fingerprint"] = stream.fingerprint;
        return found;
    }

private:
    const FileGraph* graph_named(const std::string& name) const {
        if (name == "calls") return file->calls ? &*file->calls : nullptr;
        if (name == "last") return file->stream && file->stream->last ? &*file->stream->last : nullptr;
        if (name == "pooled") return file->stream ? &file->stream->of_rows() : nullptr;
        return name == "blocks" && file->stream ? &file->stream->graph : nullptr;
    }

    static nb::list described(const std::vector<onward::Port>& ports) {
        nb::list found;
        for (const onward::Port& port : ports) {
            nb::list axes;
            for (const auto& [size, name] : port.axes) {
                if (size < 0) axes.append(name);
                else axes.append(size);
            }
            found.append(nb::make_tuple(port.name, dtype_object(port.dtype),
                                        port.has_axes ? nb::object(nb::tuple(axes)) : nb::none()));
        }
        return found;
    }

    std::shared_ptr<const onward::ModelFile> file;
};

}  // namespace

void bind_model_file(nb::module_& m) {
    nb::class_<ModelFile>(m, "ModelFile", "The programs of a compiled model, from the content of its file.")
        .def(nb::init<nb::object>(), "content"_a)
        .def("ports", &ModelFile::ports, "graph"_a,
             "Return the inputs and the outputs of a graph, \"calls\", \"blocks\", \"pooled\" or \"last\", or None.")
        .def("plans", &ModelFile::plans, "graph"_a, nb::rv_policy::take_ownership, "Return the programs of a graph.")
        .def("stream", &ModelFile::stream, "Return what streams carry, and their axes, or None.");
    m.def("checksum", [](nb::handle content) {
        return content_of(Memory(content)).checksum(0);
    }, "content"_a, "Return the checksum of the content of a file behind its header.");
    m.attr("FILE_VERSION") = int(onward::ModelFile::version);
    m.attr("FILE_LANES") = int(onward::ModelFile::lanes);
}

}  // namespace python
