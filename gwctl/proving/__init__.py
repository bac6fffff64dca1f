"""A gateway tried out on this machine: a real Envoy, our own decision service, stubs for upstreams.

What is asked are the facts that `gateway.explain` takes; tokens and keys that say just that are made for the occasion.
"""
