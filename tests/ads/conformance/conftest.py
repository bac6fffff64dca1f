"""How a talk begins: alone with the state machine, or over a channel to a server of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.ads.channel import Channel, Loop, looping
from tests.ads.conformance.variants import VARIANTS, Talks
from tests.ads.dialogue import Alone, Talk
from xds_server.ads.server import SERVICES


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    with looping() as loop:
        yield loop


@pytest.fixture
def talk(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Talks]:
    variant, line = request.param
    speaker, machine = VARIANTS[variant]
    with ExitStack() as open_lines:

        def begin(*messages: Message, **more: Any) -> Talk:
            """A stream of its own. `implied`: the type of a per-type service; `patience`: see `Channel`."""
            if line == "alone":
                return speaker(*messages, line=Alone(machine("n-", more.get("implied", ""))))
            more["method"] = method(variant, more.pop("implied", ""))
            return speaker(*messages, line=open_lines.enter_context(closing(Channel(loop, variant, **more))))

        yield begin


def method(variant: str, implied: str) -> str:
    """The path of the method that serves only this type; "" for ADS, which the client knows."""
    for service, (suffix, type_url) in SERVICES.items():
        if implied and type_url == implied:
            return f"/{service}/{'Stream' if variant == 'sotw' else 'Delta'}{suffix}"
    return ""
