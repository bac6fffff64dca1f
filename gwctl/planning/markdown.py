"""A plan as a comment on a pull request: GitHub's and GitLab's Markdown, short first, all of it folded below."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gwctl.planning import text
from gwctl.planning.text import Json

_TICKS: Final = re.compile(r"`+")
_SIGNS: Final = {"created": "+", "updated": "!", "deleted": "-"}
"""What the lines of a `diff` block begin with to be green, orange and red."""


def markdown(plan: Json) -> str:
    """Ends with a newline."""
    if not text.changes_anything(plan):
        return "### Plan: no changes\n"
    parts = [f"### Plan: {text.counts(plan)}", *_warnings(plan), _code(list(_source(plan)), "diff")]
    parts += [f"**{title}**\n\n{_code(lines)}" for title, lines in _blocks(plan) if lines]
    if lines := text.xds(plan):
        parts.append(f"<details><summary>Envoy's resources</summary>\n\n{_code(lines, 'diff')}\n</details>")
    if text.has_base(plan):
        parts.append(f"Base: revision {plan['base']['revision']}")
    return "\n\n".join(parts) + "\n"


def _warnings(plan: Json) -> Iterator[str]:
    if plan["weakened"]:
        yield f"⚠️ **{len(plan['weakened'])} weakened**\n\n{_code(text.few(text.weakened(plan)))}"
    drained = [one["name"] for one in plan["resources"]["listeners"] if "drained" in one["outcome"]]
    if drained:
        yield f"⚠️ connections of {len(drained)} listener{'s' if len(drained) > 1 else ''} are drained"


def _source(plan: Json) -> Iterator[str]:
    for change in plan["changes"]:
        yield f"{_SIGNS[change['action']]} {change['kind']} {change['name']}   {text.place(change)}".rstrip()
        yield from (f"    {text.edited(edit)}" for edit in change["edits"])


def _blocks(plan: Json) -> Iterator[tuple[str, Sequence[str]]]:
    yield "Takes other requests", text.few(text.moves(plan))
    yield "Blast radius", text.radius(plan)
    yield "Issues", text.issues(plan)


def _code(lines: Sequence[str], language: str = "") -> str:
    """A fenced block that nothing in it can close."""
    whole = text.printable("\n".join(lines))
    fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(whole)), default=0))
    return f"{fence}{language}\n{whole}\n{fence}"
