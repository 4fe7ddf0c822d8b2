// The Python module onward._core, and what it has beside classes.
#include "bind/module.h"

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/threads.h"
#include "bind/weights.h"

namespace python {

namespace {

template <class Real>
void activate(const ActivationIn& activation, const In& x, const Out& y) {
    const Real* const in = data_of<const Real>(x, "x", {-1});
    const Size n = Size(x.shape(0));
    Real* const out = data_of<Real>(y, "out", {n});
    const onward::Activation<Real> function = activation_of<Real>(activation);
    const nb::gil_scoped_release release;
    const onward::FlushDenormals flush;
    onward::kernels<Real>().activate(function, n, in, out);
}

}  // namespace

}  // namespace python

NB_MODULE(_core, m) {
    using namespace python;
    m.doc() = "Onward's compiled core.";
    nb::set_leak_warnings(false);  // what lives until Python ends, as a layer kept in a module may, is no leak

    bind_layers(m);
    bind_backward(m);
    bind_losses(m);
    bind_stream(m);
    bind_plan(m);
    bind_pool(m);

    m.def("activate", [](const ActivationIn& function, const In& x, const Out& out) {
        is_float32(x) ? activate<float>(function, x, out) : activate<double>(function, x, out);
    }, "function"_a, "x"_a.noconvert(), "out"_a.noconvert(),
       "A function, as (name, alpha, beta), of each number of x.");

    m.def("isa", [] { return std::string(onward::selected().name); }, "The instruction set in use.");
    m.def("available_isas", &onward::available_isas, "Those that this build has and this machine runs, slowest first.");
    m.def("set_isa", &onward::select, "name"_a, "Use this instruction set for what is packed from now on.");
    m.def("set_num_threads", &onward::set_num_threads, "n"_a, "Threads for one call, at most.");
    m.def("set_own_num_threads", &onward::set_own_num_threads, "n"_a,
          "The same for calls of this Python thread alone; 0: as for all. Returns what it was.");
    m.def("num_threads", &onward::num_threads, "Threads for one call of this Python thread, at most.");
    m.def("arithmetic", [](Size n) {
        float result = 0;
        const nb::gil_scoped_release release;
        return n * onward::kernels<float>().arithmetic(n, &result);
    }, "n"_a, "Does nothing but fma in registers; returns the number of float32 operations. For measuring.");
    m.def("nothing", [](const In&, const OptionalOut&) {}, "x"_a.noconvert(), "out"_a.noconvert() = nb::none(),
          "Takes what a Stream takes, and does nothing. For measuring.");
    m.def("read", [](const nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>& x, Size times) {
        const nb::gil_scoped_release release;
        float sum = 0;
        while (times-- > 0) sum += onward::kernels<float>().read(Size(x.shape(0)), x.data());
        return sum;
    }, "x"_a, "times"_a, "Reads x, aligned to 64 bytes, some times over. For measuring.");
    onward::selected();  // a wrong ONWARD_ISA is an error at import, not at the first call
}
