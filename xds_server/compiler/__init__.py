"""The compiler: a checked gateway to Envoy resources. Pure: no I/O, no clock, no randomness."""

from xds_server.compiler.compilation import Compiled, compile  # noqa: A004
from xds_server.compiler.settings import CaBundle, Certificate, HmacKey, KeySet, RevocationList, Secret, Settings

__all__ = [
    "CaBundle",
    "Certificate",
    "Compiled",
    "HmacKey",
    "KeySet",
    "RevocationList",
    "Secret",
    "Settings",
    "compile",
]
