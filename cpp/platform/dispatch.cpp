// Detects the instruction sets of the machine and selects a table of kernels.
#include "platform/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(ONWARD_ARM) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace onward {

#ifdef ONWARD_ARM
extern const Table neon_table, neondotprod_table;
constexpr const Table* baseline = &neon_table;
#else
extern const Table portable_table;
constexpr const Table* baseline = &portable_table;
#endif
#ifdef ONWARD_X86
extern const Table avx2_table, avx512vnni_table;
#ifndef ONWARD_SMALL
extern const Table avx512_table;
#endif
#endif

namespace {

#ifdef ONWARD_ARM
bool has_dot_product() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__APPLE__)
    return true;  // on every Apple processor
#else
    return false;
#endif
}
#endif

// An instruction set that extends `base` by products of bytes: the kernels of `base`, except for these.
template <const Table& base, const Table& bytes>
const Table* extended() {
    static const Table table = [] {
        static constexpr auto kernels_for = [](const Panels<float>& panels) -> const Kernels<float>& {
            const bool are_bytes = panels.format != Format::native && panels.format != Format::float16;
            return (are_bytes ? bytes : base).f32;
        };
        Table all = base;
        all.name = bytes.name, all.bytes = bytes.bytes;
        all.f32.product = [](const Panels<float>& panels, const Operand<float>& a, Size rows, float* out,
                             Size out_stride, int32_t* quantized, const Share& share) {
            kernels_for(panels).product(panels, a, rows, out, out_stride, quantized, share);
        };
        all.f32.gates = [](const Direction<float>& direction, const Step<float>& step, const Share& share) {
            kernels_for(direction.recurrent).gates(direction, step, share);
        };
        all.f32.second_product = [](const Direction<float>& direction, const Step<float>& step, const Share& share) {
            const Panels<float>& panels = direction.candidate.blocks ? direction.candidate : direction.projection;
            kernels_for(panels).second_product(direction, step, share);
        };
        return all;
    }();
    return &table;
}

std::vector<const Table*> available() {
    std::vector<const Table*> tables{baseline};
#ifdef ONWARD_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("f16c")) {
        tables.push_back(&avx2_table);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512cd")) {
            const bool has_vnni = __builtin_cpu_supports("avx512vnni");
#ifdef ONWARD_SMALL
            if (has_vnni) tables.push_back(&avx512vnni_table);
#else
            tables.push_back(&avx512_table);
            if (has_vnni) tables.push_back(extended<avx512_table, avx512vnni_table>());
#endif
        }
    }
#endif
#ifdef ONWARD_ARM
    if (has_dot_product()) tables.push_back(extended<neon_table, neondotprod_table>());
#endif
    return tables;
}

const Table& find(const std::string& isa) {
    std::string names;
    for (const Table* table : available()) {
        if (isa == table->name) return *table;
        names += std::string(names.empty() ? "" : ", ") + table->name;
    }
    throw std::invalid_argument("unknown instruction set '" + isa + "' (from ONWARD_ISA): this build of onward on this "
                                "machine has " + names);
}

std::atomic<const Table*>& current() {
    static std::atomic<const Table*> table = [] {
        const char* isa = std::getenv("ONWARD_ISA");
        return isa && *isa ? &find(isa) : available().back();
    }();
    return table;
}

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Table* table : available()) names.push_back(table->name);
    return names;
}

const Table& selected() { return *current(); }

void select(const std::string& isa) { current() = &find(isa); }

template <>
const Kernels<float>& kernels() {
    return selected().f32;
}

template <>
const Kernels<double>& kernels() {
#ifdef ONWARD_X86
    if (!selected().f64.L) return avx2_table.f64;  // AVX-512 has none: these give the same bits
#endif
    return selected().f64;
}

}  // namespace onward
