"""What must not change: the order of the chain, a listener's bytes by what it serves, bytes between processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.listener.v3.listener_pb2 import Listener

from gateway.model import decode
from xds_server.compiler import chain, compile  # noqa: A004
from xds_server.resources import LISTENER, Snapshot

from .golden import CASES, NAMES, SECRETS, SETTINGS, compiled

ROOT = Path(__file__).parents[2]


def test_the_chain_is_in_this_order() -> None:
    assert [stage.name for stage in chain.STAGES] == [
        "tollhouse/transport_headers",
        "tollhouse/strict_paths",
        "tollhouse/known_scope",
        "tollhouse/identity_headers",
        "envoy.filters.http.cors",
        "envoy.filters.http.csrf",
        "envoy.filters.http.grpc_web",
        "tollhouse/oauth2",
        "tollhouse/jwt_authn",
        "tollhouse/session_cookies/aside",
        "tollhouse/session_cookies/back",
        "tollhouse/ext_authz",
        "envoy.filters.http.rbac",
        "tollhouse/retry_after",
        "tollhouse/local_ratelimit",
        "tollhouse/quota_keys",
        "tollhouse/quota_of_tier",
        "tollhouse/quota_of_route",
        "envoy.filters.http.ratelimit",
        "envoy.filters.http.fault",
        "envoy.filters.http.stateful_session",
        "tollhouse/bandwidth_response",
        "tollhouse/compression",
        "tollhouse/response_cache",
        "envoy.filters.http.buffer",
        "tollhouse/bandwidth_request",
        "envoy.filters.http.router",
    ]
    assert all(stage.reason for stage in chain.STAGES)


def route(document: Any) -> Any:
    return document["modules"]["m"]["routes"]["any"]


EDITS: dict[str, Callable[[Any], Any]] = {
    "a route's path": lambda d: route(d)["match"].update(path={"prefix": "/other"}),
    "a route more": lambda d: d["modules"]["m"]["routes"].update(more=route(d)),
    "a route less": lambda d: d["modules"]["m"]["routes"].pop("tokens"),
    "a route's CORS": lambda d: route(d).update(cors={"allow_origins": ["*"]}),
    "a route's limits": lambda d: route(d).update(rate_limits=[{"limit": "1/second"}]),
    "a route's local limits": lambda d: route(d).update(rate_limits=[{"limit": "1/second", "mode": "local"}]),
    "what routes turn on": lambda d: d.update(
        defaults={
            "csrf": {},
            "compression": {"types": ["br"]},
            "grpc_web": True,
            "bandwidth_limit": {"request": "1KiB/s"},
        }
    ),
    "a route opened": lambda d: route(d).update(authentication="none"),
    "a module less": lambda d: d["modules"].pop("gold"),
    "all modules": lambda d: d["modules"].clear(),
    "a module's hosts": lambda d: d["modules"]["m"].update(hosts=["a.example.com"]),
    "a module's tier": lambda d: d["modules"]["m"].update(tier="gold"),
    "a provider's audiences": lambda d: d["jwt_providers"]["acme"].update(audiences=["else"]),
    "a provider's headers": lambda d: d["jwt_providers"]["acme"].update(claims_to_headers={"sub": "x-sub"}),
    "a provider less": lambda d: d["jwt_providers"].pop("globex"),
    "the key header": lambda d: d["api_keys"]["partner"].update({"from": {"headers": ["x-other"]}}),
    "a tier more": lambda d: d["tiers"].update(platinum={"unlimited": True}),
    "a tier's limits": lambda d: d["tiers"]["free"].update(rate_limits=[{"limit": "1/day", "per": "route"}]),
    "the defaults": lambda d: d.update(defaults={"timeouts": {"request": "1s"}, "retry": {}}),
    "an upstream": lambda d: d["upstreams"]["a"].update(protocol="http2"),
}


def listener_of(document: Any) -> tuple[str, str]:
    """The version of the listener, and of everything."""
    found = compile(decode(document), SETTINGS, SECRETS, strict=True)
    snapshot = Snapshot.of(1, found.messages)
    return snapshot.types[LISTENER].version, snapshot.version


@pytest.mark.parametrize("edit", EDITS)
def test_no_edit_of_what_a_listener_serves_changes_the_listener(edit: str) -> None:
    text = (CASES / "decided" / "in.yaml").read_text()
    document = yaml.safe_load(text)
    EDITS[edit](document)
    before, all_before = listener_of(yaml.safe_load(text))
    after, all_after = listener_of(document)
    assert after == before
    assert all_after != all_before, "the edit changed nothing at all"


def test_an_edit_of_the_listener_does_change_it() -> None:
    text = (CASES / "decided" / "in.yaml").read_text()
    document = yaml.safe_load(text)
    document["listeners"]["http"]["trusted_hops"] = 1
    assert listener_of(document)[0] != listener_of(yaml.safe_load(text))[0]


PRINT_VERSIONS = """
import sys
from tests.compiler.golden import NAMES, compiled
from xds_server.resources import Snapshot
print(*(Snapshot.of(1, compiled(name).messages).version for name in NAMES))
"""


@pytest.mark.parametrize("seed", ["1", "4242"])
def test_the_same_bytes_in_any_process(seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    other = subprocess.run(
        [sys.executable, "-c", PRINT_VERSIONS], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.split() == [Snapshot.of(1, compiled(name).messages).version for name in NAMES]


def test_listeners_are_named_for_the_document() -> None:
    names = [m.name for m in compiled("tls").messages if isinstance(m, Listener)]
    assert names == ["http", "https"]
