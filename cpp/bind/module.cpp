// The Python module onward._core: its functions and its reaction to signals.
#include "bind/module.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>

#include "bind/lock.h"
#include "bind/slots.h"
#include "bind/weights.h"
#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "platform/interrupt.h"
#include "platform/threads.h"
#include "run/names.h"
#include "run/plan.h"

namespace python {

namespace {

// Calls function(kernels, n, x, y) for pieces of n numbers of a contiguous array, without the GIL.
template <class Real, class Function>
void map(const In& x, const Out& y, Function function) {
    const Real* const in = data_of<const Real>(x, "x", {-1});
    const Size n = Size(x.shape(0));
    Real* const out = data_of<Real>(y, "out", {n});
    const WithoutGil release;
    const onward::FlushDenormals flush;
    onward::Interrupt interrupt;
    constexpr Size piece = 1 << 20;
    for (Size first = 0; first < n && !interrupt.requested(); first += piece)
        function(onward::kernels<Real>(), std::min(piece, n - first), in + first, out + first);
    interrupt.throw_if_happened();
}

template <class Real>
void activate(const ActivationIn& activation, const In& x, const Out& y) {
    map<Real>(x, y, [function = activation_of<Real>(activation)](const auto& kernels, Size n, auto* in, auto* out) {
        kernels.activate(function, n, in, out);
    });
}

template <class Real>
void unary(const std::string& operation, const In& x, const Out& y) {
    map<Real>(x, y, [found = onward::lookup(onward::unaries, operation)](const auto& kernels, Size n, auto* in,
                                                                         auto* out) {
        kernels.unary(found, n, in, out);
    });
}

// A Python context in which the present thread flushes denormals to zero, as the core does.
class Flushing {
public:
    void enter() { mode.emplace(); }
    void exit(const nb::args&) { mode.reset(); }

private:
    std::optional<onward::FlushDenormals> mode;
};

// ---- Ctrl-C ---------------------------------------------------------------------------------------------------------

std::atomic<unsigned long> main_thread;  // the only one in which Python handles signals

// Runs the handlers of pending signals. One that raises, as that of Ctrl-C does, leaves a Python error set.
bool interrupted() {
    if (PyThread_get_thread_ident() != main_thread) return false;
    const nb::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
}

PyObject* rethrow = nullptr;  // a function that throws the exception that is handled, which nanobind translates

void raise_argument_error(const std::exception& error) {
    const nb::object type = nb::module_::import_("onward.errors").attr("ArgumentError");
    PyErr_SetString(type.ptr(), error.what());
}

void handle_signals() {
    main_thread = nb::cast<unsigned long>(nb::module_::import_("threading").attr("main_thread")().attr("ident"));
    const nb::module_ os = nb::module_::import_("os");
    if (nb::hasattr(os, "register_at_fork"))
        os.attr("register_at_fork")("after_in_child"_a = nb::cpp_function([] {
            main_thread = PyThread_get_thread_ident();
        }));
    onward::set_interrupt_check(interrupted);
    rethrow = nb::cpp_function([] { throw; }).release().ptr();
    nb::register_exception_translator([](const std::exception_ptr& exception, void*) {
        if (!exception) python::wait_for_exit();  // nanobind has caught what unwinds a thread that Python ends
        try {
            std::rethrow_exception(exception);
        } catch (const onward::Interrupted&) {  // raises the error that is set
        } catch (const onward::Reentrant& error) {
            raise_argument_error(error);
        } catch (const onward::BadValue& error) {
            raise_argument_error(error);
        }
    });
}

// ---- Out of memory --------------------------------------------------------------------------------------------------

// A thread of Python may throw its first exception when there is no memory. Therefore an allocation that fails gives
// back some memory first, which prepares the thread.
std::atomic<void*> reserved;
std::new_handler other_handler;

// Called before operator new throws.
void prepare_exceptions() {
    std::free(reserved.exchange(nullptr));
    onward::prepare_thread();
    std::free(reserved.exchange(std::malloc(1 << 16)));
    if (!other_handler) throw std::bad_alloc();
    other_handler();
}

void handle_exhaustion() {
    onward::prepare_thread();
    reserved = std::malloc(1 << 16);
    other_handler = std::set_new_handler(prepare_exceptions);
}

}  // namespace

void set_error() { PyObject_CallObject(rethrow, nullptr); }

}  // namespace python

NB_MODULE(_core, m) {
    using namespace python;
    m.doc() = "Onward's compiled core.";
    nb::set_leak_warnings(false);  // objects that live until Python exits, such as a layer in a module, are not leaks

    handle_signals();
    handle_exhaustion();
    bind_layers(m);
    bind_backward(m);
    bind_losses(m);
    bind_plan(m);
    bind_plans(m);
    bind_pool(m);
    bind_session(m);
    bind_model_file(m);
    bind_messages(m);
    bind_steps(m);

    nb::class_<CallLock>(m, "CallLock", "A lock for calls, which a signal handler that interrupts one cannot acquire.")
        .def(nb::init<>())
        .def("__enter__", &CallLock::enter)
        .def("__exit__", &CallLock::exit, nb::sig("def __exit__(self, *args: object) -> None"))
        .def("is_mine", &CallLock::is_mine, "Whether this thread holds the lock.")
        .def("run", &CallLock::run, "compute"_a,
             "Return the output of compute() -> (output, change, undo, arrays) and call change(), or neither.");
    m.def("activate", [](const ActivationIn& function, const In& x, const Out& out) {
        is_float32(x) ? activate<float>(function, x, out) : activate<double>(function, x, out);
    }, "function"_a, "x"_a.noconvert(), "out"_a.noconvert(),
       "Apply the function (name, alpha, beta) to each element of x.");
    m.def("unary", [](const std::string& operation, const In& x, const Out& out) {
        is_float32(x) ? unary<float>(operation, x, out) : unary<double>(operation, x, out);
    }, "operation"_a, "x"_a.noconvert(), "out"_a.noconvert(), "Apply the operation to each element of x.");
    nb::class_<Flushing>(m, "Flushing", "A context in which NumPy flushes denormal numbers to zero, as the core does.")
        .def(nb::init<>())
        .def("__enter__", &Flushing::enter)
        .def("__exit__", &Flushing::exit, nb::sig("def __exit__(self, *args: object) -> None"));

    m.def("isa", [] { return std::string(onward::selected().name); }, "The instruction set in use.");
    m.def("available_isas", &onward::available_isas,
          "The instruction sets that this build contains and this machine supports, slowest first.");
    m.def("set_isa", &onward::select, "name"_a, "Use this instruction set for all weights packed from now on.");
    m.def("set_num_threads", &onward::set_num_threads, "n"_a, "Set the maximum number of threads of a call.");
    m.def("set_own_num_threads", &onward::set_own_num_threads, "n"_a,
          "Set it for calls from this Python thread; 0 means as for all threads. Return the previous value.");
    m.def("num_threads", &onward::num_threads, "The maximum number of threads of a call from this Python thread.");
    onward::selected();  // raises an error for a wrong ONWARD_ISA at import
}
