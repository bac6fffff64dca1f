"""Upstreams where none should be: refused by `gwctl validate`, and the control plane knows where its own parts are."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gwctl.addresses import Address
from gwctl.commands.validate import validate
from gwctl.serve import ControlPlane

DOCUMENT = """
version: 1
listeners: {http: {port: 8080}}
upstreams:
  metadata: {type: static, endpoints: [{address: 169.254.169.254, port: 80}]}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: none
    routes: {r: {match: {path: {prefix: /}}, backends: [{upstream: metadata}]}}
"""


@pytest.mark.parametrize(
    ("options", "environment", "code"),
    [
        ([], {}, 3),
        (["--allow-unsafe-upstreams"], {}, 0),
        ([], {"TOLLHOUSE_ALLOW_UNSAFE_UPSTREAMS": "true"}, 0),
    ],
)
def test_the_risk_must_be_named(tmp_path: Path, options: list[str], environment: dict[str, str], code: int) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(DOCUMENT)
    done = CliRunner().invoke(validate, ["--no-envoy", *options, str(file)], env=environment)
    assert done.exit_code == code, done.output
    assert ("routes.yaml:5:50: error[GW606]" in done.output) == (code != 0)


def test_the_control_plane_knows_its_own_parts() -> None:
    plane = ControlPlane(
        database_url="postgresql://tollhouse:secret@db.internal/tollhouse",
        peppers={},
        api=Address("127.0.0.1", 9000),
        xds=Address("127.0.0.1", 9001),
        decisions=(("decisions.internal", 9002),),
        secrets_dir=Path(),
        endpoints_dir=None,
        listener_address="127.0.0.1",
        listener_ports={},
        token_file=None,
        envoy=None,
        insecure_plaintext=False,
        forbidden_upstreams=(("valkey.internal", 6379),),
    )
    assert dict(plane.own_addresses) == {
        "127.0.0.1": 9001,
        "decisions.internal": 9002,
        "db.internal": 5432,
        "valkey.internal": 6379,
    }
    assert ("127.0.0.1", 9000) in plane.own_addresses
