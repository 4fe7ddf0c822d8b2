// The parts of the Python module onward._core. Each adds its classes.
#pragma once

#include <nanobind/nanobind.h>

namespace python {

void bind_layers(nanobind::module_& m);
void bind_backward(nanobind::module_& m);
void bind_losses(nanobind::module_& m);
void bind_plan(nanobind::module_& m);
void bind_plans(nanobind::module_& m);
void bind_pool(nanobind::module_& m);
void bind_session(nanobind::module_& m);
void bind_model_file(nanobind::module_& m);
void bind_messages(nanobind::module_& m);
void bind_steps(nanobind::module_& m);

}  // namespace python
