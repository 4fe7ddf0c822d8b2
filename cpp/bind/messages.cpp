// Reads the messages of Protocol Buffers into objects of Python, whose classes declare their fields.
//
// Source: https://protobuf.dev/programming-guides/encoding. Every length is compared with the bytes that remain.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>

#include "bind/memory.h"
#include "bind/module.h"

namespace python {

namespace {

enum Wire { varint, fixed64, delimited, group_start, group_end, fixed32 };
enum Kind { integer32, integer64, unsigned64, float32, float64, text, bytes, view, message };
constexpr std::string_view kinds[] = {"<i4", "<i8", "<u8", "<f4", "<f8", "str", "bytes", "memoryview", "message"};

constexpr Size most_varint = 10;  // bytes
constexpr Size charged_at_once = 1024;

[[noreturn]] void fail(const std::string& problem) { throw nb::value_error(problem.c_str()); }
[[noreturn]] void fail_damaged(const std::string& problem) { fail("the file is damaged: " + problem); }

std::string at_byte(Size place) { return " at byte " + std::to_string(place); }

class Reader {
public:
    Reader(const nb::object& data, Size most_depth, const nb::callable& charge, const nb::callable& add_numbers)
        : memory(data), bytes_of(data), most_depth(most_depth), charge(charge), add_numbers(add_numbers) {}

    void read(const nb::object& target) {
        read(target, 0, memory.size(), 1);
        charge(uncharged);
    }

private:
    // A field as its class declares it in `by_key`.
    struct Field {
        const int wire;
        const Kind kind;
        const nb::str name;
        const bool is_repeated, is_array;
        const nb::object inner;        // the class of its messages
        const nb::tuple alternatives;  // the other members of its oneof

        Field(const nb::handle type, const nb::tuple& entry)
            : wire(nb::cast<int>(entry[0])), kind(kind_of(entry[1])), name(entry[2]),
              is_repeated(nb::cast<bool>(entry[3])), is_array(nb::cast<bool>(entry[4])),
              inner(kind == message ? nb::object(type.attr("classes")[entry[5]]) : nb::none()),
              alternatives(entry[6]) {}
    };
    using Fields = std::unordered_map<uint64_t, Field>;

    static Kind kind_of(const nb::handle name) {
        const nb::str text(name);
        return Kind(std::find(std::begin(kinds), std::end(kinds), std::string_view(text.c_str())) - std::begin(kinds));
    }

    static const Field* field_of(Fields& known, const nb::handle type, uint64_t key) {
        const auto found = known.find(key);
        if (found != known.end()) return &found->second;
        const nb::object entry = nb::dict(type.attr("by_key")).get(nb::int_(key), nb::none());
        return entry.is_none() ? nullptr : &known.try_emplace(key, type, nb::tuple(entry)).first->second;
    }

    // Merges the fields in [at, end) into a message.
    void read(const nb::object& target, Size at, Size end, Size depth) {
        if (depth > most_depth)
            fail("the messages" + at_byte(at) + " are nested more than " + std::to_string(most_depth) + " deep");
        const nb::handle type = target.type();
        Fields& known = fields[type.ptr()];
        const nb::dict values = target.attr("__dict__");
        while (at < end) {
            count_field();
            const Size first = at;
            const uint64_t key = number(at, end);
            const Field* const field = field_of(known, type, key);
            if (!field) {
                skip(key, at, end, depth);
                continue;
            }
            const Size start = start_of(field->wire, at, end);
            if (field->is_array || (field->wire == delimited && field->kind < text))
                add_numbers(target, field->name, part(start, at));
            else if (field->kind == view && field->is_repeated)
                keep(values, *field, part(first, end_of_run(key, at, end)));
            else
                keep(values, *field, value(values, *field, type, start, at, depth));
        }
    }

    void keep(nb::dict values, const Field& field, const nb::object& value) {
        if (!field.is_repeated) {
            values[field.name] = value;
            for (const nb::handle other : field.alternatives)
                if (values.contains(other)) nb::del(values[other]);
        } else if (values.contains(field.name)) {
            nb::list(values[field.name]).append(value);
        } else {
            nb::list items;
            items.append(value);
            values[field.name] = items;
        }
    }

