"""Where streams are answered elsewhere (`Settings.streams`), what is a stream is asked there, and nothing else."""

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from tests.compiler.golden import SECRETS, gateway
from xds_server.compiler import compile  # noqa: A004 - the compiler's name
from xds_server.compiler.settings import Settings


def compiled(**settings: tuple[tuple[str, int], ...]) -> dict[str, bytes]:
    where = Settings(decisions=(("127.0.0.1", 9002),), **settings)  # type: ignore[arg-type]
    found = compile(gateway("cache"), where, SECRETS, strict=True)
    return {f"{type(m).__name__} {getattr(m, 'name', '')}": m.SerializeToString() for m in found.messages}


def test_streams_have_a_cluster_of_their_own():
    here, there = compiled(), compiled(streams=(("127.0.0.1", 9003),))
    assert "Cluster tollhouse/streams" not in here
    assert Cluster.FromString(there["Cluster tollhouse/streams"]).name == "tollhouse/streams"
    changed = [name for name in here if here[name] != there[name]]
    assert changed
    assert all(b"tollhouse/streams" in there[name] for name in changed)
