// Collects windows for sums whose vectors hold adjacent windows.
#pragma once

#include "kernels/kernels.h"
#include "run/view.h"

namespace onward {

// Channels that each have one filter and a bias, and how far apart they are in x; in y, outputs and channels are
// equally far apart.
struct Channels {
    Size count = 1, x_step = 0;
};

// Rows of adjacent windows that overlap as the rows of their kernels do. The first `row_axes` axes of x are those of y,
// the last two of them the rows and the windows of a row; the rows of kernels follow.
struct Images {
    static bool are_in(const View& x, size_t row_axes, const View& y);
    Images(Memory& memory, const View& x, size_t row_axes, const View& y);
    Size count() const { return x.count * rows; }
    Offsets x, y;  // of each image
    Size rows, line;  // rows in an image, and windows in a row
    Size x_row, y_row;
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
