"""Where an export goes: a file is whole or not there."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from sessiond.cli.exporter import destination


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with destination(path) as stream:
        stream.write(b"line\n")
        assert not path.exists()
    assert path.read_bytes() == b"line\n"
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_an_interrupted_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with destination(path) as stream:
            stream.write(b"half a li")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_gz_is_gzip_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        with destination(tmp_path / name) as stream:
            stream.write(b"line\n")
    one = (tmp_path / "one.jsonl.gz").read_bytes()
    assert gzip.decompress(one) == b"line\n"
    assert one == (tmp_path / "two.jsonl.gz").read_bytes()


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with destination(tmp_path / "link") as stream:
        stream.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"
    with destination(Path(os.devnull)) as stream:
        stream.write(b"x")
    assert not Path(os.devnull).is_file()
