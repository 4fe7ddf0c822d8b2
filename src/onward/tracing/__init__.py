"""Records of every gate and state, and plots of them. May import errors, core, layers and streaming."""
