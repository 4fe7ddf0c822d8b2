// Encodes the steps of a program as words, which run/words.h reads, and finds when the steps use each space. A step is
// a tuple (name, arguments).
#include <algorithm>
#include <bit>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bind/module.h"
#include "bind/memory.h"
#include "run/words.h"

namespace python {

namespace {

bool is_exactly(const nb::handle value, const PyTypeObject& type) { return Py_TYPE(value.ptr()) == &type; }

bool is_loop(const nb::handle step) {
    return PyUnicode_CompareWithASCIIString(nb::object(step[0]).ptr(), "loop") == 0;
}

// Calls function(space) for each view among values, and for those in the steps of loops.
template <class Function>
void for_each_view(const nb::handle values, const nb::handle view, bool is_deep, const Function& function) {
    for (const nb::handle value : nb::borrow(values)) {
        if (value.type().is(view)) function(nb::cast<int64_t>(value[0]));
        else if (is_deep && (nb::isinstance<nb::tuple>(value) || nb::isinstance<nb::list>(value)))
            for_each_view(value, view, is_deep, function);
    }
}

nb::dict users_of(const nb::list& steps, const nb::object& view) {
    std::unordered_map<int64_t, std::pair<nb::list, size_t>> users;  // with the last step
    nb::dict found;
    size_t number = 0;
    for (const nb::handle step : steps) {
        number++;
        for_each_view(nb::object(step[1]), view, is_loop(step), [&](int64_t space) {
            auto& [numbers, last] = users[space];
            if (last == number) return;
            if (!last) found[nb::int_(space)] = numbers;
            numbers.append(number - 1);
            last = number;
        });
    }
    return found;
}

class Lifetimes {
public:
    explicit Lifetimes(const nb::object& view) : view(view) {}

    // Adds the lifetimes of what steps use, the first of which runs at `time`. Returns the time after the last one.
    int64_t add(const nb::handle steps, int64_t time) {
        for (const nb::handle step : nb::borrow(steps)) {
            const int64_t start = time;
            const nb::object arguments = step[1];
            int64_t first = 0, last = 1;  // the spaces of a body alone
            const bool is_deep = is_loop(step);
            if (is_deep) {
                const nb::object body = arguments[nb::len(arguments) - 1];
                first = nb::cast<int64_t>(body[1]);
                last = nb::cast<int64_t>(body[2]);
                time = add(nb::object(body[0]), time + 1);
            }
            for_each_view(arguments, view, is_deep, [&](int64_t space) {
                if (space < 0 && (space < last || space > first)) use(space, start, time);
            });
            time++;
        }
        return time;
    }

    nb::dict sorted() {
        std::stable_sort(lives.begin(), lives.end(), [](auto& a, auto& b) { return a.first < b.first; });
        nb::dict found;
        for (const Life& life : lives) found[nb::int_(life.space)] = nb::make_tuple(life.first, life.last);
        return found;
    }

private:
    struct Life {
        int64_t space, first, last;
    };

    void use(int64_t space, int64_t first, int64_t last) {
        const auto [place, is_new] = places.try_emplace(space, lives.size());
        if (is_new) lives.push_back({space, first, last});
        Life& life = lives[place->second];
        life.first = std::min(life.first, first);
        life.last = last;
    }

    const nb::object view;
    std::unordered_map<int64_t, size_t> places;
    std::vector<Life> lives;  // in the order of the first uses
};

class WordWriter {
public:
    // `spaces` maps the spaces of views to the numbers under which they are written. `replace` returns an integer, a
    // number or words as bytes for a value of another type.
    WordWriter(const nb::handle view, const nb::dict& spaces, const nb::callable& replace)
        : view_type(view), spaces(spaces), replace(replace) {}

    void write_items(const nb::handle values) {
        for (const nb::handle value : nb::borrow(values)) write(value);
    }

    // A list of steps, each with its length.
    void write_steps(const nb::list& steps) {
        words.push_back(int64_t(steps.size()));
        for (const nb::handle step : steps) {
            const size_t start = words.size();
            words.push_back(0);
            write_text(step[0]);
            write_items(nb::object(step[1]));
            words[start] = int64_t(words.size() - start - 1);
        }
    }

