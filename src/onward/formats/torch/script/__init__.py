"""Run TorchScript archives: parse their code, interpret it, record a graph; may import every folder up to tracing."""
