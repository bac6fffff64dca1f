import os

import pytest

from tests.support import results

# Before grpc is imported: tests start servers beside it, and its fork handlers crash a child between fork and exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def is_worker(config: pytest.Config) -> bool:
    """One of pytest-xdist's processes; the run begins and ends in the one that started them."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not is_worker(config):
        results.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not is_worker(config):
        results.end()
