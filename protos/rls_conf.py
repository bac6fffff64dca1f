"""`ratelimit.config.ratelimit.v3.RateLimitConfig`, what envoyproxy/ratelimit is configured with over xDS.

Source: envoyproxy/ratelimit, `api/ratelimit/config/ratelimit/v3/rls_conf.proto`; `xds-protos` does not have it. It is
declared in a pool of its own, so that the name stays free for whoever else brings it.
"""

from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "ratelimit.config.ratelimit.v3"
_SCALARS: Final = {"string": Field.TYPE_STRING, "uint32": Field.TYPE_UINT32, "bool": Field.TYPE_BOOL}
_UNITS: Final = ("UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY")
_MESSAGES: Final = {
    "RateLimitConfig": ("string name", "string domain", "repeated RateLimitDescriptor descriptors"),
    "RateLimitDescriptor": (
        "string key",
        "string value",
        "RateLimitPolicy rate_limit",
        "repeated RateLimitDescriptor descriptors",
        "bool shadow_mode",
    ),
    "RateLimitPolicy": (
        "RateLimitUnit unit",
        "uint32 requests_per_unit",
        "bool unlimited",
        "string name",
        "repeated RateLimitReplace replaces",
    ),
    "RateLimitReplace": ("string name",),
}
"""Fields in the order of their numbers, from 1."""


def _field(number: int, declaration: str) -> Field:
    *label, kind, name = declaration.split()
    field = Field(name=name, number=number, label=Field.LABEL_REPEATED if label else Field.LABEL_OPTIONAL)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = Field.TYPE_ENUM if kind == "RateLimitUnit" else Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    return field


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="ratelimit/config/ratelimit/v3/rls_conf.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        file.message_type.add(name=name).field.extend(_field(n, text) for n, text in enumerate(fields, 1))
    units = file.enum_type.add(name="RateLimitUnit")
    for number, unit in enumerate(_UNITS):
        units.value.add(name=unit, number=number)
    return file


_POOL: Final = DescriptorPool()
_POOL.Add(_file())

RateLimitConfig: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.RateLimitConfig"))
UNITS: Final = {"second": 1, "minute": 2, "hour": 3, "day": 4}
"""The numbers of `RateLimitUnit`."""
