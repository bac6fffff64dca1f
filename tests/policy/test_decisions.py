"""The whole decision service on real PostgreSQL and Valkey, asked over gRPC."""

import asyncio
import os
import signal
import socket
import statistics
import sys
import time
import urllib.request

import grpc
import pytest
import structlog
from envoy.service.ratelimit.v3 import rls_pb2
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2

from gwctl.up.process import Process, free_port
from policy import rpc
from policy.unavailable import Unavailable

from .facts_of import DOCUMENT, check_request, limit_request
from .rig import PEPPER, Client, Database, decisions, failure, until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICES = ("", "envoy.service.auth.v3.Authorization", "envoy.service.ratelimit.v3.RateLimitService")


@pytest.fixture
async def database(postgres):
    made = Database(postgres.url)
    await made.migrate()
    yield made
    await made.close()


@pytest.fixture
async def service(database, valkey):
    await database.apply(DOCUMENT)
    running = await decisions(database.url, valkey.url, metrics_address="127.0.0.1:0")
    await asyncio.wait_for(running.ready(), 15)
    yield running
    await running.stop(0)


@pytest.fixture
async def client(service):
    made = Client(service.port)
    yield made
    await made.close()


def limited(client_id: str, tier: str = "free"):
    return limit_request({"tier": tier, "client": client_id})


# -------------------------------------------------------------------------------------------------------- starting
async def test_without_a_first_view_nothing_is_decided(tmp_path, valkey):
    running = await decisions(f"postgresql://postgres@/x?host={tmp_path}", valkey.url)
    client = Client(running.port)
    try:
        assert [await client.health(name) for name in SERVICES] == [health_pb2.HealthCheckResponse.NOT_SERVING] * 3
        assert await failure(client.check(check_request())) is UNAVAILABLE
        assert await failure(client.limit(limited("c"))) is UNAVAILABLE
    finally:
        await client.close()
        await running.stop(0)


async def test_with_a_view_it_serves(service, client):
    await until(lambda: serving(client))
    assert service.views.current.tiers == ("free", "gold", "staff")


async def serving(client: Client) -> bool:
    return [await client.health(name) for name in SERVICES] == [SERVING] * 3


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:1", "example.com:1"])
async def test_plain_text_beyond_loopback_must_be_asked_for(tmp_path, address):
    with pytest.raises(ValueError, match="--insecure-plaintext"):
        await decisions(f"postgresql:///x?host={tmp_path}", None, address=address)


async def test_a_port_in_use_is_an_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await decisions(f"postgresql:///x?host={tmp_path}", None, address=f"127.0.0.1:{taken.getsockname()[1]}")


# ----------------------------------------------------------------------------------------------------------- Check
async def test_a_new_key_works_at_once_and_a_revoked_one_soon_does_not(client, database):
    key = await database.make_key("gold")
    sent = check_request({"x-api-key": key.text})
    allowed = await client.check(sent)
    assert allowed.status.code == code_pb2.OK
    assert dict(allowed.dynamic_metadata)["tier"] == "gold"
    await database.revoke(key.id)
    await until(lambda: denied(client, sent), 5)


async def denied(client: Client, sent) -> bool:
    return (await client.check(sent)).denied_response.status.code == 401


async def test_an_absent_key_is_looked_up_again_when_it_is_made(client, database):
    assert (await client.check(check_request())).denied_response.status.code == 401
    key = await database.make_key("free")
    assert (await client.check(check_request({"x-api-key": key.text}))).status.code == code_pb2.OK


async def test_last_use_reaches_the_database(service, client, database):
    key = await database.make_key("free")
    await client.check(check_request({"x-api-key": key.text}))
    await service._last_used.flush()
    assert await database.last_used(key.id) is not None


