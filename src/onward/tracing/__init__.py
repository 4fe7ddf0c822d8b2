"""Records of every gate and state of a model's run, and plots of them."""
