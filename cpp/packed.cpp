// Packs weights into panels: for each block of L units, for each k, the gates' vectors side by side.
#include "packed.h"

namespace onward {

template <class Real>
Packed<Real>::Packed(const Real* matrix, const Real* bias, long G, long N, long K, long L)
    : Panels<Real>{G, K, ceil_div(N, L)}, memory(Buffer<Real>::zeros(this->blocks * (K + 1) * G * L)) {
    Real* const weights = memory.data();
    Real* const biases = weights + this->blocks * K * G * L;
    for (long g = 0; g < G; g++)
        for (long n = 0; n < N; n++) {
            const long block = n / L, lane = n % L;
            for (long k = 0; k < K; k++) weights[((block * K + k) * G + g) * L + lane] = matrix[(g * N + n) * K + k];
            if (bias) biases[(block * G + g) * L + lane] = bias[g * N + n];
        }
    this->weights = weights;
    this->bias = biases;
}

template struct Packed<float>;
template struct Packed<double>;

}  // namespace onward
