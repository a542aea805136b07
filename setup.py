"""Build: the codec modules below are compiled with mypyc; the same files run interpreted.

`TAILRACE_PURE=1` builds none and removes extensions left by an earlier in-place build. Where no C compiler is found
the build falls back to that and says so; `tailrace --version` tells which of the two is running.
"""

import os
import pathlib
import shutil
import sysconfig

from setuptools import setup

CODECS = [
    "schemas/tailrace_schemas/wire.py",
    "log/tailrace_log/frames.py",
    "log/tailrace_log/kafka_frames.py",
    "capture/tailrace_capture/postgres/pgoutput.py",
    "capture/tailrace_capture/mysql/values.py",
    "capture/tailrace_capture/mysql/images.py",
    "capture/tailrace_capture/mysql/rows.py",
    "sinks/tailrace_sinks/envelope.py",
    "sinks/tailrace_sinks/render.py",
    "sinks/tailrace_sinks/decode.py",
]


def remove_built() -> None:
    for codec in CODECS:
        path = pathlib.Path(codec)
        for built in path.parent.glob(f"{path.stem}.*.so"):
            built.unlink()
    for built in pathlib.Path().glob("**/*__mypyc*.so"):
        if ".venv" not in built.parts:
            built.unlink()


def compiler_found() -> bool:
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(command) is not None


def extensions() -> list[object]:
    present = [codec for codec in CODECS if pathlib.Path(codec).exists()]
    if os.environ.get("TAILRACE_PURE") == "1":
        remove_built()
        return []
    if not compiler_found():
        print("tailrace: no C compiler found, building without compiled codecs (same results, slower)")  # noqa: T201
        remove_built()
        return []
    os.environ["MYPYPATH"] = "schemas:log:capture:sinks"
    from mypyc.build import mypycify

    return mypycify(["--ignore-missing-imports", "--explicit-package-bases", *present], opt_level="3", debug_level="0")


setup(ext_modules=extensions())
