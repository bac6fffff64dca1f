"""What Prometheus is told about the streams. No node id is ever a label: that is the board's business."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ACK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
"""Seconds. The last one is Envoy's default wait for endpoints of a warming cluster."""

CONVERGENCE_BUCKETS = (*ACK_BUCKETS, 60.0, 300.0)


class AdsMetrics:
    """Registers `gw_xds_*` with the registry that it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge(
            "gw_xds_streams", "Open xDS streams by variant (sotw or delta).", ["type"], registry=registry
        )
        self.responses = Counter(
            "gw_xds_responses_total", "Responses that clients answered.", ["type_url", "result"], registry=registry
        )
        self.pushes = Counter("gw_xds_sent_total", "Responses written.", ["type_url"], registry=registry)
        self.ack_seconds = Histogram(
            "gw_xds_ack_seconds", "From writing a response to its ACK.", registry=registry, buckets=ACK_BUCKETS
        )
        self.convergence_seconds = Histogram(
            "gw_xds_convergence_seconds",
            "From publishing a snapshot to the last connected node's ACK of it.",
            registry=registry,
            buckets=CONVERGENCE_BUCKETS,
        )
        self.expires = Gauge(  # labelled, so that a server without TLS says nothing rather than 1970
            "gw_xds_certificate_expires_timestamp_seconds",
            "When the certificate in use runs out.",
            ["certificate"],
            registry=registry,
        )
