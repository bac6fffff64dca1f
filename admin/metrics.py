"""Numbers of the control plane for Prometheus, read from where they are when somebody asks.

No node id, client id or path is a label: those are unbounded, and are in the status and the logs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from admin.service import Service, own_version
from admin.status import state_of

OLDEST_ENVOY = "1.36"
STATES = ("synced", "stale", "nacked", "gone")


class ControlPlane(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        yield _gauge("gw_build_info", "What runs", ["version", "envoy_min"], [((own_version(), OLDEST_ENVOY), 1.0)])
        yield _gauge("gw_db_up", "Whether the database answered last time", [], [((), self._database())])
        yield from self._snapshot()
        yield from self._rollout()
        yield from self._nodes()

    def _database(self) -> float:
        return float(self._service.publisher.watch.connected)

    def _snapshot(self) -> Iterator[Metric]:
        state = self._service.publisher.state
        failed = float(state.failure is not None)
        yield _gauge("gw_snapshot_failed", "Whether the newest revision could not be published", [], [((), failed)])
        if state.published is not None:
            snapshot = state.published.snapshot
            labels = (str(snapshot.revision), snapshot.version)
            yield _gauge("gw_snapshot_info", "What the fleet is given", ["revision", "hash"], [(labels, 1.0)])
        seconds = self._service.builder.last_compile_seconds
        yield _gauge("gw_snapshot_compile_seconds", "How long the last compilation took", [], [((), seconds)])

    def _rollout(self) -> Iterator[Metric]:
        state = self._service.publisher.state
        found = state.rollout.state if state.rollout is not None else ""
        samples = [([one], float(one == found)) for one in ("running", "paused", "halted")]
        yield _gauge("gw_rollout_state", "What the open rollout is", ["state"], samples)
        frozen = float(state.freeze is not None)
        yield _gauge("gw_rollout_frozen", "Whether rollouts are frozen", [], [((), frozen)])

    def _nodes(self) -> Iterator[Metric]:
        rows = self._service.hub.board.rows
        counts = Counter(state_of(row, self._service.hub.snapshot) for row in rows)
        yield _gauge("gw_nodes", "Nodes by state", ["state"], [([state], counts[state]) for state in STATES])


def _gauge(name: str, help_: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family
