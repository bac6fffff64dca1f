"""What a change would do, before it is done: nothing here knows a store, a server or an Envoy."""

from gateway.plan.made import Findings, Plan, Side, made
from gateway.plan.record import as_json

__all__ = ["Findings", "Plan", "Side", "as_json", "made"]
