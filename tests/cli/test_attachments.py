"""`sessionctl attachments`: files in and out, and never beside the directory that is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond import Client
from sessiond.cli.saving import saving
from sessiond.cli.terminal import Failure
from tests.cli.command import Cli

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def talk(client: Client) -> str:
    return client.create_session("talk").id


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_A_files_of_a_session_by_the_command_line(cli: Cli, talk: str, inside: Path) -> None:
    (inside / "may.bin").write_bytes(CONTENT)
    up = ("attachments", "upload", talk)
    assert cli.ok(*up, "may.bin", "may.bin", "--to", "reports/") == (
        "reports/may.bin\nreports/may_1.bin\n"
    )
    assert cli.ok(*up, "-", "--name", "log.txt", "--inline", given=b"line\n") == "log.txt\n"
    lines = cli.ok("attachments", "ls", talk).splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "TYPE", "STORED", "ID"]
    assert [line.split()[0] for line in lines[1:]] == [
        *("log.txt", "reports/may.bin", "reports/may_1.bin")
    ]
    listed = cli.json("attachments", "ls", talk, "reports/")
    assert [it["name"] for it in listed] == ["reports/may.bin", "reports/may_1.bin"]
    assert listed[0]["size"] == len(CONTENT)
    down = ("attachments", "download", talk)
    assert cli.ok(*down, "reports/may.bin", listed[1]["id"], "--into", "copy") == (
        "copy/reports/may.bin\ncopy/reports/may_1.bin\n"
    )
    assert (inside / "copy/reports/may.bin").read_bytes() == CONTENT
    assert "--force" in cli.refused(*down, "reports/may.bin", "--into", "copy")
    (inside / "copy/reports/may.bin").write_bytes(b"other")
    assert len(cli.json(*down, "--all", "--into", "copy", "--force")) == 3
    assert (inside / "copy/reports/may.bin").read_bytes() == CONTENT
    assert sorted(os.listdir(inside / "copy/reports")) == ["may.bin", "may_1.bin"]
    assert cli.ok(*down, "log.txt", "--stdout") == "line\n"
    assert "no attachment 'none'" in cli.refused(*down, "log.txt", "none")
    assert not (inside / "log.txt").exists()


def test_attachments_are_removed_by_name(cli: Cli, talk: str, client: Client) -> None:
    for name in ("a", "b", "c"):
        client.upload_attachment(talk, b"x", name=name)
    assert "give --yes" in cli.refused("attachments", "rm", talk, "a")
    assert "no attachment 'd'" in cli.refused("attachments", "rm", talk, "a", "d", "--yes")
    assert cli.ok("attachments", "rm", talk, "a", "b", "--yes") == "removed a\nremoved b\n"
    assert [it["name"] for it in cli.json("attachments", "ls", talk)] == ["c"]


def test_attachments_are_renamed(cli: Cli, talk: str, client: Client) -> None:
    for name in ("a", "b"):
        client.upload_attachment(talk, name.encode(), name=name)
    mv = ("attachments", "mv", talk)
    assert cli.ok(*mv, "a", "docs/a.txt") == "docs/a.txt\n"
    assert cli.json(*mv, "b", "docs/a.txt")[0]["name"] == "docs/a_1.txt"
    assert "(ATTACHMENT_TYPE_REFUSED)" in cli.refused(*mv, "docs/a.txt", "a.exe")
    assert "no attachment 'b'" in cli.refused(*mv, "b", "c")


def test_what_the_service_refuses_is_said(cli: Cli, talk: str, inside: Path) -> None:
    (inside / "run.sh").write_text("#!/bin/sh")
    (inside / "ok.txt").write_text("fine")
    up = ("attachments", "upload", talk)
    assert "(ATTACHMENT_TYPE_REFUSED)" in cli.refused(*up, "run.sh")
    assert "attachment.name" in cli.refused(*up, "ok.txt", "--name", "../ok.txt")
    assert "No such file" in cli.refused(*up, "none.txt")
    assert "a single file" in cli.refused(*up, "ok.txt", "run.sh", "--name", "x", code=2)
    assert "a single name" in cli.refused("attachments", "download", talk, code=2)
    assert "no attachments" in cli("attachments", "ls", talk).stderr


@pytest.mark.parametrize("verb", ["upload", "ls", "download", "mv", "rm"])
def test_each_verb_shows_an_example(cli: Cli, verb: str) -> None:
    assert f"$ sessionctl attachments {verb} trip" in cli.ok("attachments", verb, "--help")


@pytest.mark.parametrize(
    "name",
    ["../out", "/out", "a/../../out", "a//b", "", "..", "a/.", "..\\out", "a\0b", "link/out"],
)
def test_A_downloads_never_leave_the_directory(tmp_path: Path, name: str) -> None:
    """Even if the service sent such names, or a link lies in the way."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(Failure), saving(inside, name, replace=True) as file:
        file.write(b"x")
    assert sorted(os.listdir(inside)) in (["link"], ["a", "link"])
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]
    assert os.listdir(outside) == []


@pytest.mark.parametrize("replace", [True, False])
def test_A_downloads_do_not_follow_a_link_in_the_place_of_a_file(
    tmp_path: Path, replace: bool
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("mine")
    (inside / "x").symlink_to(outside)
    try:
        with saving(inside, "x", replace=replace) as file:
            file.write(b"theirs")
    except Failure:
        assert not replace
    assert outside.read_text() == "mine"
    assert os.listdir(inside) == ["x"]


def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with saving(tmp_path, "x", replace=False) as file:
            file.write(b"part")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []
