"""Load balancing: which endpoint of a cluster gets a request."""

from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster, LoadBalancingPolicy
from envoy.config.core.v3.base_pb2 import RuntimeDouble
from envoy.extensions.load_balancing_policies.common.v3.common_pb2 import LocalityLbConfig, SlowStartConfig
from envoy.extensions.load_balancing_policies.least_request.v3.least_request_pb2 import LeastRequest
from envoy.extensions.load_balancing_policies.random.v3.random_pb2 import Random
from envoy.extensions.load_balancing_policies.round_robin.v3.round_robin_pb2 import RoundRobin
from envoy.type.v3.percent_pb2 import Percent
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt64Value

from gateway import model
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import duration, extension, uint32

POLICIES: Final = {
    "round_robin": Cluster.ROUND_ROBIN,
    "least_request": Cluster.LEAST_REQUEST,
    "random": Cluster.RANDOM,
    "ring_hash": Cluster.RING_HASH,
    "maglev": Cluster.MAGLEV,
}
EXTENSIONS: Final = "envoy.load_balancing_policies."
LEAST_IN_ZONE: Final = 2  # healthy endpoints: one alone would get all that a zone sends


def fields(spec: model.LoadBalancing) -> dict[str, Any]:
    """The fields of a Cluster. With few healthy endpoints the default is to answer 503 at once, not to try them all."""
    if spec.hashes and spec.hash_on is None:
        raise CompileError(f"{spec.policy} needs something to hash", "load_balancing", "policy")
    common = Cluster.CommonLbConfig(healthy_panic_threshold=Percent(value=spec.panic_threshold))
    if spec.slow_start is None and not spec.zone_aware:
        return {"lb_policy": POLICIES[spec.policy], "common_lb_config": common}
    chosen = extension(EXTENSIONS + spec.policy, policy(spec))
    return {
        "load_balancing_policy": LoadBalancingPolicy(
            policies=[LoadBalancingPolicy.Policy(typed_extension_config=chosen)]
        ),
        "common_lb_config": common,
    }


def policy(spec: model.LoadBalancing) -> Message:
    """The policy as an extension, which alone can be told of zones."""
    zones = locality(spec)
    if spec.policy == "round_robin":
        return RoundRobin(slow_start_config=slow_start(spec.slow_start), locality_lb_config=zones)
    if spec.policy == "least_request":
        return LeastRequest(slow_start_config=slow_start(spec.slow_start), locality_lb_config=zones)
    if spec.policy == "random" and spec.slow_start is None:
        return Random(locality_lb_config=zones)
    word = "slow_start" if spec.slow_start is not None else "zone_aware"
    raise CompileError(f"{spec.policy} cannot do this", "load_balancing", word)


def slow_start(spec: model.SlowStart | None) -> SlowStartConfig | None:
    if spec is None:
        return None
    aggression = RuntimeDouble(default_value=spec.aggression, runtime_key="tollhouse.slow_start.aggression")
    return SlowStartConfig(slow_start_window=duration(max(1, spec.window)), aggression=aggression)


def locality(spec: model.LoadBalancing) -> LocalityLbConfig | None:
    """The Envoy's own zone alone, while enough of it is healthy.

    Envoy's other way, in proportion to how many Envoys each zone has, needs to be told of all of them.
    """
    if not spec.zone_aware:
        return None
    zones = LocalityLbConfig.ZoneAwareLbConfig
    own = zones.ForceLocalZone(min_size=uint32(LEAST_IN_ZONE))
    return LocalityLbConfig(
        zone_aware_lb_config=zones(
            routing_enabled=Percent(value=100), min_cluster_size=UInt64Value(value=1), force_local_zone=own
        )
    )
