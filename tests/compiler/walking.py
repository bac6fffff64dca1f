"""Every message inside a message, however deep: what is packed in an Any is opened."""

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message

Found = tuple[str, Message]
"""Where it is, by field names, and what is there."""


def walk(message: Message, place: str = "") -> Iterator[Found]:
    """The message itself, then all in it."""
    if isinstance(message, Packed):
        if not message.type_url:
            return
        message = opened(message)
    yield place, message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for key, inner in entries(value):
                yield from walk(inner, f"{place}.{field.name}{key}")


def entries(value: Any) -> Iterator[tuple[str, Message]]:
    if isinstance(value, Message):
        yield "", value
    elif hasattr(value, "items"):
        yield from ((f"[{key}]", inner) for key, inner in sorted(value.items()) if isinstance(inner, Message))
    else:
        yield from ((f"[{index}]", inner) for index, inner in enumerate(value))


def opened(packed: Packed) -> Message:
    """Raises KeyError for a type that this process does not know: then nobody has looked inside."""
    kind = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    message: Message = message_factory.GetMessageClass(kind)()
    message.ParseFromString(packed.value)
    return message
