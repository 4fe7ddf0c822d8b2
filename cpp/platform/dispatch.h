// The choice of the instruction set.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace onward {

std::vector<std::string> available_isas();  // contained in this build and supported by this machine, slowest first
const Table& selected();                    // the fastest, unless set by ONWARD_ISA or select
void select(const std::string& isa);        // for weights packed from now on; throws std::invalid_argument

template <class Real>
const Kernels<Real>& kernels();

}  // namespace onward
