// What the answers share: random numbers, and a hash of results.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

// Random numbers, the same on every machine.
class Random {
public:
    uint64_t bits() {
        uint64_t z = (state += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    double number() { return double(int64_t(bits())) * 0x1p-63; }  // from -1 to 1

    template <class Number>
    std::vector<Number> numbers(onward::Size n, double scale = 1) {
        std::vector<Number> result(n);
        for (Number& element : result) element = Number(number() * scale);
        return result;
    }

    std::vector<int8_t> bytes(onward::Size n) {
        std::vector<int8_t> result(n);
        for (int8_t& byte : result) byte = int8_t(bits() % 256);
        return result;
    }

private:
    uint64_t state = 1;
};

class Hash {
public:
    template <class Number>
    void add(const std::vector<Number>& numbers) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(numbers.data());
        for (size_t i = 0; i < numbers.size() * sizeof(Number); i++) value = (value ^ bytes[i]) * 0x100000001b3;
    }
    uint64_t value = 0xcbf29ce484222325;
};

// Plans of representative graphs: each function adds the results of one of them.
struct Network {
    const char* name;
    void (*run)(Hash&);
};
extern const std::vector<Network> networks;
