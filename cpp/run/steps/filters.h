// Collects windows for sums whose vectors hold adjacent windows.
#pragma once

#include "kernels/kernels.h"

namespace onward {

// Channels that each have one filter and a bias, and how far apart they are in x; in y, outputs and channels are
// equally far apart.
struct Channels {
    Size count = 1, x_step = 0;
};

class WindowVectors {
public:
    WindowVectors(const Kernels<float>& kernels, const Filters<float>& filters, const Channels& channels = {})
        : kernels(kernels), filters(filters), channels(channels) {
        this->filters.places = places, this->filters.y_places = y_places, this->filters.following = following;
    }
    // Adds n adjacent windows at these places of x and y. The second and the last vector may overlap the one before,
    // and compute the same.
    void add(Size x, Size y, Size n);
    void finish();

private:
    static constexpr Size most = 256;
    const Kernels<float>& kernels;
    Filters<float> filters;
    const Channels channels;
    Size places[most], y_places[most], following[most];
};

}  // namespace onward
