"""What pydantic found wrong, as problems that an operator can act on.

pydantic names a place by `loc`: document keys mixed with the tags of union members (`static`, `AnyOf`,
`literal['none']`). Here the tags are taken out, the members that the operator did not mean are dropped, and each place
keeps one problem.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.model import Gateway
from gateway.problems import Path, Problem
from gateway.wording import UNION_OF_SCALARS, Finding, problem_of, suggestion
from gateway.words import planned

MOST_ERRORS: Final = 100
_MODEL_TAGS: Final = frozenset(
    {
        "AnyOf",
        "AllOf",
        "Retry",
        "Cors",
        "AccessLog",
        "OutlierDetection",
        "Csrf",
        "Compression",
        "FaultInjection",
        "RequestBuffer",
        "BandwidthLimit",
        "Cache",
    }
)


def problems_of(error: ValidationError, document: Any, root: type[BaseModel] = Gateway) -> list[Problem]:
    """One problem for each thing that is wrong with the document, in pydantic's order; never raises.

    `root`: the model of the whole document.
    """
    details = error.errors(include_url=False)[: MOST_ERRORS * 4]  # a wrong union value has an error for each member
    found = [_finding(detail, document, root) for detail in details]
    findings = [finding for finding in found if _meant(finding)]
    seen: dict[tuple[object, ...], Problem] = {}
    explained = _explained(findings)
    for finding in findings:
        if not _follows(finding, explained):
            problem = problem_of(finding)
            seen.setdefault((problem.path, finding.missing), problem)
            if len(seen) >= MOST_ERRORS:
                return [*seen.values(), Problem("GW014", (), f"{MOST_ERRORS} problems: only these are shown")]
    return list(seen.values())


def _finding(error: ErrorDetails, document: Any, root: type[BaseModel]) -> Finding:
    path: list[str | int] = []
    tags: list[tuple[Any, str]] = []
    value = document
    for part in error["loc"]:
        if not _is_tag(part, path, value, tags) and _has(value, part):
            value = value[part]
            path.append(part)
        else:
            tags.append((value, str(part)))
    return Finding(error, tuple(path), tuple(tags), value, root)


def _is_tag(part: str | int, path: list[str | int], value: Any, tags: list[tuple[Any, str]]) -> bool:
    """Whether the part is the discriminator's value of an upstream, which could also be a key in there."""
    in_upstream = len(path) == 2 and path[0] == "upstreams" and isinstance(value, dict)
    return in_upstream and part == value.get("type") and not any(tagged is value for tagged, _ in tags)


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and 0 <= part < len(value)
    return isinstance(value, dict) and part in value


def _meant(finding: Finding) -> bool:
    """Whether the union members on the way are the ones that the operator's value looks like."""
    return all(_fits(value, tag) for value, tag in finding.tags)


def _fits(value: Any, tag: str) -> bool:
    if tag.startswith("literal["):
        return not isinstance(value, dict)
    if tag in ("AnyOf", "AllOf") and isinstance(value, dict):
        return (tag == "AllOf") == ("all_of" in value and "any_of" not in value)
    if tag in _MODEL_TAGS:
        return isinstance(value, dict)
    if tag.startswith("tuple["):
        return isinstance(value, list)
    if tag == UNION_OF_SCALARS[0]:
        return not isinstance(value, list)
    return True


def _explained(findings: Iterable[Finding]) -> Mapping[Path, set[str]]:
    """By place, the fields whose absence follows from an unknown word there: the one meant, or (`*`) any."""
    places: dict[Path, set[str]] = {}
    for finding in findings:
        if finding.type == "extra_forbidden":
            parent, word = finding.path[:-1], str(finding.path[-1])
            places.setdefault(parent, set()).add(
                "*" if planned(parent, word, finding.root) else suggestion(finding) or ""
            )
    return places


def _follows(finding: Finding, explained: Mapping[Path, set[str]]) -> bool:
    """A list that only seems too short because an item in it is wrong; a field missing because it is misspelled."""
    if finding.type == "too_short" and isinstance(finding.value, (list, dict)):
        return bool(len(finding.value) >= finding.context.get("min_length", 0))
    if finding.missing:
        return bool(explained.get(finding.path, set()) & {"*", finding.missing})
    return False
