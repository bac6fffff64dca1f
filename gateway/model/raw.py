"""Raw Envoy settings, for what the language has no words for. Nobody vouches for them but who writes them.

Each is a part of the Envoy message of its name, as JSON (Envoy's field names; `@type` where a config is typed), merged
into what was compiled, last of all: mappings are merged, lists are replaced.
"""

from typing import Any

from pydantic import Field

from gateway.model.base import Model

Overrides = dict[str, Any]


class RawGateway(Model):
    """Settings of the whole Envoy.

    `runtime`: keys and values of its runtime (`envoy.service.runtime.v3.Runtime`), such as feature flags. What the
    bootstrap says stands above them.
    """

    runtime: Overrides = Field(min_length=1)


class RawRoute(Model):
    """`envoy.config.route.v3.Route`."""

    route: Overrides = Field(min_length=1)


class RawCluster(Model):
    """`envoy.config.cluster.v3.Cluster`."""

    cluster: Overrides = Field(min_length=1)


class RawListener(Model):
    """`envoy.config.listener.v3.Listener`, and the HttpConnectionManager in each of its filter chains."""

    listener: Overrides = {}
    http_connection_manager: Overrides = {}
