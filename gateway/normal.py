"""How Envoy reads a request before it looks for a route: one spelling of the path and of the host.

What the compiled listeners ask of it (normalize_path, merge_slashes, escaped slashes refused, ports and a trailing dot
taken off hosts), as Envoy 1.40 really does it: each rule here was seen on it, and a differential test keeps both equal.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

PLAIN: Final = (
    r"/([!-$&-:<-\[\]-~]"  # printable ASCII but % ; \
    r"|%(2[0-46-9a-eA-E]|3[0-9ac-fAC-F]|[46][0-9a-fA-F]|5[0-9abd-fABD-F]|7[0-9a-eA-E]))*"  # encoded, but % / ; \ DEL
)
"""The paths that `strict_paths` lets through, after normalisation."""

_VISIBLE: Final = re.compile(r"[!-~]*")
_ESCAPED_SLASH: Final = re.compile(r"%(2[fF]|5[cC])")
_DOTS_WITH_PARAMETERS: Final = re.compile(r"(?<=/)(\.{1,2});[^/]*")
_UNRESERVED: Final = re.compile(r"%(2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")
_NEVER_RAW: Final = re.compile(r'["<>^`{|}]')
_AUTHORITY: Final = re.compile(r"[!$%&'()*+,\-.0-9:;=@A-Z\[\]_a-z~]*")
_PORT: Final = re.compile(r"(.*):([0-9]{1,9})")
_STRICT: Final = re.compile(PLAIN)


@dataclass(frozen=True, slots=True)
class Target:
    """A request target as routes see it. `query` is what follows the first `?`, as it was sent; None without one."""

    path: str
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The request gets no further: Envoy answers `status`. `location`: where a 307 leads."""

    status: int
    reason: str
    location: str = ""


def normalise(target: str, escaped_slashes: Literal["reject", "redirect"] = "reject") -> Target | Refused:
    """The target (`/a/../b?x=1`) as Envoy matches it. HTTP/1.1's absolute form must be taken apart before."""
    if not target.startswith("/") or not _VISIBLE.fullmatch(target):
        return Refused(400, "the target is not a path of visible ASCII characters")
    if "#" in target:
        return Refused(400, "the target has a fragment")
    path, mark, query = target.partition("?")
    slashes = _ESCAPED_SLASH.search(path) is not None
    if slashes and escaped_slashes == "reject":
        return Refused(400, "the path has an escaped slash or backslash")
    if slashes:
        path = _ESCAPED_SLASH.sub(lambda found: "/" if found[1][0] == "2" else "\\", path)
    canonical = _canonical(path)
    if canonical is None:
        return Refused(400, "the path has an escaped NUL")
    if slashes:
        return Refused(307, "the path has an escaped slash or backslash", canonical + mark + query)
    return Target(canonical, query if mark else None)


def _canonical(path: str) -> str | None:
    """Only now are bytes decoded that never need an escape: `/..;x` has lost its parameters, `/%2e%2e;x` keeps them."""
    path = _DOTS_WITH_PARAMETERS.sub(r"\1", path).replace("\\", "/")
    if "%" in path:
        if "%00" in path:
            return None
        path = _decoded(path) if _BROKEN_ESCAPE.search(path) else _UNRESERVED.sub(_character, path)
    path = _NEVER_RAW.sub(lambda found: f"%{ord(found[0]):02X}", path)
    if "/." in path:
        path = _without_dots(path)
    return _merged(path) if "//" in path else path


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _decoded(path: str) -> str:
    """With a `%` in it that begins no escape. Where decoding would complete one (`%2%30`), that `%` becomes `%25`."""
    found, broken, at = "", -3, 0
    while at < len(path):
        escape = _ESCAPE.match(path, at)
        unreserved = _UNRESERVED.match(path, at)
        if escape is None:
            broken = len(found) if path[at] == "%" else broken
            found += path[at]
        else:
            found += escape[0] if unreserved is None else _character(unreserved)
        at += 1 if escape is None else 3
        if unreserved is not None and broken >= len(found) - 3:
            completed = found[broken:] + (path[at : at + 1] if broken == len(found) - 2 else "")
            if _ESCAPE.fullmatch(completed):
                found = found[:broken] + "%25" + found[broken + 1 :]
    return found


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4; `..` takes away an empty segment too."""
    kept: list[str] = []
    segments = path[1:].split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _merged(path: str) -> str:
    """Slashes alone become two, not one: so does Envoy."""
    segments = [segment for segment in path.split("/") if segment]
    return "/" + "/".join(segments) + ("/" if path.endswith("/") else "")


def is_plain(path: str) -> bool:
    """Whether `strict_paths` lets a normalised path through."""
    return _STRICT.fullmatch(path) is not None


def authority(host: str) -> str | Refused:
    """A Host header or `:authority` without its port and trailing dot, in its own case."""
    if not _AUTHORITY.fullmatch(host):
        return Refused(400, "the host has a character that hosts do not have")
    name, colon, port = host, "", ""
    if (found := _PORT.fullmatch(host)) is not None:
        name, colon, port = found[1], ":", found[2]
    if name.endswith("."):
        return name[:-1]
    return name if colon and port else host
