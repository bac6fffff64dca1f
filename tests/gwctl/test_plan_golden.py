"""Golden plans: a folder with `before.yaml` and `after.yaml`, and what the plan says in each form.

TOLLHOUSE_GOLDEN=update rewrites all cases.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gwctl.files import File
from gwctl.planning.markdown import markdown
from gwctl.planning.offline import compared
from gwctl.planning.text import text

CASES = Path(__file__).parent / "plans"
NAMES = sorted(path.parent.name for path in CASES.glob("*/before.yaml"))


def planned(name: str, **options: Any) -> dict[str, Any]:
    before, after = ([File("routes.yaml", (CASES / name / f"{side}.yaml").read_text())] for side in ("before", "after"))
    return compared(before, after, prune=True, envoy=None, **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_says_what_is_written(name: str) -> None:
    plan = planned(name)
    made = {"plan.txt": text(plan), "plan.md": markdown(plan), "plan.json": as_text(plan)}
    if os.environ.get("TOLLHOUSE_GOLDEN") == "update":
        for file, content in made.items():
            (CASES / name / file).write_text(content)
    assert {file: (CASES / name / file).read_text() for file in made} == made


def as_text(plan: dict[str, Any]) -> str:
    """Without what depends on the compiler's every byte, and on stand-ins for secrets."""
    resources = {**plan["resources"], "bytes": 0}
    resources["types"] = [{**one, "bytes": 0} for one in resources["types"]]
    return json.dumps({**plan, "base": {}, "version": "", "resources": resources}, indent=1, ensure_ascii=False) + "\n"


RULES = {
    "weaker-authentication": {"authentication", "opened"},
    "weaker-all-of": {"authentication"},
    "weaker-authorization": {"authorization"},
    "weaker-limits": {"rate_limits", "tier"},
    "weaker-browsers": {"cors", "csrf", "request_size", "security_headers"},
    "weaker-tier": {"least_tier"},
    "weaker-tls": {"listener", "upstream"},
    "weaker-provider": {"jwt_provider"},
    "weaker-floor": {"floor", "authorization", "rate_limits"},
    "tier-order": {"least_tier"},
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_weaker_is_told_and_the_way_back_is_not(name: str) -> None:
    assert {one["rule"] for one in planned(name)["weakened"]} == RULES.get(name, set())


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("tier-order", "weaker-all-of")])
def test_the_way_back_weakens_nothing(name: str) -> None:
    before, after = ([File("routes.yaml", (CASES / name / f"{side}.yaml").read_text())] for side in ("before", "after"))
    assert compared(after, before, prune=True, envoy=None)["weakened"] == []


def test_no_secret_is_in_any_form() -> None:
    plan = planned("masked", xds=True)
    for shown in (text(plan), markdown(plan), json.dumps(plan)):
        assert not any(secret in shown for secret in ("b2xk", "bmV3", "old-token", "new-token"))
        assert "x-plain" in shown
        assert "(not shown)" in shown


def test_every_word_of_the_terminal_is_printable() -> None:
    plan = planned("field")
    plan["weakened"] = [{"rule": "x", "path": "a", "message": "\x1b[31mred\x07", "file": None}]
    assert "\x1b" not in text(plan)
    assert "\x07" not in markdown(plan)


def test_nothing_closes_a_block_of_markdown() -> None:
    plan = planned("field")
    plan["changes"][0]["edits"][0]["new"] = "```\n# a heading"
    assert "````diff" in markdown(plan)