async def test_known_keys_work_while_the_database_is_away(client, database, postgres):
    known, other = await database.make_key("free"), await database.make_key("free")
    await client.check(check_request({"x-api-key": known.text}))
    postgres.kill9()
    try:
        assert (await client.check(check_request({"x-api-key": known.text}))).status.code == code_pb2.OK
        assert await failure(client.check(check_request({"x-api-key": other.text}))) is UNAVAILABLE
    finally:
        postgres.start()
    await until(lambda: allowed(client, check_request({"x-api-key": other.text})))
    await database.revoke(known.id)
    await until(lambda: denied(client, check_request({"x-api-key": known.text})))


async def allowed(client: Client, sent) -> bool:
    return await failure(client.check(sent)) is None


async def test_a_new_revision_comes_into_force(service, client, database):
    tiers = {"solo": {"rate_limits": [{"limit": "1/hour"}]}, **DOCUMENT["tiers"]}
    number = await database.apply(DOCUMENT | {"tiers": tiers})
    await until(lambda: service.views.current.revision == number)
    assert service.views.current.tiers[0] == "solo"
    number = await database.apply(DOCUMENT)
    await until(lambda: service.views.current.revision == number)


async def test_while_a_revision_goes_out_in_waves_most_envoys_ask_by_the_one_before(service, database):
    base = await database.apply(DOCUMENT)
    await until(lambda: service.views.current.revision == base)
    tiers = {"solo": {"rate_limits": [{"limit": "1/hour"}]}, **DOCUMENT["tiers"]}
    changed = {
        "tiers": tiers,
        "api_keys": DOCUMENT["api_keys"] | {"further": {}},
        "rollout": {"waves": [{"name": "all"}]},
    }
    number = await database.apply(DOCUMENT | changed)
    await until(lambda: "further" in service.views.current.key_sources)
    assert (service.views.current.revision, service.views.current.tiers) == (base, tuple(DOCUMENT["tiers"]))
    await database.rolled_out()
    await until(lambda: service.views.current.revision == number)
    assert service.views.current.tiers[0] == "solo"


async def test_a_revision_that_is_not_understood_leaves_the_one_before_in_force(service, database):
    number = service.views.current.revision
    await database.apply(DOCUMENT | {"tiers": {"free": {"rate_limits": [{"limit": "lots"}]}}})
    after = await database.apply(DOCUMENT)
    await until(lambda: service.views.current.revision != number)
    assert service.views.current.revision == after


# ------------------------------------------------------------------------------------------------- ShouldRateLimit
async def test_limits(client):
    codes = [(await client.limit(limited("c_limits"))).overall_code for _ in range(5)]
    assert codes == [rls_pb2.RateLimitResponse.OK] * 3 + [rls_pb2.RateLimitResponse.OVER_LIMIT] * 2


async def test_requests_that_make_no_sense(client):
    assert await failure(client.limit(limit_request({"a": "b"}, domain=""))) is grpc.StatusCode.INVALID_ARGUMENT
    assert await failure(client.limit(limit_request())) is grpc.StatusCode.INVALID_ARGUMENT
    other = await client.limit(limit_request({"tier": "free", "client": "c"}, {"a": "b"}, domain="other"))
    assert (other.overall_code, len(other.statuses)) == (rls_pb2.RateLimitResponse.OK, 2)


async def test_every_decision_fails_as_unavailable_while_valkey_is_gone_and_recovers(service, client, valkey):
    await client.limit(limited("c_before"))
    valkey.kill9()
    try:
        failures, took = await ask_many(client, 2000)
    finally:
        valkey.start()
    assert failures == {UNAVAILABLE: 2000}
    assert statistics.quantiles(took, n=100)[98] < 1  # it is milliseconds; a loaded machine is given a second
    await until(lambda: service._store.available)
    assert await failure(client.limit(limited("c_after"))) is None


async def test_a_valkey_that_hangs_is_noticed_once_and_then_not_waited_for(service, client, valkey):
    await client.limit(limited("c_before"))
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        failures, _ = await ask_many(client, 300)
        assert failures == {UNAVAILABLE: 300}
        assert not service._store.available
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    await until(lambda: service._store.available)
    assert await failure(client.limit(limited("c_after"))) is None


