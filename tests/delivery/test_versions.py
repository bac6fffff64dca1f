"""Every client ends at the final version and never goes back, whatever happens to the server. The clients judge it."""

import time
from itertools import pairwise

from tests.support.plane import plane
from tests.support.results import record, size
from tests.support.swarm import Seen, swarm

CLIENTS, KILLS = size("CLIENTS", 200), size("KILLS", 5)
VERSIONS = 200
LOSSLESS_CLIENTS, LOSSLESS = 50, size("LOSSLESS", 150)


def steps_back(kind: str, seen: list[Seen]) -> int:
    """How often a version came that was not newer than the one before it of its type.

    Without versions of its own a SotW client is told again what it has when its stream is a new one: that is no step.
    """
    count = 0
    for type_url in {s.type for s in seen}:
        for old, new in pairwise(s for s in seen if s.type == type_url):
            again = kind == "sotw" and new.stream != old.stream and new.version == old.version
            count += new.version <= old.version and not again
    return count


def test_r1_versions_only_rise_and_the_last_one_arrives_over_kill_9_of_the_server() -> None:
    server = plane(clusters=5, routes=20)
    port = server.ready
    with swarm(port, CLIENTS) as clients:
        clients.until(0)
        for version in range(1, VERSIONS + 1):
            if version % (VERSIONS // KILLS) == 0:
                server.kill()  # with what it was writing
                server = plane(port=port, revision=version, clusters=5, routes=20)
            else:
                server.ask("publish", version)
            time.sleep(0.01)  # some are still busy with the version before
        with server:
            missed = clients.until(VERSIONS)
            log = clients.log()
    back = sum(steps_back("delta" if int(name.rpartition("-")[2]) % 2 else "sotw", seen) for name, seen in log.items())
    responses = sum(map(len, log.values()))
    record(
        "R1",
        value=f"{len(missed)} missed, {back} back",
        passed=not missed and not back,
        clients=CLIENTS,
        kills=KILLS,
        versions=VERSIONS,
        responses=responses,
    )
    assert not missed
    assert not back
    assert responses > 2 * CLIENTS * KILLS / 2, "kills were noticed, and versions came in between"


def test_r3_no_version_is_lost_on_clients_that_keep_up() -> None:
    """Newest wins only over a client that is behind: when each version waits for all, each comes exactly once."""
    with plane() as server, swarm(server.ready, LOSSLESS_CLIENTS) as clients:
        assert not clients.until(0)
        clients.log()
        for version in range(1, LOSSLESS + 1):
            server.ask("publish", version)
            assert not clients.until(version)
        log = clients.log()
    expected = list(range(1, LOSSLESS + 1))
    wrong = sum(
        [s.version for s in seen if s.type == type_url] != expected
        for seen in log.values()
        for type_url in {s.type for s in seen}
    )
    record("R3", value=wrong, passed=not wrong, unit="wrong sequences", clients=len(log), versions=LOSSLESS)
    assert len(log) == LOSSLESS_CLIENTS
    assert not wrong
