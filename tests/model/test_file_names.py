"""Names of attachments: whatever is sent, they are safe, and different ones stay different."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond_server.sessions.executables import EXTENSIONS, executable
from sessiond_server.sessions.file_names import (
    MAX_BYTES,
    PART_BYTES,
    UnsafeName,
    extension,
    safe_path,
    type_of,
    unused,
)
from tests.support.examples import examples

ODD = [
    *"./\\ ~_-:<>|?*\t\n\0$#1aX\u202e\u200b\u0301\u0338\u212b\ufeff\u2028\U0001f600é",
    *["..", "../", "con", "aux", "lpt1", "COM9", ".txt", ".tar.gz", "C:", "//"],
    *("y" * 130, "é" * 100),
]
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{it}{n}" for it in ("COM", "LPT") for n in range(10))}
NAMES = st.lists(st.one_of(st.sampled_from(ODD), st.characters()), max_size=30).map("".join)


@settings(max_examples=examples(3000))
@given(NAMES)
def test_A_safe_names_never_lead_astray(name: str) -> None:
    try:
        safe = safe_path(name)
    except UnsafeName:
        assert ".." in name or name.startswith(("/", "\\")) or len(name) > 200 or "/" in name
        return
    assert safe_path(safe) == safe
    parts = safe.split("/")
    assert 0 < len(safe.encode()) <= MAX_BYTES
    assert all(0 < len(part.encode()) <= PART_BYTES for part in parts)
    assert not any(part.startswith((".", " ")) or part.endswith((".", " ")) for part in parts)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in safe)
    assert unicodedata.is_normalized("NFC", safe)
    assert os.path.normpath(f"/root/{safe}") == f"/root/{safe}"
    windows = PureWindowsPath(safe)
    assert (windows.drive, windows.root) == ("", "")
    assert list(windows.parts) == list(PurePosixPath(safe).parts) == parts
    assert not any(part.partition(".")[0].rstrip().upper() in RESERVED for part in parts)
    assert not set('<>:"|?*\\') & set(safe)


@settings(max_examples=examples(150))
@given(
    st.lists(st.one_of(NAMES, st.sampled_from(["a", "a/b", "a.txt", "a/b/c", "a_1"])), max_size=12)
)
def test_A_duplicates_are_numbered_and_all_fit_into_a_directory(names: list[str]) -> None:
    """Asked of a real file system, in which no file gets in another's way."""
    taken: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            with suppress(UnsafeName):
                path = unused(safe_path(name), taken)
                assert safe_path(path) == path
                target = Path(place) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("x"):
                    taken.append(path)
    assert len(set(taken)) == len(taken)


@pytest.mark.parametrize(
    ("taken", "wanted", "got"),
    [
        ([], "a.txt", "a.txt"),
        (["a.txt"], "a.txt", "a_1.txt"),
        (["a.txt", "a_1.txt"], "a.txt", "a_2.txt"),
        (["a_1.txt"], "a.txt", "a.txt"),
        (["x.tar.gz"], "x.tar.gz", "x.tar_1.gz"),
        (["d/a"], "a", "a"),
        (["d/a"], "d/a", "d/a_1"),
        (["d/a"], "d", "d_1"),
        (["d"], "d/a", "d_1/a"),
    ],
)
def test_A_numbers_of_duplicates(taken: list[str], wanted: str, got: str) -> None:
    assert unused(wanted, taken) == got


def test_A_types_come_from_the_extension() -> None:
    types = {"a.PNG": "image/png", "a/b.json": "application/json", "a.tgz": "application/gzip"}
    assert {name: type_of(name) for name in types} == types
    assert type_of("png") == type_of("a.nothing") == "application/octet-stream"
    assert extension("a.b/c") == extension(".hidden") == ""


def test_A_executables_are_told_by_name_and_by_content() -> None:
    assert executable("a/b.EXE", b"text", EXTENSIONS) == ".exe"
    assert executable("a.png", b"\x7fELF\x02", ()) == "ELF"
    assert executable("a.png", b"\xef\xbb\xbf#!/bin/sh", ()) == "script"
    assert executable("a.png", b"MZ" + bytes(62), ()) == "MZ"
    for name, head in (
        ("a.md", b"MZ, a film"),
        ("exe", b""),
        ("a.py", b"import os"),
        ("a", b"# !"),
    ):
        assert executable(name, head, EXTENSIONS) is None
