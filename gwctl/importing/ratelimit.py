"""envoyproxy/ratelimit as a domain of `rate_limit_domains`: the same descriptors, found the same way.

That service counts in fixed windows, so the limits do here; another algorithm is one word away.
"""

from typing import Final

from gateway.scalars import UNIT_SECONDS
from gwctl.importing.draft import Draft, Json, unique
from gwctl.importing.source import Source

LONGEST: Final = 4_294_967_295


class _Names:
    """What limits are called here, by what they were called there: `replaces` must go on meaning the same one."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}

    def of(self, place: Source) -> str | None:
        wanted = place.text()
        if not wanted:
            return None
        if wanted not in self._made:
            self._made[wanted] = unique(wanted, self._made.values())
        if self._made[wanted] != wanted:
            place.change(f"it is called {self._made[wanted]} here")
        return self._made[wanted]


def convert(source: Source) -> Json:
    draft = Draft()
    called = source["domain"].text()
    name = draft.name("rate_limit_domains", called)
    descriptors = _level(source["descriptors"], _Names())
    if not descriptors:
        return draft.document()
    body: Json = {} if name == called else {"domain": called}
    draft.of("rate_limit_domains")[name] = body | {"descriptors": descriptors}
    return draft.document()


def _level(source: Source, names: _Names) -> list[Json]:
    made: list[Json] = []
    seen = set()
    for one in source.each():
        entry = (one["key"].text(), one["value"].text())
        if not entry[0] or entry in seen:
            one.lose("it has no key" if not entry[0] else "another descriptor here is for the same key and value")
            continue
        seen.add(entry)
        made.append(_descriptor(one, entry, names))
    return made


def _descriptor(source: Source, entry: tuple[str, str], names: _Names) -> Json:
    key, value = entry
    body: Json = {"key": key} | ({"value": value} if value else {})
    _limit(source["rate_limit"], body, names)
    _flags(source, body)
    below = _level(source["descriptors"], names)
    if below:
        body["descriptors"] = below
    source["quota_mode"].lose("a descriptor over its limit refuses the request, whatever others say")
    return body


def _flags(source: Source, body: Json) -> None:
    if source["shadow_mode"].flag(default=False):
        if "limit" in body:
            body["shadow"] = True
        else:
            source["shadow_mode"].lose("there is no limit that it could be about")
    if source["share_threshold"].flag(default=False):
        if "limit" in body and "*" in body.get("value", ""):
            body["share_threshold"] = True
        else:
            source["share_threshold"].lose("there is no limit, or no `*` in the value")
    for word in ("detailed_metric", "value_to_metric"):
        if source[word].flag(default=False):
            body[word] = True


def _limit(source: Source, body: Json, names: _Names) -> None:
    if source["unlimited"].flag(default=False):
        body["unlimited"] = True
        source["unit"].rest("an unlimited descriptor has no unit")
        source["requests_per_unit"].rest("an unlimited descriptor has no number")
        source["unit_multiplier"].rest("an unlimited descriptor has no unit")
    elif source:
        _rate(source, body)
    name = names.of(source["name"])
    if name:
        body["name"] = name
    replaces = [found for one in source["replaces"].each() if (found := names.of(one["name"]))]
    if replaces:
        body["replaces"] = replaces


def _rate(source: Source, body: Json) -> None:
    unit = source["unit"].text().lower()
    requests = source["requests_per_unit"].number() or 0
    if unit not in UNIT_SECONDS:
        source["unit"].lose("no such unit: every request is refused until there is one")
        unit, requests = "second", 0
    if not 0 <= requests <= LONGEST:
        source["requests_per_unit"].change("no such number of requests")
        requests = min(max(requests, 0), LONGEST)
    many = source["unit_multiplier"].number() or 1
    if many > 1:
        unit, requests = _several(source, unit, requests, many)
    body["limit"] = f"{requests}/{unit}"
    body["algorithm"] = "fixed"


def _several(source: Source, unit: str, requests: int, many: int) -> tuple[str, int]:
    """A window of several units: another unit if it is as long, else the same rate in one of them."""
    seconds = UNIT_SECONDS[unit] * many
    for other, length in UNIT_SECONDS.items():
        if length == seconds:
            return other, requests
    source["unit_multiplier"].change(f"a window is one {unit}: the same rate in it, rounded down")
    return unit, requests // many
