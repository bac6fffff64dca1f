"""What is published is on the disk, whole and private, and a file that cannot be believed is refused."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import read
from gateway.nodes import Node
from tests.ads import real_envoy as real
from xds_server.ads.groups import view_of
from xds_server.kept import FORMAT, KeptFile, Unusable
from xds_server.resources import CLUSTER, Snapshot
from xds_server.rollout import keeping
from xds_server.rollout.publisher import Published

DOCUMENT = """\
version: 1
listeners: {http: {port: 8080, access_log: none}}
upstreams: {orders: {type: eds, service: orders}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: none
    routes: {all: {match: {path: {prefix: /}}, backends: [{upstream: orders}]}}
"""


def snapshot(revision: int = 7) -> Snapshot:
    cluster, endpoints = real.eds_cluster("orders"), real.assignment("orders", 9)
    return Snapshot.of(revision, [cluster, endpoints, real.listener(), real.routes(real.to("orders"))])


def published() -> Published:
    objects = read.load([("routes.yaml", DOCUMENT)]).objects
    gateway, problems = read.check_objects(objects)
    assert gateway is not None, problems
    return Published(snapshot(), gateway, tuple(objects), (), datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def file(tmp_path: Path) -> KeptFile:
    return KeptFile(tmp_path / "state" / "snapshot")


def test_what_is_read_is_what_was_written_byte_for_byte(file: KeptFile) -> None:
    file.write(snapshot(), {"note": "ü\n"})
    assert file.read() == (snapshot(), {"note": "ü\n"})
    assert file.read()[0].version == snapshot().version  # type: ignore[index]


def test_only_its_owner_reads_it_and_nothing_else_is_left(file: KeptFile) -> None:
    for revision in (1, 2):
        file.write(snapshot(revision), {})
    assert [path.name for path in file.path.parent.iterdir()] == ["snapshot"]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert file.read()[0].revision == 2  # type: ignore[index]


def test_nothing_kept_is_no_error(file: KeptFile) -> None:
    assert file.read() is None


def test_a_file_torn_anywhere_or_with_any_byte_changed_is_refused(file: KeptFile) -> None:
    file.write(snapshot(), {"note": "x"})
    whole = file.path.read_bytes()
    step = max(1, len(whole) // 150)
    torn = [whole[:end] for end in range(0, len(whole), step)]
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), step)]
    for data in (*torn, *changed, whole + b"\0", whole.replace(FORMAT, b"tollhouse-kept 2 "), b"\xff" * 100):
        file.path.write_bytes(data)
        with pytest.raises(Unusable):
            file.read()


def test_a_write_that_fails_leaves_the_old_file(file: KeptFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write(snapshot(1), {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xds_server.kept.os.fsync", full)
    with pytest.raises(OSError, match="space"):
        file.write(snapshot(2), {})
    assert file.read()[0].revision == 1  # type: ignore[index]


def test_what_was_published_comes_back_with_its_places(file: KeptFile) -> None:
    before = published()
    file.write(before.snapshot, keeping.about(before))
    after = keeping.kept(file)
    assert after is not None
    assert after.from_disk
    assert (after.snapshot, after.gateway, after.objects, after.at) == (
        before.snapshot,
        before.gateway,
        before.objects,
        before.at,
    )


@pytest.mark.parametrize("objects", [[], [{"kind": "nonsense"}], "x", None])
def test_a_document_that_this_version_does_not_read_is_refused_with_a_word(file: KeptFile, objects: object) -> None:
    file.write(snapshot(), {"at": "2026-01-02T00:00:00+00:00", "objects": objects})
    assert keeping.kept(file) is None


def test_after_a_restart_nobody_gets_more_than_before(file: KeptFile) -> None:
    document = DOCUMENT.replace("access_log: none}", "access_log: none, nodes: {ids: [one]}}", 1)
    objects = read.load([("routes.yaml", document)]).objects
    gateway, _ = read.check_objects(objects)
    assert gateway is not None
    before = Published(snapshot(), gateway, tuple(objects), (), datetime(2026, 1, 2, tzinfo=UTC))
    file.write(before.snapshot, keeping.about(before))
    after = keeping.kept(file)
    assert after is not None
    held = {name: view_of(after.snapshot, Node(name)).types[CLUSTER].resources.keys() for name in ("one", "other")}
    assert held == {"one": {"orders"}, "other": set()}
