"""Golden cases: a folder with `in.yaml` and what the compiler makes of it, a file for each type of resource."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from gateway.jwks import keyset_name
from gateway.model import Gateway, ServiceEndpoint, decode
from xds_server.compiler import (
    CaBundle,
    Certificate,
    Compiled,
    HmacKey,
    KeySet,
    RevocationList,
    Secret,
    Settings,
    compile,  # noqa: A004
)
from xds_server.compiler.services import Assigner
from xds_server.resources import ENDPOINTS as LOAD_ASSIGNMENTS
from xds_server.resources import Share, Snapshot

CASES = Path(__file__).parent / "cases"
TLS = Path(__file__).parent / "tls"
NAMES = tuple(sorted(path.parent.name for path in CASES.glob("*/in.yaml")))
FILES = {
    "Listener": "listeners.yaml",
    "RouteConfiguration": "routes.yaml",
    "ScopedRouteConfiguration": "scopes.yaml",
    "Cluster": "clusters.yaml",
    "ClusterLoadAssignment": "endpoints.yaml",
    "TypedExtensionConfig": "extensions.yaml",
    "Secret": "secrets.yaml",
    "Runtime": "runtime.yaml",
    "RateLimitConfig": "ratelimit.yaml",
}
SITE = Certificate((TLS / "site.pem").read_bytes(), (TLS / "site.key").read_bytes())
SECRETS: Mapping[str, Secret] = {
    "acme-key": HmacKey(b"0123456789abcdef0123456789abcdef"),
    "shop-secret": HmacKey(b"not-a-real-client-secret\n"),
    "site": SITE,
    "site-default": SITE,
    "mismatched": Certificate((TLS / "site.pem").read_bytes(), (TLS / "other.key").read_bytes()),
    keyset_name("https://id.example.com/jwks.json"): KeySet((TLS / "public.jwks.json").read_text().strip()),
    "ca": CaBundle((TLS / "ca.pem").read_bytes()),
    "tollhouse/system-ca": CaBundle((TLS / "ca.pem").read_bytes()),
    "crl": RevocationList((TLS / "ca.crl").read_bytes()),
}
ENDPOINTS = {
    "ledger": (
        ServiceEndpoint(address="10.0.2.1", port=9090, zone="a"),
        ServiceEndpoint(address="10.0.2.2", port=9090, state="draining"),
    )
}
SETTINGS = Settings(decisions=(("127.0.0.1", 9800),))


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def gateway(name: str) -> Gateway:
    return decode(yaml.safe_load((CASES / name / "in.yaml").read_text()))


def compiled(name: str) -> Compiled:
    """With the endpoints of services put in, as Envoy gets it."""
    found = compile(document := gateway(name), SETTINGS, SECRETS, strict=True)
    assigned = Assigner(SETTINGS).assign(document, Snapshot.of(1, found.messages), ENDPOINTS)
    resources = assigned.snapshot.types[LOAD_ASSIGNMENTS].resources
    messages = (
        type(m).FromString(resources[m.cluster_name].data) if isinstance(m, ClusterLoadAssignment) else m
        for m in found.messages
    )
    return Compiled(tuple(messages), (*found.problems, *assigned.problems), found.shares)


def expected_files(found: Compiled) -> dict[str, str]:
    """What the folder of a case must hold beside `in.yaml`."""
    files = {file: rendered(m for m in found.messages if type(m).__name__ == kind) for kind, file in FILES.items()}
    problems = [f"{p.severity}[{p.code}] {'.'.join(map(str, p.path))}: {p.message}\n" for p in found.problems]
    files["problems.txt"] = "".join(problems)
    files["nodes.yaml"] = "".join(map(who_gets, found.shares))
    return {name: text for name, text in files.items() if text}


def who_gets(share: Share) -> str:
    """Which nodes have a listener, and the clusters and secrets that come with it."""
    nodes = share.nodes.model_dump(exclude_none=True, mode="json") if share.nodes is not None else "all"
    reach = sorted(f"{url.rpartition('.')[2]} {name}" for url, name in share.reach)
    return yaml.dump({share.listener: {"nodes": nodes, "reach": reach}}, Dumper=_Dumper, sort_keys=True, width=160)


def rendered(messages: Iterator[Message]) -> str:
    found = [json.loads(MessageToJson(message, preserving_proto_field_name=True)) for message in messages]
    return yaml.dump(found, Dumper=_Dumper, sort_keys=True, width=160, allow_unicode=True) if found else ""
