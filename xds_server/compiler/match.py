"""Which requests a route takes: `match` of the document as Envoy's RouteMatch.

Envoy has no query matcher for "absent", so an optional parameter makes two matches of one: the parameter fits, or the
path has no such parameter. The same with cookies, which Envoy knows only as one header.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher, RouteMatch
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gateway.cookie_patterns import cookie_pattern
from gateway.model import Match, PathMatch, ValueMatch
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import exact, extension, literal, regex

MOST_OPTIONAL: Final = 4
TEMPLATE_MATCHER: Final = "envoy.path.match.uri_template.uri_template_matcher"
GRPC_CALL: Final = HeaderMatcher(name="content-type", string_match=StringMatcher(prefix="application/grpc"))
Condition = HeaderMatcher | QueryParameterMatcher
NONE: Final[Mapping[str, ValueMatch]] = {}


def route_matches(match: Match) -> Iterator[RouteMatch]:
    """One RouteMatch, or one for each combination of optional query parameters and cookies being there or not."""
    yield from path_matches(match.where, request_headers(match), match.query, match.cookies)


def path_matches(
    path: PathMatch,
    headers: list[HeaderMatcher],
    query: Mapping[str, ValueMatch],
    cookies: Mapping[str, ValueMatch] = NONE,
) -> Iterator[RouteMatch]:
    """Raises CompileError for more optional parameters than can be spelled out."""
    for values, word in ((query, "query parameters"), (cookies, "cookies")):
        if sum(value.optional for value in values.values()) > MOST_OPTIONAL:
            field = "cookies" if values is cookies else "query"
            raise CompileError(f"more than {MOST_OPTIONAL} optional {word} in one match", "match", field)
    choices = [alternatives(name, value) for name, value in query.items()]
    choices += [cookie_alternatives(name, value) for name, value in cookies.items()]
    for conditions in product(*choices):
        result = route_path(path)
        result.headers.extend([*headers, *(c for c in conditions if isinstance(c, HeaderMatcher))])
        result.query_parameters.extend(c for c in conditions if isinstance(c, QueryParameterMatcher))
        yield result


def route_path(path: PathMatch) -> RouteMatch:
    """Prefixes take whole segments: `/foo` is not `/foobar`."""
    if path.exact is not None:
        return RouteMatch(path=path.exact)
    if path.regex is not None:
        return RouteMatch(safe_regex=RegexMatcher(regex=path.regex))
    if path.template is not None:
        policy = extension(TEMPLATE_MATCHER, UriTemplateMatchConfig(path_template=path.template))
        return RouteMatch(path_match_policy=policy)
    prefix = (path.prefix or "/").rstrip("/")
    return RouteMatch(path_separated_prefix=prefix) if prefix else RouteMatch(prefix="/")


def request_headers(match: Match) -> list[HeaderMatcher]:
    methods = [method_is(match.methods)] if match.methods else []
    methods += [GRPC_CALL] if match.grpc is not None else []
    return methods + [header(name, value) for name, value in match.headers.items()]


def method_is(methods: Iterable[str], name: str = ":method") -> HeaderMatcher:
    """One of `methods`, in `:method` or in another header that holds a method."""
    found = sorted(set(methods))
    return HeaderMatcher(name=name, string_match=exact(found[0]) if len(found) == 1 else regex("|".join(found)))


def header(name: str, value: ValueMatch) -> HeaderMatcher:
    """An optional header is compared as if an absent one were empty."""
    if value.present is not None:
        return HeaderMatcher(name=name, present_match=True, invert_match=not value.present)
    if value.optional:
        pattern = f"({as_pattern(value)})?"
        return HeaderMatcher(name=name, string_match=regex(pattern), treat_missing_header_as_empty=True)
    return HeaderMatcher(name=name, string_match=string(value))


def string(value: ValueMatch) -> StringMatcher:
    """An empty prefix, suffix or part is in every value, and Envoy refuses to be told so."""
    if value.exact is not None:
        return exact(value.exact)
    if value.prefix:
        return StringMatcher(prefix=value.prefix)
    if value.suffix:
        return StringMatcher(suffix=value.suffix)
    if value.contains:
        return StringMatcher(contains=value.contains)
    return regex(as_pattern(value))


def as_pattern(value: ValueMatch) -> str:
    """The same comparison as an RE2 pattern of the whole value."""
    if value.exact is not None:
        return literal(value.exact)
    if value.regex is not None:
        return value.regex
    return (
        ".*".join(("", literal(value.contains), ""))
        if value.contains is not None
        else (f"{literal(value.prefix)}.*" if value.prefix is not None else f".*{literal(value.suffix or '')}")
    )


def alternatives(name: str, value: ValueMatch) -> list[Condition]:
    """The conditions of which any may hold for one query parameter."""
    if value.present is not None:
        return [QueryParameterMatcher(name=name, present_match=True)] if value.present else [without(name)]
    fits = QueryParameterMatcher(name=name, string_match=string(value))
    return [fits, without(name)] if value.optional else [fits]


def without(name: str) -> HeaderMatcher:
    """The request has no query parameter of this name, as spelled."""
    there = regex(f"[^?]*\\?(.*&)?{literal(name)}(=.*|&.*)?")
    return HeaderMatcher(name=":path", string_match=there, invert_match=True)


def cookie_alternatives(name: str, value: ValueMatch) -> list[Condition]:
    """The conditions of which any may hold for one cookie. A request without a cookie header has empty ones."""
    there = ValueMatch.model_construct(present=True)
    absent = cookie(name, there, absent=True)
    if value.present is False:
        return [absent]
    fits = cookie(name, value)
    return [fits, absent] if value.optional else [fits]


def cookie(name: str, value: ValueMatch, *, absent: bool = False) -> HeaderMatcher:
    try:
        pattern = cookie_pattern(name, value)
    except ValueError as error:
        raise CompileError(f"the cookie {name!r} {error}", "match", "cookies", name) from None
    return HeaderMatcher(
        name="cookie", string_match=regex(pattern), invert_match=absent, treat_missing_header_as_empty=absent
    )
