// Reads files of compiled models, and checks everything that does not depend on the sizes of a call.
#include "run/model_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace onward {

static_assert(std::endian::native == std::endian::little, "files are read in the byte order of the machine");

namespace {

struct Header {
    char signature[8];
    uint32_t version, lanes;
    uint64_t checksum;
    int64_t size, words, word_count, data, data_size;
};
static_assert(sizeof(Header) == ModelFile::header);

void require(bool holds, const char* problem) {
    if (!holds) throw BadFile(problem);
}

// An array in the data of the file.
struct Stored {
    std::string dtype;
    std::vector<Size> shape;
    Size first, bytes;
    const std::byte* kept;  // what programs refer to, once one does
};

Size item_size(const std::string& dtype) { return dtype == "float16" ? 2 : size_of(lookup(dtypes, dtype)); }

class Reader {
public:
    Reader(const Content& content, Size data, Size size, std::vector<Buffer<std::byte>>& memory)
        : content(content), data(data), size(size), memory(memory), scratch(content.stays ? 0 : size) {}

    Stored array(Words& words) const {
        Stored stored{words.read<std::string>(), words.list<Size>(), 0, 0, nullptr};
        stored.bytes = item_size(stored.dtype);
        for (const Size n : stored.shape)
            require(n >= 0 && !__builtin_mul_overflow(stored.bytes, n, &stored.bytes), "an array is too large");
        const Size offset = words.read<Size>();
        require(stored.shape.size() <= Axes::most && offset >= 0 && offset % ModelFile::alignment == 0 &&
                    stored.bytes <= size - offset,
                "an array exceeds the file");
        stored.first = data + offset;
        return stored;
    }

    // The array whose number follows.
    Stored& known(Words& words) {
        const Size number = words.read<Size>();
        require(number >= 0 && number < Size(arrays.size()), "an array does not exist");
        return arrays[number];
    }

    // The bytes of an array, as long as the file is open.
    const std::byte* kept(Stored& stored) {
        if (stored.kept) return stored.kept;
        charge(stored.bytes);
        if (content.stays) return stored.kept = content.read(stored.first, stored.bytes, nullptr);
        memory.emplace_back(std::max(stored.bytes, Size(1)));
        return stored.kept = content.copy(stored.first, stored.bytes, memory.back().data());
    }

    std::unique_ptr<KeptWeights> weights(Words words) {
        std::vector<const Stored*> stored;
        Size bytes = 0;
        for (Size n = words.count(); n--;) {
            stored.push_back(&known(words));
            charge(stored.back()->bytes), bytes += padded(stored.back()->bytes);
        }
        if (!content.stays && bytes > size) scratch = Buffer<std::byte>(bytes);
        std::byte* to = scratch.data();
        for (const Stored* const each : stored) {
            words.arrays.push_back(read(*each, to));
            if (!content.stays) to += padded(each->bytes);
        }
        words.bytes_left = bytes_left;
        std::unique_ptr<KeptWeights> packed = pack_weights(words);
        bytes_left = words.bytes_left;
        require(words.at_end(), "weights have too many words");
        return packed;
    }

    Port port(Words& words) const {
        Port port{words.read<std::string>(), words.read<DType>(), {}, words.read<bool>()};
        for (Size n = words.count(); n--;) {
            const Size axis = words.read<Size>();
            port.axes.push_back({axis, words.read<std::string>()});
            require(axis >= -1, "an axis has a size below 0");
        }
        require(port.axes.size() <= Axes::most, "an array has too many axes");
        return port;
    }

    Input input(Words& words) {
        Input input{words.read<DType>(), words.list<Size>(), {}};
        require(input.shape.size() <= Axes::most, "an input has too many axes");
        if (words.skips_none()) return input;
        const Stored& value = known(words);
        require(value.dtype == name_of(input.dtype) && value.shape == input.shape, "a value does not fit its input");
        charge(value.bytes);
        input.value.emplace(size_t(value.bytes), '\0');
        content.copy(value.first, value.bytes, (std::byte*)input.value->data());
        return input;
    }

