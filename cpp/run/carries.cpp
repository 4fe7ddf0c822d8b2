// Gathers the carries of streams in arrays with a row for each, and scatters them again.
#include "run/carries.h"

#include <algorithm>
#include <stdexcept>

namespace onward {

Carries::Carries(std::vector<Kind> kinds, Size capacity) : kinds(std::move(kinds)), rows(size_t(capacity)) {
    for (const Kind& kind : this->kinds) start.push_back(kind.shape);
}

void Carries::set_axes(const std::vector<Size>& rows) {
    if (rows.size() != kinds.size()) throw std::invalid_argument("each carry needs an axis");
    for (size_t carry = 0; carry < kinds.size(); carry++) kinds[carry].rows = rows[carry];
}

void Carries::reserve(Size capacity) {
    if (capacity > Size(rows.size())) rows.resize(size_t(capacity));
}

bool Carries::are_alike(int64_t id, int64_t other) const {
    const State &one = rows[size_t(id)].now, &another = rows[size_t(other)].now;
    return one.shapes == another.shapes || shapes(one) == shapes(another);
}

bool Carries::are_alike(std::span<const int64_t> ids) const {
    return std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return are_alike(id, ids[0]); });
}

Size Carries::offset(const Shapes& shapes, size_t carry) const {
    constexpr Size line = 64;
    Size bytes = 0;
    for (size_t before = 0; before < carry; before++)
        bytes += ceil_div(cut(shapes[before], before).row(), line) * line;
    return bytes;
}

const std::byte* Carries::values(int64_t id, size_t carry) const {
    const State& state = rows[size_t(id)].now;
    return state.shapes ? state.memory.data() + offset(*state.shapes, carry) : kinds[carry].initial;
}

std::byte* Carries::next_values(int64_t id, size_t carry) {
    const State& state = rows[size_t(id)].next;
    return state.memory.data() + offset(*state.shapes, carry);
}

void Carries::gather(std::span<const int64_t> ids, size_t carry, std::byte* to) const {
    const Shapes& shapes = ids.empty() ? start : this->shapes(ids[0]);
    const Cut part = cut(shapes[carry], carry);
    if (ids.empty()) return part.copy({to, 0, 1}, {kinds[carry].initial, 0, 1}, 1);
    const Size first = offset(shapes, carry), n = Size(ids.size());
    for (Size row = 0; row < n; row++) {
        const State& state = rows[size_t(ids[size_t(row)])].now;
        part.copy({to, row, n}, {state.shapes ? state.memory.data() + first : kinds[carry].initial, 0, 1}, 1);
    }
}

const std::shared_ptr<const Carries::Shapes>& Carries::shared(const Shapes& shapes) {
    for (const auto& known : recent)
        if (known && *known == shapes) return known;
    auto& made = recent[oldest++ % recent.size()];
    made = std::make_shared<const Shapes>(shapes);
    return made;
}

void Carries::add(std::span<const int64_t> ids, Shapes& shapes) {
    if (shapes.size() != kinds.size()) throw std::invalid_argument("expected an array for each carry");
    for (size_t carry = 0; carry < kinds.size(); carry++) {
        const Size axis = kinds[carry].rows, n = Size(ids.size());
        Axes& shape = shapes[carry];
        if (axis >= Size(shape.size()) || (axis < 0 ? 1 : shape[size_t(axis)]) != n)
            throw std::invalid_argument("a carry has the wrong dtype, or not a row for each id");
        if (axis >= 0) shape[size_t(axis)] = 1;
    }
    const std::shared_ptr<const Shapes> before = rows[size_t(ids[0])].now.shapes;
    const std::shared_ptr<const Shapes>& after = before && *before == shapes ? before : shared(shapes);
    const Size bytes = offset(shapes, kinds.size());
    for (const int64_t id : ids) {
        State& next = rows[size_t(id)].next;
        next.memory.at_least(bytes);
        if (next.shapes != after) next.shapes = after;
        changed.push_back(id);
    }
}

void Carries::fill(std::span<const int64_t> ids, size_t carry, const std::byte* from) {
    const Shapes& shapes = *rows[size_t(ids[0])].next.shapes;
    const Cut part = cut(shapes[carry], carry);
    const Size first = offset(shapes, carry), n = Size(ids.size());
    for (Size row = 0; row < n; row++)
        part.copy({rows[size_t(ids[size_t(row)])].next.memory.data() + first, 0, 1}, {from, row, n}, 1);
}

void Carries::exchange() {
    for (const int64_t id : changed) std::swap(rows[size_t(id)].now, rows[size_t(id)].next);
}

}  // namespace onward