async def ask_many(client: Client, number: int):
    failures, took = {}, []
    for start in range(0, number, 20):
        before = time.monotonic()
        for code in await asyncio.gather(*(failure(client.limit(limited(f"c{start + n}"))) for n in range(20))):
            failures[code] = failures.get(code, 0) + 1
            took.append(time.monotonic() - before)
    return failures, took


# ------------------------------------------------------------------------------------------------------- the rest
async def test_metrics(service, client):
    await client.limit(limited("c_metrics"))
    await client.check(check_request())
    url = f"http://127.0.0.1:{service.metrics_port}/metrics"
    text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    assert 'gw_ratelimit_decisions_total{result="ok",rule="tier",tier="free"}' in text
    assert 'gw_authz_decisions_total{result="no_credentials",rule="orders/list"}' in text


class LateContext:
    """A caller whose deadline is almost over."""

    def __init__(self, remaining: float | None) -> None:
        self.remaining = remaining
        self.aborted: tuple[grpc.StatusCode, str] | None = None

    def time_remaining(self) -> float | None:
        return self.remaining

    async def abort(self, code: grpc.StatusCode, detail: str) -> None:
        self.aborted = (code, detail)
        raise grpc.aio.AbortError


async def test_late_work_is_not_begun():
    begun = []

    async def decide(budget: float) -> None:
        begun.append(budget)

    late = LateContext(0.001)
    with pytest.raises(grpc.aio.AbortError):
        await rpc.guarded(late, decide, 1)
    assert (late.aborted[0], begun) == (grpc.StatusCode.DEADLINE_EXCEEDED, [])
    await rpc.guarded(LateContext(0.5), decide, 1)
    await rpc.guarded(LateContext(None), decide, 1)
    assert begun == [pytest.approx(0.498), 1]


@pytest.mark.parametrize("error", [Unavailable("no counters"), RuntimeError("secret"), KeyError("secret"), OSError()])
async def test_failures_are_never_unknown_and_tell_no_internals(error):
    async def decide(budget: float) -> None:
        raise error

    context = LateContext(1)
    with structlog.testing.capture_logs() as logs, pytest.raises(grpc.aio.AbortError):
        await rpc.guarded(context, decide, 1)
    assert context.aborted[0] is UNAVAILABLE
    assert "secret" not in context.aborted[1]
    assert "secret" not in str([{k: v for k, v in entry.items() if k != "stack"} for entry in logs])
    assert all("exc_info" not in entry for entry in logs)  # it would be printed with its message and local variables


PROGRAM = """
import os
from policy.server import DecisionsConfig, serve
serve(DecisionsConfig(os.environ["ADDRESS"], os.environ["DATABASE"], {1: os.environb[b"PEPPER"]}, os.environ["VALKEY"]))
"""


async def test_sigterm_answers_who_is_being_answered_and_exits_0(database, valkey, tmp_path):
    await database.apply(DOCUMENT)
    port = free_port()
    variables = {"ADDRESS": f"127.0.0.1:{port}", "DATABASE": database.url, "VALKEY": valkey.url}
    child = Process(
        name="decisions",
        command=[sys.executable, "-W", "error", "-c", PROGRAM],
        log=tmp_path / "log",
        environment=os.environ | variables | {"PEPPER": PEPPER.decode(), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    client = Client(port)
    child.spawn()
    try:
        await until(lambda: answers(client))
        os.kill(valkey.pid, signal.SIGSTOP)  # so that the request is being answered while the signal comes
        waiting = asyncio.create_task(client.limit(limited("c_term")))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(child.stop, 20)
        with pytest.raises(grpc.aio.AioRpcError, match="the counters"):  # answered, and not by a broken connection
            await waiting
        assert child.exit_status == 0
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        child.kill9()
        await client.close()
    output = (tmp_path / "log").read_text()
    assert "decisions_stopped" in output
    assert "Traceback" not in output
    assert PEPPER.decode() not in output


async def answers(client: Client) -> bool:
    try:
        return await client.health() == SERVING
    except grpc.aio.AioRpcError:
        return False
