"""Files that a computer would run: told by their names and by their first bytes."""

from __future__ import annotations

from collections.abc import Collection

from sessiond_server.sessions.file_names import extension

HEAD = 64
"""How many of the first bytes are looked at."""

_PROGRAMS = "exe dll com scr pif cpl msi msp run so dylib app jar apk deb rpm dmg pkg appimage"
_SCRIPTS = "bat cmd ps1 psm1 vbs vbe wsf wsh hta lnk sh bash zsh csh ksh fish"
EXTENSIONS = [*_PROGRAMS.split(" "), *_SCRIPTS.split(" ")]
"""Those that are refused unless the settings say otherwise."""

_MAGIC = {
    b"\x7fELF": "ELF",
    b"\xfe\xed\xfa\xce": "Mach-O",
    b"\xfe\xed\xfa\xcf": "Mach-O",
    b"\xce\xfa\xed\xfe": "Mach-O",
    b"\xcf\xfa\xed\xfe": "Mach-O",
    b"\xca\xfe\xba\xbe": "Mach-O or Java",
    b"\xca\xfe\xba\xbf": "Mach-O",
    b"#!": "script",
    b"\xef\xbb\xbf#!": "script",
}


def executable(path: str, head: bytes, refused: Collection[str]) -> str | None:
    """What kind of executable it is taken for; nothing if it is none. `refused` are extensions."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    # A text may begin with these letters, but no program's header is all text.
    if head.startswith((b"MZ", b"ZM")) and b"\0" in head:
        return "MZ"
    return f".{extension(path)}" if extension(path) in refused else None
