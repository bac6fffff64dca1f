"""Durations, rates, percentages, names, hosts and headers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway import scalars
from gateway.scalars import Rate, parse_byte_rate, parse_duration, parse_percent, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("250ms", 250), ("15s", 15_000), ("1m30s", 90_000), ("1h", 3_600_000), ("1d1h1m1s1ms", 90_061_001)],
)
def test_durations_are_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "value", ["", "15", "s", "1.5s", "-1s", "1 s", "1S", "1s ", "1µs", 15, 1.5, True, None, [], "367d", "9" * 500 + "s"]
)
def test_not_durations(value: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@given(st.integers(0, 366 * 86_400_000))
def test_every_duration_up_to_a_year_can_be_written(milliseconds: int) -> None:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    assert parse_duration(f"{minutes}m{seconds}s{rest}ms") == milliseconds


def test_a_bare_number_is_told_its_unit() -> None:
    with pytest.raises(ValueError, match="write 15s or 15ms"):
        parse_duration(15)


@pytest.mark.parametrize(
    ("text", "rate", "seconds"),
    [
        ("60/minute", Rate(60, "minute"), 60),
        ("0/second", Rate(0, "second"), 1),
        ("4294967295/year", Rate(4294967295, "year"), 31_536_000),
    ],
)
def test_rates(text: str, rate: Rate, seconds: int) -> None:
    assert parse_rate(text) == rate
    assert (rate.seconds, str(rate)) == (seconds, text)


@pytest.mark.parametrize(
    "value",
    ["", "60", "60/min", "60/minutes", "-1/minute", "1.5/minute", "4294967296/day", "9" * 400 + "/day", 60, None],
)
def test_not_rates(value: Any) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(value)


@pytest.mark.parametrize(("text", "percent"), [("0%", 0.0), ("12.5%", 12.5), ("100%", 100.0), ("0.0001%", 0.0001)])
def test_percentages(text: str, percent: float) -> None:
    assert parse_percent(text) == percent


@pytest.mark.parametrize("value", ["", "5", "101%", "-1%", "5 %", "%", 5, 0.5, None])
def test_not_percentages(value: Any) -> None:
    with pytest.raises(ValueError, match="percentage"):
        parse_percent(value)


def accepts(annotation: Any, value: str) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (scalars.Name, ["a", "a-b_c", "0", "a" * 63], ["", "A", "-a", "a-", "a.b", "a/b", "a" * 64, "a\n", "é"]),
        (
            scalars.Host,
            ["*", "a", "api.example.com", "*.example.com", "xn--caf-dma.fr", "10.0.0.1"],
            ["", "API.example.com", "a:80", "*.", "a..b", ".a", "a.", "-a", "a.*.b", "*a", "a\n", "a" * 254],
        ),
        (scalars.HeaderName, ["x-user-id", "X-User-Id", "a"], ["", "x_user", "x user", ":path", "x:y", "é", "a\n"]),
        (scalars.HeaderValue, ["", "a b", "a\tb", "é"], ["a\nb", "a\rb", "a\0b", "\x7f", "€"]),
        (scalars.Method, ["GET", "M-SEARCH"], ["", "get", "GET ", "G_T", "GET\n"]),
    ],
)
def test_words_of_a_pattern(annotation: Any, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if not accepts(annotation, value)] == []
    assert [value for value in bad if accepts(annotation, value)] == []


def test_header_names_are_held_in_lower_case() -> None:
    assert TypeAdapter[str](scalars.HeaderName).validate_python("X-User-Id") == "x-user-id"


@pytest.mark.parametrize(
    ("text", "size"), [("512B", 512), ("64KiB", 65_536), ("1MiB", 1_048_576), ("3GiB", 3 << 30), ("0B", 0)]
)
def test_sizes_become_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_byte_rate(f"{text}/s") == size


@pytest.mark.parametrize("value", ["64", 64, "64KB", "64kib", "1.5MiB", "-1B", "4GiB", "64KiB/s", "99999999999B", True])
def test_bad_sizes(value: object) -> None:
    with pytest.raises(ValueError, match=r"bytes can be configured|not a size"):
        parse_size(value)


@pytest.mark.parametrize("value", ["64KiB", "64KiB/m", "64KiB/", 1, "4GiB/s"])
def test_bad_byte_rates(value: object) -> None:
    with pytest.raises(ValueError, match=r"bytes can be configured|not a byte rate"):
        parse_byte_rate(value)