    // The value of a field of one number, text or message in [start, stop).
    nb::object value(const nb::dict& values, const Field& field, nb::handle type, Size start, Size stop,
                     Size depth) {
        switch (field.kind) {
            case integer32: return nb::int_(int32_t(number(start, stop)));
            case integer64: return nb::int_(int64_t(number(start, stop)));
            case unsigned64: return nb::int_(number(start, stop));
            case float32: return nb::float_(double(loaded<float>(start)));
            case float64: return nb::float_(loaded<double>(start));
            case text: {
                const char* const content = (const char*)memory.data() + start;
                PyObject* const found = PyUnicode_DecodeUTF8(content, stop - start, nullptr);
                if (found) return nb::steal(found);
                PyErr_Clear();
                fail_damaged("the text " + nb::cast<std::string>(type.attr("__name__")) + "." + field.name.c_str() +
                             at_byte(start) + " is not UTF-8");
            }
            case bytes: return nb::bytes((const char*)memory.data() + start, size_t(stop - start));
            case view: return part(start, stop);
            case message: {
                const bool is_new = field.is_repeated || !values.contains(field.name);
                const nb::object inner = is_new ? field.inner.attr("__new__")(field.inner) : values[field.name];
                read(inner, start, stop, depth + 1);
                return inner;
            }
        }
        return nb::none();
    }

    template <class Real>
    Real loaded(Size start) const {
        Real value;
        std::memcpy(&value, memory.data() + start, sizeof value);
        return value;
    }

    // The bytes in [start, stop), which are not copied.
    nb::object part(Size start, Size stop) const { return bytes_of[nb::slice(start, stop)]; }

    // The unsigned number at a byte, behind which `at` moves.
    uint64_t number(Size& at, Size end) const {
        uint64_t value = 0;
        for (Size place = 0; place < std::min(most_varint, end - at); place++) {
            const uint8_t byte = memory.data()[at + place];
            value |= uint64_t(byte & 127) << 7 * place;
            if (byte < 128) {
                at += place + 1;
                return value;
            }
        }
        fail_damaged("the number" + at_byte(at) +
                     (end - at < most_varint ? " is not complete"
                                             : " has more than " + std::to_string(most_varint) + " bytes"));
    }

    // Where the value of a field starts; `at` moves to its end.
    Size start_of(int wire, Size& at, Size end) const {
        Size start = at;
        uint64_t length = 0;
        switch (wire) {
            case varint: number(at, end); return start;
            case fixed32: length = 4; break;
            case fixed64: length = 8; break;
            case delimited:
                length = number(at, end);
                start = at;
                break;
            default:
                fail_damaged("the field before byte " + std::to_string(at) + " has the wire type " +
                             std::to_string(wire));
        }
        if (length > uint64_t(end - start))
            fail_damaged("the " + std::to_string(length) + " bytes" + at_byte(start) + " end after byte " +
                         std::to_string(end));
        at = start + Size(length);
        return start;
    }

    // Moves behind the fields of the same key that follow, and returns where they end.
    Size end_of_run(uint64_t key, Size& at, Size end) {
        for (Size next = at; next < end && number(next, end) == key; at = next) {
            count_field();
            start_of(int(key & 7), next, end);
        }
        return at;
    }

    // Moves behind the value of an unknown field.
    void skip(uint64_t key, Size& at, Size end, Size depth) {
        if (key >> 3 == 0 || key >> 32)
            fail_damaged("the field before byte " + std::to_string(at) + " has the number " + std::to_string(key >> 3));
        if ((key & 7) != group_start) {
            start_of(int(key & 7), at, end);
            return;
        }
        if (depth > most_depth)
            fail("the groups" + at_byte(at) + " are nested more than " + std::to_string(most_depth) + " deep");
        while (true) {
            const uint64_t inner = number(at, end);
            count_field();
            if (inner == key - group_start + group_end) return;
            skip(inner, at, end, depth + 1);
        }
    }

    void count_field() {
        if (++uncharged < charged_at_once) return;
        charge(uncharged);
        uncharged = 0;
    }

    const Memory memory;
    const nb::object bytes_of;  // a memoryview
    const Size most_depth;      // of nested messages
    const nb::callable charge, add_numbers;
    std::unordered_map<PyObject*, Fields> fields;  // those that occur, by their classes
    Size uncharged = 0;                            // fields
};

}  // namespace

void bind_messages(nb::module_& m) {
    m.def("read_message", [](const nb::object& target, const nb::object& view, Size max_depth,
                             const nb::callable& charge, const nb::callable& add_numbers) {
        Reader(view, max_depth, charge, add_numbers).read(target);
    }, "message"_a, "view"_a, "max_depth"_a, "charge"_a, "add_numbers"_a,
          "Merge the fields in a memoryview into a message, and those of its messages.\n\n"
          "Calls charge(n) for each n fields, and add_numbers(message, name, view) for the bytes of an array or of\n"
          "packed numbers. Raises ValueError, which names the byte, for damaged bytes.");
}

}  // namespace python
