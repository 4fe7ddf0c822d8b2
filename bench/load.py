"""Time and peak memory from a file to the first output, Onward beside the framework that wrote the file.

Every run is a process of its own, imports included; of `--repeats N` runs of each, in turn, the medians.

python bench/load.py
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

T = 50
SIZES = {"128": (128, 128, 1), "1024 x 3": (1024, 1024, 3)}  # input_size, hidden_size, num_layers

PROBE = """
import json, time
start = time.perf_counter()
import numpy as np
path, (I, H, L), x = {path!r}, {size!r}, np.ones(({T}, 1, {size[0]}), np.float32)
{program}
seconds = time.perf_counter() - start
with open("/proc/self/status") as status:  # getrusage counts what the parent had, too
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps([seconds, peak, float(np.abs(np.asarray(y)).sum())]))
"""
ONWARD = "import onward; model = onward.load(path)"
PROGRAMS = {  # of each kind of file: what Onward runs, and what its framework runs
    "state_dict.pt": (
        ONWARD + "['']; y, _ = model(x)",
        "import torch; model = torch.nn.LSTM(I, H, L); model.load_state_dict(torch.load(path))\n"
        "with torch.no_grad(): y, _ = model(torch.from_numpy(x))",
    ),
    "state_dict.safetensors": (
        ONWARD + "['']; y, _ = model(x)",
        "import torch, safetensors.torch; model = torch.nn.LSTM(I, H, L)\n"
        "model.load_state_dict(safetensors.torch.load_file(path))\n"
        "with torch.no_grad(): y, _ = model(torch.from_numpy(x))",
    ),
    "script.pt": (
        ONWARD + "['']; y, _ = model(x)",
        "import torch; model = torch.jit.load(path)\nwith torch.no_grad(): y, _ = model(torch.from_numpy(x))",
    ),
}


def write(kind: str, size: tuple[int, int, int], path: Path) -> None:
    """A model with random weights, by the framework."""
    I, H, L = size  # noqa: E741 (axes' letters)
    import torch

    module = torch.nn.LSTM(I, H, L)
    if kind == "state_dict.pt":
        torch.save(module.state_dict(), path)
    elif kind == "state_dict.safetensors":
        import safetensors.torch

        safetensors.torch.save_file(module.state_dict(), path)
    else:
        torch.jit.trace(module, torch.ones(T, 1, I)).save(path)


def probe(program: str, path: Path, size: tuple[int, int, int]) -> tuple[float, float, float]:
    """Seconds, peak bytes, and a sum of the output by which to see that both ran the same model."""
    code = PROBE.format(path=str(path), size=size, T=T, program=program)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    seconds, peak, total = json.loads(result.stdout.splitlines()[-1])
    return seconds, peak, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    options = parser.parse_args()
    print("| file | LSTM | MB | Onward, s | framework, s | ratio | Onward, peak MB | framework, peak MB |")
    print("| --- " * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            for name, size in SIZES.items():
                path = Path(folder) / kind
                write(kind, size, path)
                runs = [
                    [probe(program, path, size) for program in PROGRAMS[kind]] for _ in range(options.repeats)
                ]
                (mine, my_peak, my_sum), (theirs, their_peak, their_sum) = (
                    [statistics.median(values) for values in zip(*side, strict=True)]
                    for side in zip(*runs, strict=True)
                )
                np.testing.assert_allclose(my_sum, their_sum, rtol=1e-4)
                size_mb = path.stat().st_size / 1e6
                print(
                    f"| {kind} | {name} | {size_mb:.1f} | {mine:.3f} | {theirs:.3f} | {theirs / mine:.1f} | "
                    f"{my_peak / 1e6:.0f} | {their_peak / 1e6:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
