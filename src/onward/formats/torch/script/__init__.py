"""Run TorchScript programs: interpret their code into graphs; may import every folder up to tracing."""
