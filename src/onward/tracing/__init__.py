"""Records of every gate and state, and plots of them; may import every folder up to streaming."""
