"""A plan for people: what the source changes, what that does to callers and to Envoy, and what is found.

Everything is made from the document `gwctl.plan/v1`, wherever it comes from, so that all forms say the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Json = Mapping[str, Any]

SIGNS: Final = {"created": "+", "updated": "~", "deleted": "-"}
WIDE: Final = 60
"""Characters of a value, and the column of places."""

MOST: Final = 12
"""Lines of one kind that are shown; programs take them all from JSON."""

DRAINS: Final = {
    "added": "{} new",
    "removed": "{} removed, connections drained",
    "in_place": "{} updated in place",
    "chains_drained": "{} updated in place, connections of changed filter chains drained",
    "drained": "{} replaced, connections drained",
}


def text(plan: Json) -> str:
    """All of it; ends with a newline."""
    if not changes_anything(plan):
        return f"no changes to revision {plan['base']['revision']}\n" if has_base(plan) else "no changes\n"
    blocks = [list(_source(plan)), *(_block(title, lines) for title, lines in _blocks(plan))]
    whole = "\n\n".join("\n".join(block) for block in blocks if block)
    return printable(f"{whole}\n\n{last_line(plan)}\n")


def changes_anything(plan: Json) -> bool:
    return bool(plan["changes"])


def has_base(plan: Json) -> bool:
    return plan.get("base", {}).get("revision") is not None


def last_line(plan: Json) -> str:
    """`Plan: 1 to create, 1 to update, 0 to delete.   base revision 217`."""
    base = f"   base revision {plan['base']['revision']}" if has_base(plan) else ""
    return f"Plan: {counts(plan)}.{base}"


def counts(plan: Json) -> str:
    found = plan["summary"]
    return f"{found['created']} to create, {found['updated']} to update, {found['deleted']} to delete"


# ------------------------------------------------------------------------------------------------------------ source
def _source(plan: Json) -> Iterator[str]:
    for change in plan["changes"]:
        what = f"  {SIGNS[change['action']]} {change['kind']:<8} {change['name']}"
        yield f"{what:<{WIDE}}  {place(change)}".rstrip()
        for edit in change["edits"]:
            yield f"      {edited(edit)}"


def edited(edit: Json) -> str:
    """`backends[0].weight   1 -> 5`."""
    path = edit["path"] or "(itself)"
    if edit["action"] == "created":
        return f"{path}   + {value(edit['new'])}"
    if edit["action"] == "deleted":
        return f"{path}   - {value(edit['old'])}"
    old, new = value(edit["old"]), value(edit["new"])
    return f"{path}   {old} -> {new}" if old != new else f"{path}   {old}, changed"


def value(found: Any) -> str:
    """On one line; a text without quotes where it can be told from other things."""
    if isinstance(found, str) and found and not found[0].isspace() and not found[-1].isspace() and found.isprintable():
        shown = found
    else:
        shown = json.dumps(found, ensure_ascii=False)
    return shown if len(shown) <= WIDE else shown[: WIDE - 1] + "…"


def place(found: Json) -> str:
    return f"{found['file']}:{found['line']}:{found['column']}" if found["file"] else ""


# ------------------------------------------------------------------------------------------------------------ blocks
def _blocks(plan: Json) -> Iterator[tuple[str, Sequence[str]]]:
    yield "Weakened", few(weakened(plan))
    yield "Takes other requests", few(moves(plan))
    yield "Blast radius", radius(plan)
    yield "Issues", issues(plan)
    yield "Envoy's resources", xds(plan)


def _block(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def few(lines: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(lines) - MOST
    return [*lines[:MOST], f"… and {more} more (-o json has all)"] if more > 0 else list(lines)


def weakened(plan: Json) -> list[str]:
    """One line for all routes of which the same is to be said."""
    alike: dict[tuple[str, str], list[Json]] = {}
    for one in plan["weakened"]:
        alike.setdefault((one["rule"], one["message"]), []).append(one)
    return [f"! {_wheres(ones)}: {message}   {place(ones[0])}".rstrip() for (_, message), ones in alike.items()]


def _wheres(ones: Sequence[Json]) -> str:
    return f"{ones[0]['path']}{f' and {len(ones) - 1} more' if len(ones) > 1 else ''}"


def moves(plan: Json) -> list[str]:
    """`POST api.example.com/v1/a   site/all -> orders/create`."""
    return [
        f"{one['method']} {one['host']}{one['target']}{_having(one)}   {one['before']} -> {one['after']}   {place(one)}"
        for one in plan["moved"]
    ]


def _having(one: Json) -> str:
    return f" ({', '.join(one['headers'])})" if one["headers"] else ""


def issues(plan: Json) -> list[str]:
    found = plan["findings"]
    numbers = f"{len(found['introduced'])} introduced · {len(found['fixed'])} fixed · {found['unchanged']} unchanged"
    signed = (("+", found["introduced"]), ("-", found["fixed"]))
    lines = [f"{sign} {_finding(one)}" for sign, problems in signed for one in problems]
    return [numbers, *few(lines)]


def _finding(problem: Json) -> str:
    return f"{problem['code']} {problem['message']}   {place(problem)}".rstrip()


def radius(plan: Json) -> list[str]:
    """What the change reaches, a line for each kind that it does."""
    rows = [
        ("routes", _routes(plan)),
        ("hosts", _names(plan["hosts"])),
        ("tiers", _names(plan["tiers"])),
        ("shrinks", _shrinks(plan)),
        *_compiled(plan["resources"]),
        ("nodes", _nodes(plan)),
    ]
    return [f"{name:<10}{said}" for name, said in rows if said]


def _routes(plan: Json) -> str:
    changed = plan["routes"]["changed"]
    if not changed:
        return ""
    actions = [one["action"] for one in changed]
    parts = [f"{actions.count(action)} {action}" for action in SIGNS if action in actions]
    return f"{len(changed)} change ({', '.join(parts)}), of {plan['routes']['total']} afterwards"


def _shrinks(plan: Json) -> str:
    gone = [f"{one['before'] - one['after']} of {one['before']} {one['what']}" for one in plan["shrinks"]]
    return f"takes away {' and '.join(gone)}: apply asks for --allow-shrink" if gone else ""


def _compiled(found: Json) -> Iterator[tuple[str, str]]:
    outcomes: dict[str, list[str]] = {}
    for listener in found["listeners"]:
        outcomes.setdefault(listener["outcome"], []).append(listener["name"])
    said = [f"{words.format(len(outcomes[o]))} ({_names(outcomes[o])})" for o, words in DRAINS.items() if o in outcomes]
    yield "listeners", "; ".join(said) or ("none changes" if found["types"] else "")
    yield "clusters", f"{len(found['warming'])} warm again ({_names(found['warming'])})" if found["warming"] else ""
    yield "secrets", _names(found["secrets"])
    yield "resources", " · ".join(map(_type, found["types"]))


def _type(found: Json) -> str:
    numbers = [f"{SIGNS[a]}{len(found[key])}" for key, a in _KEYS if found[key]]
    return f"{found['type']} {' '.join(numbers)}"


_KEYS: Final = (("added", "created"), ("changed", "updated"), ("removed", "deleted"))


def _nodes(plan: Json) -> str:
    nodes = plan.get("nodes")
    if nodes is None:
        return ""
    sizes = [size(group["bytes"]) for group in nodes["groups"]]
    waves = f" · {plan['waves']} waves" if plan.get("waves") else ""
    each = f" · {' or '.join(dict.fromkeys(sizes))} each" if sizes else ""
    return f"{nodes['affected']} of {nodes['connected']} connected{each}{waves}"


def size(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def xds(plan: Json) -> list[str]:
    lines: list[str] = []
    for one in plan.get("xds", ()):
        cut = [f"… {one['cut']} lines more"] if one["cut"] else []
        lines += [f"{one['type']} {one['name']}", *(f"  {line}" for line in (*one["lines"], *cut))]
    return lines


def printable(whole: str) -> str:
    """Names and values are the operators' own, and must not write to the terminal what it obeys."""
    return "".join(c if c == "\n" or c.isprintable() else "?" for c in whole)
