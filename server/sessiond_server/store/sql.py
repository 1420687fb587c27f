"""The SQL of the store: named blocks in `queries/*.sql`, each with a line of why.

A block that reads in either direction says `:direction` and becomes two queries, `<name>_ascending` and
`<name>_descending`. Nothing else is ever put into the text of a query.
"""

from __future__ import annotations

import re
from importlib import resources

_BLOCK = re.compile(
    r"^-- name: (?P<name>\w+)\n(?P<body>.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL
)


def _load() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(resources.files(__package__).joinpath("queries").iterdir(), key=str):
        if not file.name.endswith(".sql"):
            continue
        for block in _BLOCK.finditer(file.read_text(encoding="utf-8")):
            if block["name"] in found:
                raise RuntimeError(f"two queries have the name {block['name']!r}")
            found[block["name"]] = block["body"].strip().rstrip(";")
    return dict(variant for name, text in found.items() for variant in _directions(name, text))


def _directions(name: str, text: str) -> list[tuple[str, str]]:
    if ":direction" not in text:
        return [(name, text)]
    return [
        (f"{name}_ascending", text.replace(":direction", "ASC")),
        (f"{name}_descending", text.replace(":direction", "DESC")),
    ]


QUERIES: dict[str, str] = _load()
"""Every query by its name. A test prepares each against a migrated database."""


def query(name: str) -> str:
    """The SQL of a named query; its parameters are `$1` …."""
    return QUERIES[name]
