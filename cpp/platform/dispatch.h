// Which instruction set's kernels to use.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace onward {

std::vector<std::string> available_isas();  // that this build has and this machine runs, slowest first
const Table& selected();                    // the fastest, unless ONWARD_ISA or select says otherwise
void select(const std::string& isa);        // for what is packed from now on; throws std::invalid_argument

template <class Real>
const Kernels<Real>& kernels();

}  // namespace onward