    nb::bytes content() const { return nb::bytes((const char*)words.data(), words.size() * sizeof(int64_t)); }

private:
    void write(const nb::handle value) {
        if (value.type().is(view_type)) write_view(nb::borrow<nb::tuple>(value));
        else if (is_exactly(value, PyLong_Type)) write_integer(value);
        else if (is_exactly(value, PyUnicode_Type)) write_text(value);
        else if (value.is_none()) words.push_back(onward::Words::none);
        else if (is_exactly(value, PyTuple_Type)) write_tuple(nb::borrow<nb::tuple>(value));
        else if (is_exactly(value, PyList_Type)) write_list(value);
        else if (is_exactly(value, PyFloat_Type)) write_float(value);
        else write_replaced(replace(value));
    }

    void write_view(const nb::tuple& view) {
        const nb::object space = view[0];
        write(spaces.get(space, space));
        write(view[1]);
        write_list(view[2]);
        write_list(view[3]);
        write_text(view[4]);
    }

    // Its items; (name, alpha, beta) is an activation, whose numbers are floats.
    void write_tuple(const nb::tuple& items) {
        if (items.size() != 3 || !is_exactly(items[0], PyUnicode_Type)) return write_items(items);
        write_text(items[0]);
        write_float(items[1]);
        write_float(items[2]);
    }

    void write_list(const nb::handle items) {
        words.push_back(int64_t(nb::len(items)));
        write_items(items);
    }

    void write_integer(const nb::handle value) {
        words.push_back(PyLong_AsLongLong(value.ptr()));
        if (words.back() == -1 && PyErr_Occurred()) throw nb::python_error();
    }

    void write_float(const nb::handle value) {
        const double number = PyFloat_AsDouble(value.ptr());
        if (number == -1 && PyErr_Occurred()) throw nb::python_error();
        words.push_back(std::bit_cast<int32_t>(float(number)));
    }

    void write_text(const nb::handle value) {
        Py_ssize_t size = 0;
        const char* const text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
        if (!text) throw nb::python_error();
        words.push_back(size);
        for (const char c : std::string_view(text, size_t(size))) words.push_back(uint8_t(c));
    }

    void write_replaced(const nb::object& found) {
        if (!is_exactly(found, PyBytes_Type)) return write(found);
        const nb::bytes inner(found);
        const auto* const first = (const int64_t*)inner.data();
        words.insert(words.end(), first, first + inner.size() / sizeof(int64_t));
    }

    const nb::handle view_type;
    const nb::dict spaces;
    const nb::callable replace;
    std::vector<int64_t> words;
};

}  // namespace

void bind_steps(nb::module_& m) {
    m.def("users_of", &users_of, "steps"_a, "view"_a,
          "Return the numbers of the steps that use each space, in order; `view` is the class of views.");
    m.def("lifetimes", [](const nb::list& steps, const nb::object& view) {
        Lifetimes lifetimes(view);
        lifetimes.add(steps, 0);
        return lifetimes.sorted();
    }, "steps"_a, "view"_a, "Return when each array of the arena is used first and last, in the order of first uses.");
    m.def("words_of", [](const nb::tuple& values, const nb::object& view, const nb::dict& spaces,
                         const nb::callable& replace) {
        WordWriter writer(view, spaces, replace);
        writer.write_items(values);
        return writer.content();
    }, "values"_a, "view"_a, "spaces"_a, "replace"_a,
          "Return the words of values, one behind the other, as bytes.\n\n"
          "`view` is the class of views. replace(value) returns an integer, a float, or words as bytes for a value of\n"
          "another type. Raises OverflowError for an integer of more than 64 bits.");
    m.def("words_of_steps", [](const nb::list& steps, const nb::object& view, const nb::dict& spaces,
                               const nb::callable& replace) {
        WordWriter writer(view, spaces, replace);
        writer.write_steps(steps);
        return writer.content();
    }, "steps"_a, "view"_a, "spaces"_a, "replace"_a, "Return the words of a list of steps likewise.");
}

}  // namespace python
