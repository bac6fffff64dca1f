"""Numbers of the control plane for Prometheus, read from where they are when somebody asks.

No node id, client id or path is a label: those are unbounded, and are in the status and the logs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from admin.service import Service, own_version
from admin.status import state_of
from xds_server.ads.board import NodeRow
from xds_server.ads.events import Acked, Nacked

OLDEST_ENVOY = "1.36"
STATES = ("synced", "stale", "nacked", "gone")


class ControlPlane(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service
        self._answers: Counter[tuple[str, str]] = Counter()
        service.hub.listen(self._count)

    def _count(self, _row: NodeRow, event: Acked | Nacked) -> None:
        self._answers[event.type_url, "ack" if isinstance(event, Acked) else "nack"] += 1

    def collect(self) -> Iterator[Metric]:
        yield _gauge("gw_build_info", "What runs", ["version", "envoy_min"], [((own_version(), OLDEST_ENVOY), 1.0)])
        yield _gauge("gw_db_up", "Whether the database answered last time", [], [((), self._database())])
        yield from self._snapshot()
        yield from self._nodes()
        answers = CounterMetricFamily("gw_xds_responses", "Answers of nodes to pushes", labels=["type_url", "result"])
        for labels, count in self._answers.items():
            answers.add_metric(labels, count)
        yield answers

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

    def _nodes(self) -> Iterator[Metric]:
        rows = self._service.hub.board.rows
        counts = Counter(state_of(row, self._service.hub.snapshot) for row in rows)
        yield _gauge("gw_nodes", "Nodes by state", ["state"], [([state], counts[state]) for state in STATES])
        modes = Counter(row.mode for row in rows if row.connected)
        streams = [([mode], modes[mode]) for mode in ("sotw", "delta")]
        yield _gauge("gw_xds_streams", "Open ADS streams", ["type"], streams)


def _gauge(name: str, help_: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def registry(service: Service) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(ControlPlane(service))
    return made
