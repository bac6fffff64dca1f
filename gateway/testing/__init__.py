"""Tests of a gateway, written beside it: requests, and what must become of them.

Pure: what is asked, and whether what was found is what was expected. Who finds it out is `gwctl.proving.trial`.
"""

from gateway.testing.coverage import Coverage, Used
from gateway.testing.judging import Sent, judged
from gateway.testing.model import Case, Expect, Given, Step, Tests
from gateway.testing.reading import Read, read

__all__ = ["Case", "Coverage", "Expect", "Given", "Read", "Sent", "Step", "Tests", "Used", "judged", "read"]