    FileGraph::Compiled program(Words words, const std::vector<PackedWeights>& weights, const FileGraph& graph) {
        Signature signature;
        for (Size n = words.count(); n--;) signature.add(input(words));
        signature.outputs = words.list<DType>();
        require(signature.inputs.size() == graph.inputs.size() && signature.outputs.size() == graph.outputs.size(),
                "a program has the wrong number of inputs or outputs");
        const std::byte* constants = nullptr;
        if (!words.skips_none()) {
            Stored& stored = known(words);
            constants = kept(stored), signature.constants = stored.bytes;
        }
        for (size_t i = 0; i < signature.outputs.size(); i++)
            require(signature.outputs[i] == graph.outputs[i].dtype, "an output has the wrong dtype");
        require(signature.axes <= most_axes, "a program has too many axes");
        const auto rest = words.rest();
        return {std::move(signature), constants,
                std::make_unique<const Program>(rest.data(), Size(rest.size()), weights)};
    }

    FileGraph graph(Words& words, const std::vector<PackedWeights>& weights) {
        FileGraph graph;
        for (Size n = words.count(); n--;) graph.inputs.push_back(port(words));
        for (Size n = words.count(); n--;) graph.outputs.push_back(port(words));
        for (Size n = words.count(); n--;) graph.programs.push_back(program(words.part(), weights, graph));
        return graph;
    }

    FileStream stream(Words& words, const std::vector<PackedWeights>& weights) {
        FileStream stream{};
        stream.graph = graph(words, weights);
        if (words.read<bool>()) stream.pooled = graph(words, weights);
        if (words.read<bool>()) stream.last = graph(words, weights);
        for (Size n = words.count(); n--;) {
            Stored& initial = known(words);
            FileStream::Carry carry{{(std::byte*)kept(initial), lookup(dtypes, initial.dtype), {}, initial.bytes, true},
                                    words.read<Size>(), words.read<Size>(), words.read<bool>()};
            for (const Size size : initial.shape) carry.initial.shape.push_back(size);
            stream.carries.push_back(carry);
        }
        stream.input_rows = words.list<Size>();
        for (Size n = words.count(); n--;) {
            const Size time = words.read<Size>();
            stream.outputs.push_back({time, words.read<Size>()});
        }
        stream.last_rows = words.list<Size>();
        stream.are_together = words.read<bool>();
        stream.time = words.read<Size>(), stream.rows = words.read<Size>(), stream.latency = words.read<Size>();
        stream.every_step = words.read<bool>();
        stream.step_shape = words.list<Size>();
        stream.fingerprint = words.read<std::string>();
        check(stream);
        return stream;
    }

    std::vector<Stored> arrays;

private:
    static constexpr Size most_axes = 1 << 10;

    static Size padded(Size bytes) { return ceil_div(bytes, ModelFile::alignment) * ModelFile::alignment; }

    void charge(Size bytes) {
        bytes_left -= bytes;
        require(bytes_left >= 0, "its programs repeat arrays too often");
    }

    // An array of weights, which is copied to `to` unless it stays in memory.
    Array read(const Stored& stored, std::byte* to) const {
        constexpr std::pair<const char*, Array::Kind> kinds[] = {
            {"float32", Array::Kind::float32}, {"float16", Array::Kind::float16}, {"int8", Array::Kind::int8},
            {"int32", Array::Kind::int32},
        };
        require(stored.shape.size() == 1 || stored.shape.size() == 2, "weights must be vectors or matrices");
        const Array::Kind kind = lookup(kinds, stored.dtype);
        Array array{content.read(stored.first, stored.bytes, to), kind, int32_t(stored.shape.size()), {}};
        for (size_t axis = 0; axis < stored.shape.size(); axis++) {
            require(stored.shape[axis] <= INT32_MAX, "an array is too large");
            array.shape[axis] = int32_t(stored.shape[axis]);
        }
        return array;
    }

    static std::string name_of(DType dtype) {
        for (const auto& [name, known] : dtypes)
            if (known == dtype) return name;
        return {};
    }

