// The states of streams in bytes: a signature, the fingerprint of the model, and the shapes and values of all carries.
#include <cstring>

#include "run/session.h"

namespace onward {

namespace {

constexpr uint64_t state_signature = 0x31657461'74736e6f;  // "onstate1"

// Throws BadFile if less is left.
class StateReader {
public:
    explicit StateReader(std::span<const std::byte> bytes) : rest(bytes) {}
    int64_t number() {
        int64_t found;
        std::memcpy(&found, take(8).data(), 8);
        return found;
    }
    std::span<const std::byte> take(Size n) {
        if (n < 0 || n > Size(rest.size())) throw BadFile("the state is cut off");
        const auto taken = rest.first(size_t(n));
        rest = rest.subspan(size_t(n));
        return taken;
    }
    bool at_end() const { return rest.empty(); }

private:
    std::span<const std::byte> rest;
};

int64_t fingerprint(const FileStream& stream) {
    const std::string& text = stream.fingerprint;
    return int64_t(Content((const std::byte*)text.data(), Size(text.size()), false).checksum(0));
}

// Whether a state may have a shape at some time.
bool may_have(const FileStream::Carry& carry, const Axes& shape) {
    const Axes& initial = carry.initial.shape;
    if (carry.rows >= 0 && (carry.rows >= Size(shape.size()) || shape[carry.rows] != 1)) return false;
    if (carry.has_any_shape) return true;
    if (shape.size() != initial.size()) return false;
    for (size_t axis = 0; axis < shape.size(); axis++)
        if (shape[axis] != initial[axis] && Size(axis) != carry.time) return false;
    return true;
}

}  // namespace

Size Session::state_size(int64_t id) const {
    check(id);
    Size size = 3 * 8;
    for (size_t i = 0; i < carries.size(); i++) {
        const Axes& shape = carries.shapes(id)[i];
        size += 8 + 8 * Size(shape.size()) + bytes_of(shape, *model().carries[i].initial.dtype);
    }
    return size;
}

void Session::save(int64_t id, std::span<std::byte> to) const {
    if (Size(to.size()) < state_size(id)) throw BadCall("the state has " + std::to_string(state_size(id)) + " bytes");
    std::byte* next = to.data();
    auto put = [&](const void* from, Size n) { std::memcpy(next, from, size_t(n)), next += n; };
    auto put_number = [&](int64_t number) { put(&number, 8); };
    put_number(int64_t(state_signature)), put_number(fingerprint(model())), put_number(have_ended[size_t(id)]);
    for (size_t i = 0; i < carries.size(); i++) {
        const Axes& shape = carries.shapes(id)[i];
        put_number(Size(shape.size()));
        for (const Size size : shape) put_number(size);
        put(carries.values(id, i), bytes_of(shape, *model().carries[i].initial.dtype));
    }
}

void Session::restore(int64_t id, std::span<const std::byte> from) {
    check(id);
    StateReader reader(from);
    if (uint64_t(reader.number()) != state_signature) throw BadFile("it is not the state of a stream");
    if (reader.number() != fingerprint(model())) throw BadFile("it is the state of another model");
    const int64_t has_ended = reader.number();
    operands.clear(), shapes.clear();
    for (const FileStream::Carry& carry : model().carries) {
        const int64_t rank = reader.number();
        if (rank < 0 || rank > Size(Axes::most)) throw BadFile("a state has too many axes");
        Axes& shape = shapes.emplace_back();
        for (int64_t axis = 0; axis < rank; axis++) shape.push_back(reader.number());
        Size bytes = size_of(*carry.initial.dtype);
        for (const Size size : shape)
            if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) throw BadFile("a state is too large");
        if (!may_have(carry, shape)) throw BadFile("a state has the wrong shape");
        operands.push_back({(std::byte*)reader.take(bytes).data(), carry.initial.dtype, shape, bytes, true});
    }
    if (!reader.at_end() || (has_ended != 0 && has_ended != 1)) throw BadFile("a state has the wrong size");
    carries.begin();
    carries.add({&id, 1}, shapes);
    for (size_t i = 0; i < operands.size(); i++) carries.fill({&id, 1}, i, operands[i].data);
    carries.exchange();
    have_ended[size_t(id)] = has_ended != 0;
}

}  // namespace onward
