"""Envoy 1.40's `OAuth2PerRoute`, which the published protobufs do not have yet: one field, the filter's whole config.

Made here as generated code would make it, so that it is printed and compared like any other message.
"""

from typing import Any as Value
from typing import Final

from envoy.extensions.filters.http.oauth2.v3 import oauth_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

PACKAGE: Final = "envoy.extensions.filters.http.oauth2.v3"
NAME: Final = f"{PACKAGE}.OAuth2PerRoute"


def _message_class() -> type[Message]:
    pool = descriptor_pool.Default()
    try:
        known = pool.FindMessageTypeByName(NAME)  # once the protobufs have it
    except KeyError:
        pool.Add(_file())
        known = pool.FindMessageTypeByName(NAME)
    return message_factory.GetMessageClass(known)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tollhouse/oauth2_per_route.proto", package=PACKAGE, syntax="proto3")
    file.dependency.append(oauth_pb2.DESCRIPTOR.name)
    field = file.message_type.add(name="OAuth2PerRoute").field.add(name="config", number=1)
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    field.type_name = f".{PACKAGE}.OAuth2Config"
    return file


OAuth2PerRoute: Value = _message_class()
