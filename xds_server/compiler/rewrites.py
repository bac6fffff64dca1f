"""What the upstream sees instead of what was asked for: paths and hosts.

Always by regex or template, never by Envoy's `prefix_rewrite`: that makes `//x` of `/api/x` when a prefix is replaced
by `/`, and of a prefix that is no whole segment it makes another path altogether (`/api../x` becomes `/../x`).
"""

from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import RouteAction
from envoy.extensions.path.rewrite.uri_template.v3.uri_template_rewrite_pb2 import UriTemplateRewriteConfig
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher

from gateway.model import PathMatch, PathRewrite, RegexRewrite, Rewrite
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import boolean, extension, literal

TEMPLATE_REWRITER: Final = "envoy.path.rewrite.uri_template.uri_template_rewriter"
WHOLE_PATH: Final = "^.*$"


def apply(action: RouteAction, rewrite: Rewrite, matched: PathMatch) -> None:
    """Writes a rewrite into the action of a route that matches `matched`."""
    if rewrite.host is not None:
        action.host_rewrite_literal = rewrite.host
    elif rewrite.auto_host:
        action.auto_host_rewrite.CopyFrom(boolean(True))
    if rewrite.path is not None and rewrite.path.template is not None:
        action.path_rewrite_policy.CopyFrom(by_template(rewrite.path.template, matched))
    elif rewrite.path is not None:
        action.regex_rewrite.CopyFrom(by_regex(rewrite.path, matched))


def by_template(template: str, matched: PathMatch) -> TypedExtensionConfig:
    if matched.template is None:
        raise CompileError("a template rewrite needs a template match", "rewrite", "path", "template")
    return extension(TEMPLATE_REWRITER, UriTemplateRewriteConfig(path_template_rewrite=template))


def by_regex(path: PathRewrite, matched: PathMatch) -> RegexMatchAndSubstitute:
    if path.regex is not None:
        return replace_regex(path.regex)
    if path.prefix is not None:
        return replace_prefix(matched, path.prefix, "rewrite", "path", "prefix")
    return substitute(WHOLE_PATH, escaped(path.exact or "/"))


def replace_prefix(matched: PathMatch, by: str, *field: str) -> RegexMatchAndSubstitute:
    """A prefix of whole segments by another, `/` included. Raises CompileError, at `field`, for other matches."""
    if matched.prefix is None:
        raise CompileError("only the prefix of a prefix match can be replaced", *field)
    old, new = literal(matched.prefix.rstrip("/")), escaped(by.rstrip("/"))
    return substitute(f"^{old}", new) if old and new else substitute(f"^{old}/?", f"{new}/")


def replace_regex(rewrite: RegexRewrite) -> RegexMatchAndSubstitute:
    return substitute(rewrite.pattern, rewrite.substitution)


def substitute(pattern: str, substitution: str) -> RegexMatchAndSubstitute:
    return RegexMatchAndSubstitute(pattern=RegexMatcher(regex=pattern), substitution=substitution)


def escaped(text: str) -> str:
    """`text` as a substitution that means just that."""
    return text.replace("\\", "\\\\")
