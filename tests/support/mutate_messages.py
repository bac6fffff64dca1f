"""Protobuf messages gone wrong: fields that were changed and bytes that were, the same for the same seed."""

import random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.support.mutate import edit_bytes

WORDS: Final = (
    "",
    "*",
    "a",
    "b",
    "nobody",
    "\0",
    "é",
    "\u202e",
    "x" * 300,
    "../..",
    "type.googleapis.com/",
    "%s",
    "a\nb",
)
NUMBERS: Final = (0, 1, 2, -1, 255, 2**31 - 1, 2**32 - 1, -(2**31), 2**63 - 1, -(2**63))
MOST_EDITS: Final = 3
MANY: Final = 2_000
"""How long a list is made at most."""


def mutated(chance: random.Random, message: Message) -> bytes:
    """A few fields of the message changed in place, and now and then its bytes."""
    for _ in range(chance.randint(0, MOST_EDITS)):
        place = chance.choice(places(message))
        edit(chance, place, chance.choice(place.DESCRIPTOR.fields))
    data = message.SerializeToString()
    if chance.random() < 0.2:
        for _ in range(chance.randint(1, MOST_EDITS)):
            data = edit_bytes(chance, data)
    return data


def places(message: Message) -> list[Message]:
    """The message and all that are set in it."""
    found, waiting = [], [message]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for field, value in one.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE and not is_map(field):
                waiting.extend(value if field.is_repeated else [value])
    return found


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def edit(chance: random.Random, place: Message, field: FieldDescriptor) -> None:
    if chance.random() < 0.3:
        place.ClearField(field.name)
    elif is_map(field):
        edit_map(chance, getattr(place, field.name))
    elif field.is_repeated:
        edit_list(chance, getattr(place, field.name), field)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(place, field.name).SetInParent()
    else:
        setattr(place, field.name, scalar(chance, field))


def edit_map(chance: random.Random, entries: Any) -> None:
    try:
        entries[chance.choice(WORDS)] = chance.choice(WORDS)
    except (TypeError, ValueError):  # it holds messages
        entries.clear()


def edit_list(chance: random.Random, values: Any, field: FieldDescriptor) -> None:
    length = MANY if chance.random() < 0.02 else chance.randint(1, 4)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        for _ in range(min(length, 50)):
            values.add()
    elif length == MANY and field.type == FieldDescriptor.TYPE_STRING:
        values.extend(str(index) for index in range(length))
    else:
        values.extend(scalar(chance, field) for _ in range(length))


def scalar(chance: random.Random, field: FieldDescriptor) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            word = chance.choice(WORDS)
            return word.encode() if field.type == FieldDescriptor.TYPE_BYTES else word
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return chance.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice((0.0, -1.5, float("inf"), float("nan")))
    bits = 32 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
    unsigned = field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return min(max(chance.choice(NUMBERS), low), high)
