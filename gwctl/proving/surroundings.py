"""The same gateway in other surroundings: on loopback, with stubs for its upstreams and keys that we hold.

What decides about a request stays as it is written: routes, rules, limits, rewrites, headers.
"""

from collections.abc import Mapping
from typing import Final

from gateway.model import (
    Endpoint,
    Gateway,
    Jwks,
    JwtProvider,
    Listener,
    ListenerCertificate,
    LoadBalancing,
    SecretRef,
    StaticUpstream,
    Upstream,
)

CERTIFICATE: Final = "proving-certificate"


def surrounded(
    gateway: Gateway, ports: Mapping[str, int], stubs: Mapping[str, int], signed_by_others: frozenset[str] = frozenset()
) -> Gateway:
    """`ports`: where the listeners are to be. `stubs`: the port that stands for each upstream.

    `signed_by_others`: providers that keep their keys. Where the limits are not told in time requests are denied,
    whatever is written: on a busy machine a request that was let pass could not be told from one within its limits.
    """
    providers = {
        name: provider if name in signed_by_others else with_our_key(name, provider)
        for name, provider in gateway.jwt_providers.items()
    }
    return gateway.model_copy(
        update={
            "listeners": {name: on_loopback(one, ports[name]) for name, one in gateway.listeners.items()},
            "upstreams": {name: stubbed(one, stubs[name]) for name, one in gateway.upstreams.items()},
            "jwt_providers": providers,
            "rate_limit_defaults": gateway.rate_limit_defaults.model_copy(update={"on_error": "deny"}),
        }
    )


def key_name(provider: str) -> str:
    return f"proving-{provider}"


def with_our_key(name: str, provider: JwtProvider) -> JwtProvider:
    return provider.model_copy(update={"jwks": Jwks(hs256=SecretRef(secret=key_name(name)))})


def on_loopback(listener: Listener, port: int) -> Listener:
    """One hop is trusted at least: the one that says which address the caller is to have."""
    update: dict[str, object] = {"port": port, "address": None, "nodes": None, "http3": False, "access_log": "none"}
    update["trusted_hops"] = max(1, listener.trusted_hops)
    if listener.tls is not None:
        certificates = tuple(
            ListenerCertificate(hosts=one.hosts, secret=CERTIFICATE) for one in listener.tls.certificates
        )
        update["tls"] = listener.tls.model_copy(update={"certificates": certificates, "client_validation": None})
    return listener.model_copy(update=update)


def stubbed(upstream: Upstream, port: int) -> StaticUpstream:
    balancing = LoadBalancing(policy=upstream.load_balancing.policy, hash_on=upstream.load_balancing.hash_on)
    return StaticUpstream(
        type="static", endpoints=(Endpoint(address="127.0.0.1", port=port),), load_balancing=balancing
    )
