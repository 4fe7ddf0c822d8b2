// Gathers the carries of streams in arrays with a row for each, and scatters them again.
#include "run/carries.h"

#include <algorithm>
#include <stdexcept>

namespace onward {

Carries::Carries(std::vector<Kind> kinds, Shapes shapes, std::vector<const std::byte*> initial)
    : kinds(std::move(kinds)), start(std::move(shapes)), initial(std::move(initial)) {}

void Carries::set_axes(const std::vector<Size>& rows) {
    if (rows.size() != kinds.size()) throw std::invalid_argument("each carry needs an axis");
    for (size_t carry = 0; carry < kinds.size(); carry++) kinds[carry].rows = rows[carry];
}

void Carries::reserve(Size capacity) {
    if (capacity > Size(rows.size())) rows.resize(size_t(capacity));
}

bool Carries::are_alike(int64_t id, int64_t other) const {
    const Row &one = rows[size_t(id)], &another = rows[size_t(other)];
    return one.shapes == another.shapes || shapes(one) == shapes(another);
}

bool Carries::are_alike(std::span<const int64_t> ids) const {
    return std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return are_alike(id, ids[0]); });
}

Size Carries::offset(const Shapes& shapes, size_t carry) const {
    Size bytes = 0;
    for (size_t before = 0; before < carry; before++) bytes += cut(shapes[before], before).row();
    return bytes;
}

void Carries::gather(std::span<const int64_t> ids, size_t carry, std::byte* to) const {
    const Shapes& shapes = ids.empty() ? start : this->shapes(ids[0]);
    const Cut part = cut(shapes[carry], carry);
    if (ids.empty()) return part.copy({to, 0, 1}, {initial[carry], 0, 1}, 1);
    const Size first = offset(shapes, carry), n = Size(ids.size());
    for (Size row = 0; row < n; row++) {
        const std::byte* const values = rows[size_t(ids[size_t(row)])].memory.get();
        part.copy({to, row, n}, {values ? values + first : initial[carry], 0, 1}, 1);
    }
}

// What the last change replaced becomes memory for the next one.
void Carries::begin() {
    std::swap(spare, replaced);
    clear();
}

size_t Carries::add(std::span<const int64_t> ids, Shapes shapes) {
    if (shapes.size() != kinds.size()) throw std::invalid_argument("expected an array for each carry");
    Size bytes = 0;
    for (size_t carry = 0; carry < kinds.size(); carry++) {
        const Size axis = kinds[carry].rows, n = Size(ids.size());
        Axes& shape = shapes[carry];
        if (axis >= Size(shape.size()) || (axis < 0 ? 1 : shape[size_t(axis)]) != n)
            throw std::invalid_argument("a carry has the wrong dtype, or not a row for each id");
        if (axis >= 0) shape[size_t(axis)] = 1;
        bytes += cut(shape, carry).row();
    }
    std::shared_ptr<const Shapes> shared = rows[size_t(ids[0])].shapes;
    if (this->shapes(ids[0]) != shapes) shared = std::make_shared<const Shapes>(std::move(shapes));
    const size_t first = changed.size();
    changed.insert(changed.end(), ids.begin(), ids.end());
    for (size_t row = 0; row < ids.size(); row++) {
        while (!spare.empty() && !(spare.back().memory && spare.back().bytes == bytes)) spare.pop_back();
        if (spare.empty()) {
            replaced.push_back({shared, std::make_unique_for_overwrite<std::byte[]>(size_t(bytes)), bytes});
            continue;
        }
        replaced.push_back(std::move(spare.back())), spare.pop_back();
        if (replaced.back().shapes != shared) replaced.back().shapes = shared;
    }
    return first;
}

void Carries::fill(size_t first, size_t n, size_t carry, const std::byte* from) {
    const Shapes& shapes = this->shapes(replaced[first]);
    const Size start = offset(shapes, carry);
    const Cut part = cut(shapes[carry], carry);
    for (size_t row = 0; row < n; row++)
        part.copy({replaced[first + row].memory.get() + start, 0, 1}, {from, Size(row), Size(n)}, 1);
}

void Carries::exchange() {
    for (size_t row = 0; row < changed.size(); row++) std::swap(rows[size_t(changed[row])], replaced[row]);
}

}  // namespace onward