    static void check(const FileStream& stream) {
        const size_t carries = stream.carries.size(), inputs = stream.graph.inputs.size();
        require(carries + stream.input_rows.size() == inputs &&
                    carries + stream.outputs.size() == stream.graph.outputs.size() &&
                    stream.of_rows().inputs.size() == inputs &&
                    stream.of_rows().outputs.size() == stream.graph.outputs.size(),
                "a stream has the wrong number of inputs or outputs");
        auto fits = [](Size axis) { return axis >= -1 && axis < Size(Axes::most); };
        for (size_t i = 0; i < carries; i++) {
            const auto& [initial, rows, time, has_any_shape] = stream.carries[i];
            const auto rank = Size(initial.shape.size());
            require(rows >= -1 && time >= -1 && rows < rank && time < rank && (rows >= 0) == stream.are_together &&
                        (rows < 0 || initial.shape[rows] == 1) && stream.graph.outputs[i].dtype == initial.dtype &&
                        stream.of_rows().outputs[i].dtype == initial.dtype,
                    "a carry has the wrong dtype or shape");
        }
        for (const Size rows : stream.input_rows)
            require(fits(rows) && (rows >= 0 || !stream.are_together), "an input has no axis for rows");
        for (const auto& [time, rows] : stream.outputs) require(fits(time) && fits(rows), "an axis does not exist");
        require(stream.latency >= 0 && fits(stream.time) && fits(stream.rows), "an axis does not exist");
        if (!stream.last) return;
        require(stream.last->inputs.size() == carries + 1 && inputs == carries + 1 && stream.time >= 0 &&
                    stream.time < Size(stream.step_shape.size()) && stream.rows < Size(stream.step_shape.size()) &&
                    stream.step_shape.size() <= Axes::most &&
                    stream.last_rows.size() == stream.last->outputs.size() &&
                    stream.last_rows.size() == stream.outputs.size(),
                "the end of a stream does not fit it");
        for (const Size rows : stream.last_rows) require(fits(rows), "an axis does not exist");
        for (const Size n : stream.step_shape)
            require(n >= 0 && n <= INT32_MAX, "the end of a stream does not fit it");
    }

    const Content& content;
    const Size data, size;  // where the data of the arrays starts, and its bytes
    std::vector<Buffer<std::byte>>& memory;
    Buffer<std::byte> scratch;  // copies of the arrays that weights are packed from
    Size bytes_left = (Size(1) << 22) + 16 * size;  // to read and to pack: a file may name an array again and again
};

}  // namespace

ModelFile::ModelFile(const Content& content) {
    const Size size = content.size;
    Header found{};
    content.copy(0, std::min(size, header), (std::byte*)&found);
    require(std::memcmp(found.signature, signature, 8) == 0, "it is not a compiled model");
    require(size >= header, "it is cut off");
    if (found.version != version)
        throw BadFile("it has version " + std::to_string(found.version) + " of the format, but this is version " +
                      std::to_string(version) + ": compile the model with this version of Onward");
    require(found.lanes == lanes, "its programs permit other vectors");
    require(found.size == size, "it is cut off, or has bytes behind its end");
    const auto section = [&](int64_t offset, int64_t bytes) {
        return offset >= header && offset % alignment == 0 && bytes >= 0 && bytes <= size - offset;
    };
    require(found.word_count >= 0 && found.word_count <= size / 8 && section(found.words, found.word_count * 8) &&
                section(found.data, found.data_size),
            "a section exceeds the file");
    require(found.checksum == content.checksum(24), "it is damaged: its checksum is wrong");
    const Buffer<int64_t> copy(content.stays ? 0 : found.word_count);
    try {
        Words words((const int64_t*)content.read(found.words, found.word_count * 8, (std::byte*)copy.data()),
                    found.word_count);
        Reader reader(content, found.data, found.data_size, arrays);
        for (Size n = words.count(); n--;) reader.arrays.push_back(reader.array(words));
        for (Size n = words.count(); n--;) weights.push_back(reader.weights(words.part()));
        const std::vector<PackedWeights> kept = packed(weights);
        if (words.read<bool>()) calls = reader.graph(words, kept);
        if (words.read<bool>()) stream = reader.stream(words, kept);
        require(words.at_end() && (calls || stream), "its words are not complete");
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const NotReadable&) {
        throw;
    } catch (const std::exception& error) {
        throw BadFile(std::string("it is damaged: ") + error.what());
    }
}

}  // namespace onward
