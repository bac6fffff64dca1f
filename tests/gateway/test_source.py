"""The reader of texts: values as YAML 1.2 has them, positions, limits, and no exception whatever the text."""

import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import source
from gateway.source import MAX_CHARACTERS, Source
from gateway.yaml_scalars import NumberError, ambiguity, resolve

EXAMPLES = Path(__file__).parents[2] / "examples"

WHOLE_LANGUAGE = """version: 1
owner: payments-team
labels: {env: prod, repo: acme/gateway}
listeners:
  https:
    port: 443
    protocol: HTTPS
    http2: true
    tls: {min_version: "1.2", certificates: [{hosts: ["api.example.com"], secret: api-example-com}]}
    access_log: {format: json, sample: 100%}
upstreams:
  payments:
    type: static
    endpoints: [{address: 10.0.1.11, port: 8080, weight: 2, zone: eu-1b}]
    health_check: {http: {path: /healthz, expected_statuses: ["200-204"]}, interval: 5s}
tiers:
  free: {rate_limits: [{limit: 60/minute, per: client}, {limit: 1000/day, per: client}]}
  internal: {unlimited: true}
defaults:
  timeouts: {request: 15s, idle: 1m30s}
  retry: {attempts: 2, codes: [502, 503], backoff: {base: 25ms, max: 250ms}}
  response_headers: {set: {strict-transport-security: "max-age=31536000"}, remove: [server]}
modules:
  payments:
    tier: free
    listener: https
    authentication: {any_of: [acme]}
    routes:
      refund:
        match: {path: {template: "/v1/payments/{id}/refunds"}, methods: [POST]}
        backends: [{upstream: payments}]
        retry: none
        authorization: {rules: [{name: r, action: allow, claims: {verified: {exact: true}}}]}
"""


def read(text: str) -> Source:
    found, problems = source.read("in.yaml", text)
    assert problems == []
    return found


def codes(text: str) -> list[str]:
    return [problem.code for problem in source.read("in.yaml", text)[1]]


def test_keys_and_items_have_positions_and_scalars_one_of_their_own() -> None:
    found = read("a:\n  b: [x, {c: 1}]\n")
    assert found.values == {"a": {"b": ["x", {"c": 1}]}}
    assert dict(found.positions) == {
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "b", 0): (2, 7),
        ("a", "b", 1): (2, 10),
        ("a", "b", 1, "c"): (2, 11),
    }
    assert dict(found.value_positions) == {("a", "b", 1, "c"): (2, 14)}


def test_columns_count_characters_not_bytes() -> None:
    assert read("é: {ü: 1}\n").positions[("é", "ü")] == (1, 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("1m30s", "1m30s"),
        ("10.0.0.1", "10.0.0.1"),
        ("60/minute", "60/minute"),
        ("-", "-"),
        ("+", "+"),
    ],
)
def test_plain_scalars_by_the_core_schema(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize("text", [".nan", "-.inf", "1e999", "9" * 19, "9" * 200_000, "1." + "0" * 100])
def test_numbers_that_nothing_could_carry_are_refused(text: str) -> None:
    with pytest.raises(NumberError):
        resolve(text)
    assert codes(f"a: {text}") == ["GW009"]


@pytest.mark.parametrize(
    "text", ["on", "No", "1:30", "190:20:30.15", "2026-01-01", "010", "0o10", "1_000", "0b1", "1e3", "="]
)
def test_what_the_two_yamls_read_differently_is_pointed_out(text: str) -> None:
    assert ambiguity(text) is not None
    assert codes(f"a: {text}") == ["GW011"]
    assert codes(f"a: '{text}'") == []


@given(
    st.one_of(st.from_regex(r"[-+0-9.:_eExob~a-fA-F]{1,8}", fullmatch=True), st.sampled_from(["yes", "n", "true", "~"]))
)
def test_whatever_is_not_pointed_out_means_the_same_to_a_yaml_1_1_reader(text: str) -> None:
    try:
        ours = resolve(text)
    except NumberError:
        return
    if ambiguity(text) is not None:
        return
    resolver = yaml.SafeLoader("")
    tag = resolver.resolve(yaml.ScalarNode, text, (True, False))
    theirs = yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, text), deep=True)
    assert theirs == ours
    assert type(theirs) is type(ours)


