"""What `error_reason.proto` promises of each reason, read from its comments, which are the contract."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import grpc

_PROTO = Path(__file__).parents[2] / "protos" / "sessiond" / "v1" / "error_reason.proto"
_VALUE = re.compile(r"((?: +//[^\n]*\n)+) +ERROR_REASON_(\w+) = (\d+);")


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason as its comment describes it."""

    name: str
    code: grpc.StatusCode
    metadata: frozenset[str]
    optional: frozenset[str]
    """Those of the metadata that aren't always there."""
    retry_info: bool
    comment: str

    def fits(self, metadata: dict[str, str]) -> bool:
        """Whether these are the keys that the comment names."""
        return self.metadata - self.optional <= metadata.keys() <= self.metadata


def _reason(name: str, comment: str) -> Reason:
    _, _, tail = comment.partition("Metadata:")
    optional = re.search(r"and ((?:`\w+`,? ?)+)[^`]*if there is one", tail)
    return Reason(
        name,
        grpc.StatusCode[comment.split(".")[0].split(",")[0]],
        frozenset(re.findall(r"`(\w+)`", tail)),
        frozenset(re.findall(r"`(\w+)`", optional[1]) if optional else ()),
        "with RetryInfo" in comment,
        comment,
    )


def _read() -> dict[str, Reason]:
    found = {}
    for block, name, number in _VALUE.findall(_PROTO.read_text(encoding="utf-8")):
        if number != "0":
            comment = " ".join(
                line.strip().removeprefix("//").strip() for line in block.split("\n")
            )
            found[name] = _reason(name, comment.strip())
    return found


REASONS = _read()
"""By the name without its prefix."""
