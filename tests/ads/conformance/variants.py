"""Every dialogue is held over the state machine alone and over a real channel, in the variants that it is about."""

from typing import Any, Final, Protocol

import pytest
from google.protobuf.message import Message

from tests.ads.dialogue import DeltaTalk, SotwTalk
from xds_server.ads.delta import DeltaStream
from xds_server.ads.sotw import SotwStream

VARIANTS: Final[dict[str, Any]] = {"sotw": (SotwTalk, SotwStream), "delta": (DeltaTalk, DeltaStream)}
LINES: Final = ("alone", "channel")


def held(*variants: str) -> pytest.MarkDecorator:
    pairs = [(variant, line) for variant in variants for line in LINES]
    return pytest.mark.parametrize("talk", pairs, ids="-".join, indirect=True)


both, sotw, delta = held("sotw", "delta"), held("sotw"), held("delta")


class Talks(Protocol):
    """Begins a talk on a stream of its own, with these messages published."""

    def __call__(self, *messages: Message, **more: Any) -> Any: ...
