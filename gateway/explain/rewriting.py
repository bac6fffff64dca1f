"""What a path becomes on its way to an upstream, and where a redirect leads."""

import re
from collections.abc import Callable
from typing import Any, Final

from gateway.conditions import compiled
from gateway.model import Listener, PathMatch, PathRewrite, Redirect, RegexRewrite
from gateway.path_patterns import template_groups

PORTS: Final = {"http": 80, "https": 443}
_GROUP: Final = re.compile(r"\\(.)")
_PORT: Final = re.compile(r":[^:\]]*$")
_VARIABLE: Final = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")


def rewritten(path: str, rewrite: PathRewrite, matched: PathMatch) -> str:
    """`path` without its query, which stays."""
    if rewrite.exact is not None:
        return rewrite.exact
    if rewrite.regex is not None:
        return replaced(path, rewrite.regex)
    if rewrite.template is not None:
        return filled(path, rewrite.template, matched.template or "")
    return with_prefix(path, matched.prefix or "/", rewrite.prefix or "/")


def with_prefix(path: str, old: str, new: str) -> str:
    """A prefix of whole segments by another; `/` is one too."""
    rest = path[len(old.rstrip("/")) :]
    old, new = old.rstrip("/"), new.rstrip("/")
    return new + rest if old and new else f"{new}/{rest.removeprefix('/')}"


def replaced(path: str, rewrite: RegexRewrite) -> str:
    """Every match of the pattern, as RE2's GlobalReplace finds them."""
    text = path.encode("utf-8", "surrogateescape")
    found, end = b"", 0
    for match in compiled(rewrite.pattern).finditer(text):
        if match.end() == match.start() == end and end > 0:
            continue  # nothing, where a match has just ended
        found += text[end : match.start()] + _GROUP.sub(expanding(match), rewrite.substitution).encode(
            "utf-8", "surrogateescape"
        )
        end = match.end()
    return (found + text[end:]).decode("utf-8", "surrogateescape")


def expanding(match: Any) -> Callable[[re.Match[str]], str]:
    def expand(escape: re.Match[str]) -> str:
        if not escape[1].isdigit():
            return escape[1]
        return (match.group(int(escape[1])) or b"").decode("utf-8", "surrogateescape")

    return expand


def filled(path: str, template: str, matched: str) -> str:
    """The template with what the variables of the matched one have taken."""
    found = compiled(template_groups(matched)).fullmatch(path.encode("utf-8", "surrogateescape"))
    if found is None:
        return template
    groups = found.groupdict()
    return _VARIABLE.sub(lambda name: groups[name[1].encode()].decode("utf-8", "surrogateescape"), template)


def location(spec: Redirect, matched: PathMatch, listener: Listener, *, scheme: str, host: str, target: str) -> str:
    """Where it leads. `host`: the request's without its port, which is put back where the redirect stays in place."""
    path, mark, query = target.partition("?")
    to_scheme, to_host = spec.scheme or scheme, spec.host or host
    stays = spec.scheme is None and spec.host is None
    own = listener.port if stays and listener.port != PORTS[scheme] else None
    port = spec.port or own
    shown = f":{port}" if port is not None else ""
    if shown:  # Envoy takes off what is left after a colon, number or not
        to_host = _PORT.sub("", to_host)
    if spec.path is not None or (spec.path_prefix is not None and matched.exact is not None):
        path = spec.path or spec.path_prefix or "/"
    elif spec.path_prefix is not None:
        path = with_prefix(path, matched.prefix or "/", spec.path_prefix)
    elif spec.path_regex is not None:
        path = replaced(path, spec.path_regex)
    return f"{to_scheme}://{to_host}{shown}{path}{mark}{query}"