@pytest.mark.parametrize("text", [WHOLE_LANGUAGE, *(file.read_text() for file in sorted(EXAMPLES.rglob("*.yaml")))])
def test_a_document_means_the_same_under_both_yamls(text: str) -> None:
    assert yaml.safe_load(text) == read(text).values


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "GW001"),
        ("a:\n\tb: 1", "GW001"),
        ("\tb", "GW001"),
        ("a: b: c", "GW001"),
        ("[" * 63 + "]" * 63, "GW012"),
        ("a: " + "[" * 64 + "]" * 64, "GW004"),
        ("a: " + "[" * 1_000_000, "GW004"),
        ("a: " + "{b: " * 1_000_000, "GW004"),
        ("- " * 1_000_000, "GW004"),
        ("a: *b", "GW005"),
        ("a: &a [*a]", "GW005"),
        ("1: a", "GW006"),
        ("true: a", "GW006"),
        ("? [a]\n: b", "GW006"),
        ("? *a\n: b", "GW006"),
        ("a: 1\n--- \nb: 2", "GW007"),
        ("a: \0", "GW008"),
        ('a: "\\0"', "GW008"),
        ("a: \x07", "GW008"),
        ("a: \ud800", "GW008"),
        ("a: \x85b", "GW008"),
        ("a: !!binary aGk=", "GW010"),
        ("a: !x {}", "GW010"),
        ("!!str a: b", "GW010"),
        ("", "GW012"),
        ("a", "GW012"),
        ("a: &x {}\nb: {<<: *x}", "GW013"),
        ("a: 1\na: 2", "GW102"),
    ],
)
def test_refused_texts(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_a_duplicate_keeps_the_first_and_what_the_second_holds_is_left_out() -> None:
    found, problems = source.read("in.yaml", "a: {b: 1}\na: {b: 2, c: 3}\n")
    assert found.values == {"a": {"b": 1}}
    assert [problem.message for problem in problems] == ["duplicate key 'a', first defined at line 1"]
    assert found.positions[("a", "b")] == (1, 5)


def test_aliases_stand_for_their_anchor_up_to_a_limit() -> None:
    assert read("a: &x {b: [1]}\nc: *x\nd: &y e\nf: *y\n").values == {
        "a": {"b": [1]},
        "c": {"b": [1]},
        "d": "e",
        "f": "e",
    }
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert codes("\n".join(levels)) == ["GW005"]


def test_aliases_do_not_add_up_to_more_depth() -> None:
    deep = "a: &a " + "[" * 40 + "]" * 40
    assert codes(f"{deep}\nb: " + "[" * 30 + "*a" + "]" * 30) == ["GW004"]
    nested = [f"k{n}: &k{n} [[[[[[[[[[*k{n - 1}]]]]]]]]]]" for n in range(1, 10)]
    assert codes("\n".join(["k0: &k0 []", *nested])) == ["GW004"]


@pytest.mark.parametrize("text", ["a:", "a: {b: ~}", "a: [null]", "a:\nb: 1", "a: &x\nb: *x"])
def test_a_field_without_a_value_is_no_field_left_out(text: str) -> None:
    assert codes(text) == ["GW111"]


def test_size_is_limited_before_parsing() -> None:
    assert codes("a" * (MAX_CHARACTERS + 1)) == ["GW003"]
    assert codes("- a\n" * 1_000_000) == ["GW003"]


def test_problems_are_limited() -> None:
    assert codes("a: 1\n" * 100_000) == ["GW102"] * 100 + ["GW014"]


def test_bytes_must_be_utf_8() -> None:
    assert source.read_bytes("in.yaml", b"\xef\xbb\xbfa: 1\n")[0].values == {"a": 1}
    _, problems = source.read_bytes("in.yaml", b"a: 1\nb: \xff\n")
    assert [(problem.code, str(problem.place)) for problem in problems] == [("GW002", "in.yaml:2:4")]
    assert source.read_bytes("in.yaml", "a: 1".encode("utf-16"))[1][0].code == "GW002"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "9" * 2_000_000,
        "a: '" + "x" * 4_000_000,
        "a: &" + "x" * 4_000_000,
        "!" * 4_000_000,
        "%" * 4_000_000,
        "? " * 2_000_000,
        "a: [" + "1," * 2_000_000,
        "{" + "a: 1, " * 500_000,
        "".join(f"&a{n} a{n}: *a{n - 1}\n" for n in range(100_000)),
        "".join(f"k{n}: 1\n" for n in range(400_000)),
    ],
)
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    source.read("in.yaml", text)
    assert time.process_time() - start < 8  # about half a second; the bound only tells linear from quadratic


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    found, problems = source.read("in.yaml", text)
    assert isinstance(found.values, dict)
    assert all(problem.place is not None for problem in problems)


@given(st.text(alphabet=list("a1:-?*&!|>'\"%#[]{}, \n\t~<=.\0é"), max_size=60))
@settings(max_examples=300)
def test_any_punctuation_is_read_or_refused(text: str) -> None:
    found, problems = source.read("in.yaml", text)
    assert found.complete or problems


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    source.read_bytes("in.yaml", data)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**16), 10**16), st.text(alphabet=st.characters(codec="ascii"))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=20
)


@given(st.dictionaries(st.text(alphabet="abc", max_size=4), VALUES))
def test_what_is_written_is_read_back(values: dict[str, object]) -> None:
    text = yaml.safe_dump(values, allow_unicode=True)
    found, problems = source.read("in.yaml", text)
    if any(problem.severity == "error" for problem in problems):
        assert {problem.code for problem in problems} <= {"GW006", "GW008", "GW011", "GW013", "GW111"}
    else:
        assert found.values == values


def test_nothing_in_a_document_is_infinite() -> None:
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in read("a: 1.5").values.values())
