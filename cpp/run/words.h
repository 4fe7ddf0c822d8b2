// Reads the steps and the weights of programs from the numbers that Python writes (onward/graph/plan/words.py).
//
// Files are not trusted: a number that is missing, or does not fit, throws an exception.
#pragma once

#include <bit>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "run/names.h"
#include "run/plan.h"

namespace onward {

// An array of weights in the memory of the caller: a vector or a matrix in row-major order.
struct Array {
    enum class Kind : int32_t { float32, float16, int8, int32 };

    const void* data;
    Kind kind;
    int32_t axes, shape[2];
};

// The weights of a step; their owner must outlive the programs that use them.
using PackedWeights = std::variant<const Dense<float>*, const Dense<double>*, const AnyStack*, const IntegerMatrix*,
                                   const QuantizedLSTM*>;

// A number of a program: the same in every call, or an entry of its table of values, which the sizes of a call decide.
struct Number {
    // Words just above the lowest one are entries.
    static constexpr int64_t first_entry = std::numeric_limits<int64_t>::min();

    int64_t word = 0;

    bool is_entry() const { return word < first_entry + (int64_t(1) << 32); }
    Size at(const Size* values) const { return is_entry() ? values[word - first_entry] : word; }
};

class Words {
public:
    static constexpr int64_t none = int64_t(1) << 62;

    Words(const int64_t* first, Size n) : next(first), end(first + n) {}

    std::vector<Array> arrays;                                             // weights refer to them by number
    const std::vector<PackedWeights>* weights = nullptr;  // steps refer to them by number
    Size entries = 0;                                     // of the table of values
    Size bytes_left = std::numeric_limits<Size>::max();   // of arrays that weights may use, again and again

    bool at_end() const { return next == end; }

    template <class T>
    decltype(auto) read() {
        if constexpr (std::is_same_v<T, float>) return std::bit_cast<float>(int32_t(word()));
        else if constexpr (std::is_same_v<T, bool>) return word() != 0;
        else if constexpr (std::is_same_v<T, Size>) return word();
        else if constexpr (std::is_same_v<T, std::string>) return text();
        else if constexpr (std::is_same_v<T, Cell>) return lookup(cells, text());
        else if constexpr (std::is_same_v<T, Unary>) return lookup(unaries, text());
        else if constexpr (std::is_same_v<T, Binary>) return lookup(binaries, text());
        else if constexpr (std::is_same_v<T, Comparison>) return lookup(comparisons, text());
        else if constexpr (std::is_same_v<T, Window>) return lookup(windows, text());
        else if constexpr (std::is_same_v<T, Reduction>) return lookup(reductions, text());
        else if constexpr (std::is_same_v<T, Activation<float>>) return activation(text());
        else if constexpr (std::is_same_v<T, Number>) return number();
        else if constexpr (std::is_same_v<T, DType>) return lookup(dtypes, text());
        else if constexpr (std::is_same_v<T, std::vector<Size>>) return list<Size>();
        else return packed<T>();
    }

    // Reads what stands for None, which starts no view and no name, and returns whether it was there.
    bool skips_none() {
        const bool is_none = next != end && *next == none;
        next += is_none;
        return is_none;
    }

    // The number of the items that follow, each of which has at least one word.
    Size count() {
        const Size n = word();
        if (n < 0 || n > end - next) throw std::out_of_range("a list exceeds the program");
        return n;
    }

    template <class T>
    std::vector<T> list() {
        std::vector<T> items;
        for (Size n = count(); n--;) items.push_back(read<T>());
        return items;
    }

    // The words of one item, which start with their number.
    Words part() {
        const Size n = count();
        Words words(next, n);
        words.arrays = arrays, words.weights = weights, words.entries = entries;
        next += n;
        return words;
    }

    // The words that are left.
    std::span<const int64_t> rest() const { return {next, end}; }

    // The memory of an array of this shape, or null. Throws if `required` and there is none.
    template <class Number>
    const Number* array(Array::Kind kind, const std::vector<Size>& shape, bool required = false) {
        const Array* const found = array();
        if (!found && !required) return nullptr;
        bool fits = found && found->kind == kind && found->axes == Size(shape.size());
        for (size_t axis = 0; fits && axis < shape.size(); axis++) fits = found->shape[axis] == shape[axis];
        if (!fits) throw std::invalid_argument("an array of weights is missing, or has the wrong dtype or shape");
        bytes_left -= std::accumulate(shape.begin(), shape.end(), Size(4), std::multiplies());
        if (bytes_left < 0) throw std::out_of_range("the weights repeat arrays too often");
        return (const Number*)found->data;
    }

    // The next array, which is not consumed, must be a matrix.
    Array next_matrix() const {
        Words ahead = *this;
        const Array* const found = ahead.array();
        if (!found || found->axes != 2 || found->shape[0] < 1 || found->shape[1] < 1)
            throw std::invalid_argument("weights must be a matrix");
        return *found;
    }

    // A matrix in any format, followed by its scales, which only int8 has.
    Matrix<float> matrix(Size rows, Size columns) {
        const Array::Kind kind = next_matrix().kind;
        if (kind == Array::Kind::int32) throw std::invalid_argument("a matrix has dtype int32");
        const bool is_int8 = kind == Array::Kind::int8;
        const void* const numbers = array<void>(kind, {rows, columns});
        const auto* const scale = array<float>(Array::Kind::float32, {rows}, is_int8);
        return {is_int8 ? Format::int8 : kind == Array::Kind::float16 ? Format::float16 : Format::native, numbers,
                scale};
    }

private:
    int64_t word() {
        if (next == end) throw std::out_of_range("a program ends early");
        return *next++;
    }

    const Array* array() {
        const Size number = word();
        if (number != none && (number < 0 || number >= Size(arrays.size())))
            throw std::out_of_range("an array of weights does not exist");
        return number == none ? nullptr : &arrays[number];
    }

    std::string text() {
        std::string text;
        for (Size n = count(); n--;) text.push_back(char(word()));
        if (!is_utf8(text)) throw std::invalid_argument("a name is not a text");
        return text;
    }

    // Whether a text is UTF-8 without characters 0, which end the strings of C.
    static bool is_utf8(const std::string& text) {
        int following = 0;                          // bytes of the present character
        unsigned char low = 0x80, high = 0xbf;      // between which the next one of them is
        for (const char character : text) {
            const auto byte = (unsigned char)character;
            if (following > 0) {
                if (byte < low || byte > high) return false;
                following--, low = 0x80, high = 0xbf;
                continue;
            }
            if (byte == 0 || (byte >= 0x80 && byte < 0xc2) || byte > 0xf4) return false;
            following = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
            if (byte == 0xe0) low = 0xa0;
            if (byte == 0xed) high = 0x9f;
            if (byte == 0xf0) low = 0x90;
            if (byte == 0xf4) high = 0x8f;
        }
        return following == 0;
    }

    Activation<float> activation(const std::string& name) {
        const Function function = lookup(functions, name);
        const float alpha = read<float>();
        return {function, alpha, read<float>()};
    }

    Number number() {
        const Number found{word()};
        if (found.is_entry() && found.word - Number::first_entry >= entries)
            throw std::out_of_range("a program refers to a size that does not exist");
        return found;
    }

    template <class T>
    const T& packed() {
        const Size number = word();
        if (number < 0 || number >= Size(weights->size()))
            throw std::out_of_range("the weights of a step do not exist");
        const auto* const found = std::get_if<const T*>(&(*weights)[number]);
        if (!found) throw std::invalid_argument("the weights of a step have the wrong kind");
        return **found;
    }

    const int64_t *next, *end;
};

}  // namespace onward
