"""A compiled route as an entry of its host's list: its bytes, and what is known of the paths that it takes."""

from dataclasses import dataclass
from typing import Final

from envoy.config.route.v3.route_components_pb2 import Route, RouteMatch
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig

from gateway import literals
from gateway.literals import ANYTHING, Literal
from xds_server.compiler.match import TEMPLATE_MATCHER

ROUTES_FIELD: Final = b"\x0a"  # field 1 of a RouteList: `routes`


@dataclass(frozen=True, slots=True)
class Entry:
    """`always`: it takes every request whose key fits `literal`, so nothing behind it is reached by one.

    `framed`: the route as a RouteList holds it, which is a tag, its length and its bytes.
    """

    literal: Literal
    always: bool
    framed: bytes

    @classmethod
    def of(cls, route: Route) -> "Entry":
        data = route.SerializeToString(deterministic=True)
        return cls(literal_of(route.match), is_path_alone(route.match), ROUTES_FIELD + varint(len(data)) + data)

    def may_take(self, key: str, *, whole: bool) -> bool:
        """Whether a request with this key, or if not `whole` one that begins so, may fit the literal."""
        text = self.literal.text
        if self.literal.whole:
            return text == key if whole else text.startswith(key)
        return key.startswith(text) or (not whole and text.startswith(key))

    def takes_all(self, key: str, *, whole: bool) -> bool:
        """Whether it takes every request with this key, or if not `whole` every one that begins so."""
        if self.literal.whole:
            return self.always and whole and key == self.literal.text
        return self.always and key.startswith(self.literal.text)


def literal_of(match: RouteMatch) -> Literal:
    """From what Envoy is told, whatever words of the document it came from. What is unknown may take any path."""
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        return ANYTHING
    match match.WhichOneof("path_specifier"):
        case "path":
            return literals.exact(match.path)
        case "path_separated_prefix":
            return literals.prefix(match.path_separated_prefix)
        case "prefix":
            return Literal(match.prefix)
        case "safe_regex":
            return literals.regex(match.safe_regex.regex)
        case "path_match_policy" if match.path_match_policy.name == TEMPLATE_MATCHER:
            config = UriTemplateMatchConfig.FromString(match.path_match_policy.typed_config.value)
            return literals.template(config.path_template)
        case _:
            return ANYTHING


def is_path_alone(match: RouteMatch) -> bool:
    """Whether only the path decides, and the literal is all there is to it."""
    return [field.name for field, _ in match.ListFields()] in (["path"], ["prefix"], ["path_separated_prefix"])


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
