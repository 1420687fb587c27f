"""Write the locks in `requirements/` from the packages' own dependencies and the `.in` files.

Every lock holds for all platforms and Python versions that the packages support, carries hashes,
and names no index: where packages come from is the installer's business. `dev.txt` decides the
versions; the smaller locks follow it, so that what ships is what was tested.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["pyproject.toml", "clients/python/pyproject.toml", "--extra", "cli"]
FOLLOW_DEV = ["--constraint", "requirements/dev.txt"]
# The client is installed from the checkout, never from an index.
RESOLVE = [
    *("pip", "compile", "--quiet", "--universal", "--generate-hashes"),
    *("--python-version", "3.11"),
    *("--no-emit-package", "sessiond"),
    *("--custom-compile-command", "make lock"),
]
LOCKS = {
    "requirements/dev.txt": [*PACKAGES, "requirements/dev.in"],
    "requirements/build.txt": ["requirements/build.in", *FOLLOW_DEV],
    "requirements/runtime.txt": [*PACKAGES, *FOLLOW_DEV],
    "requirements/languages.txt": ["requirements/languages.in"],
}


def lock(output: str, inputs: list[str], options: list[str]) -> None:
    """Resolve `inputs` into the lock `output`, keeping the versions in it that still fit.

    Raises subprocess.CalledProcessError when there is no solution or no index answers.
    """
    uv = Path(sysconfig.get_path("scripts"), "uv")
    subprocess.run([uv, *RESOLVE, "--output-file", output, *options, *inputs], cwd=ROOT, check=True)


def main() -> None:
    """Write all locks; arguments, for instance `--upgrade`, go to the resolver."""
    options = sys.argv[1:]
    for output, inputs in LOCKS.items():
        lock(output, inputs, options)


if __name__ == "__main__":
    main()
