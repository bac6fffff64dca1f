"""Peppers: the secrets that digests of API keys are made with, by version. New digests are made with the newest one.

A file holds one pepper, which is version 1, or a line `<version>:<pepper>` for each of several. While two are there,
keys of both work, and those of the older one get a digest under the newer with their next use.
"""

import re
from collections.abc import Mapping
from typing import Final

from policy.authz.keys import PEPPER_LENGTH

Peppers = Mapping[int, bytes]

_LINE: Final = re.compile(rb"([1-9][0-9]{0,5}):(.*)")


def parse(content: bytes) -> dict[int, bytes]:
    """The peppers in a file's content. Raises ValueError, which repeats nothing of them."""
    lines = [line.strip() for line in content.strip().splitlines() if line.strip()]
    found = [_LINE.fullmatch(line) for line in lines]
    versioned = [(int(match[1]), match[2].strip()) for match in found if match is not None]
    if not versioned:
        versioned = [(1, content.strip())]
    elif len(versioned) < len(lines):  # taken for one long pepper, it would void every key
        raise ValueError("some lines begin with a version and some do not")
    if len(dict(versioned)) < len(versioned):
        raise ValueError("a version is there twice")
    if any(len(pepper) < PEPPER_LENGTH for _, pepper in versioned):
        raise ValueError(f"a pepper has less than {PEPPER_LENGTH} bytes")
    return dict(versioned)


def newest(peppers: Peppers) -> tuple[int, bytes]:
    """The version that new digests are made with, and its pepper."""
    return max(peppers.items())
