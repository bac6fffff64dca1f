"""Every way to be let in or refused, decided without a server."""

from ipaddress import ip_network

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

from policy.authz import keys
from policy.authz.check import Allow, Deny, NeedsKey, Reason, Undecided, conclude, examine, scopes
from policy.authz.facts import facts
from policy.authz.identity import Identity, KeyRecord, Previous
from policy.authz.response import response

from .facts_of import ROUTE, check_request, view

PEPPERS = {1: b"p" * 32, 2: b"q" * 32}
KEY = keys.mint(PEPPERS[1])
NOW = 1_800_000_000.0
OFFICE = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
BOTH = 'Bearer realm="tollhouse", ApiKey realm="tollhouse"'


def record(**changes) -> KeyRecord:
    stored = {
        "id": KEY.id, "consumer": "c_1", "tier": "gold", "scopes": ("a:read",),
        "digest": KEY.digest, "pepper_version": 1,
    }  # fmt: skip
    return KeyRecord(**stored | changes)


def decide(request, stored: KeyRecord | None = None, a_view=None):
    a_view = a_view or view()
    known = facts(request, a_view)
    decision = examine(known, a_view)
    if isinstance(decision, NeedsKey):
        return conclude(known, a_view, decision, stored, peppers=PEPPERS, now=NOW)
    return decision


# ------------------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize(
    ("request_", "stored", "reason", "known"),
    [
        (check_request(), None, Reason.NO_CREDENTIALS, False),
        (check_request({"x-api-key": "nonsense"}), None, Reason.MALFORMED_KEY, False),
        (check_request({"x-api-key": ""}), None, Reason.MALFORMED_KEY, False),
        (check_request({"x-api-key": KEY.text[:-1] + "!"}), record(), Reason.MALFORMED_KEY, False),
        (check_request({"x-api-key": KEY.text}), None, Reason.UNKNOWN_KEY, False),
        (check_request({"x-api-key": KEY.text}), record(digest=b"x" * 32), Reason.WRONG_SECRET, False),
        (check_request({"x-api-key": KEY.text}), record(pepper_version=2), Reason.WRONG_SECRET, False),
        (check_request({"x-api-key": KEY.text}), record(revoked=True), Reason.REVOKED_KEY, True),
        (check_request({"x-api-key": KEY.text}), record(disabled=True), Reason.DISABLED_KEY, True),
        (check_request({"x-api-key": KEY.text}), record(networks=OFFICE), Reason.WRONG_ADDRESS, True),
        (check_request({"x-api-key": KEY.text}), record(expires_at=NOW), Reason.EXPIRED_KEY, True),
        (check_request({"x-api-key": f"{KEY.text},{KEY.text}"}), record(), Reason.SEVERAL_KEYS, False),
        (check_request({"x-api-key": KEY.text, "x-key": KEY.text}), record(), Reason.SEVERAL_KEYS, False),
        (check_request(raw=[("X-Api-Key", KEY.text.encode())] * 2), record(), Reason.SEVERAL_KEYS, False),
        (check_request(raw=[("x-api-key", b"\xff\xfe")]), record(), Reason.MALFORMED_KEY, False),
        (check_request(claims={"iss": "x"}), None, Reason.NO_SUBJECT, False),
        (check_request(claims={"sub": ""}), None, Reason.NO_SUBJECT, False),
        (check_request(claims={"sub": 7}), None, Reason.NO_SUBJECT, False),
    ],
)
def test_401(request_, stored, reason, known):
    denied = decide(request_, stored)
    assert isinstance(denied, Deny)
    challenge = BOTH if reason is not Reason.NO_SUBJECT else BOTH.replace(", ", ', error="invalid_token", ')
    assert (denied.status, denied.reason, denied.challenge) == (401, reason, challenge)
    assert (denied.identity is not None) == known
    assert KEY.text not in denied.detail


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"jwt": "acme"},
        {"route": ""},
        {"route": "orders/list"},
        {"route": "orders/list", "jwt": "", "api_keys": " , "},
    ],
)
def test_403_for_a_request_that_our_compiler_did_not_configure(settings):
    denied = decide(check_request({"x-api-key": KEY.text}, settings=settings, claims={"sub": "s"}), record())
    assert isinstance(denied, Deny)
    assert (denied.status, denied.reason, denied.challenge) == (403, Reason.NOT_CONFIGURED, "")


def test_an_outsider_cannot_tell_a_revoked_key_from_one_that_never_was():
    sent = check_request({"x-api-key": KEY.text})
    stored = (
        None,
        record(revoked=True),
        record(disabled=True),
        record(digest=b"x" * 32),
        record(networks=OFFICE, expires_at=NOW - 1),
    )
    told = [decide(sent, one) for one in stored]
    told.append(decide(check_request({"x-api-key": "gw_live_"}), None))
    assert len({(d.status, d.detail, d.challenge, d.reason.code) for d in told}) == 1
    assert told[0].reason.code == "invalid_key"
    assert len({d.reason for d in told}) == len(told), "the access log knows which"


def test_only_who_holds_the_key_learns_that_it_has_expired():
    other = keys.mint(PEPPERS[1])
    stored = record(expires_at=NOW - 1)
    assert "expired" in decide(check_request({"x-api-key": KEY.text}), stored).detail
    assert "expired" not in decide(check_request({"x-api-key": other.text}), stored).detail


def test_the_challenge_names_what_the_route_accepts():
    assert decide(check_request(settings=ROUTE | {"api_keys": ""})).challenge == 'Bearer realm="tollhouse"'
    assert decide(check_request(settings=ROUTE | {"jwt": ""})).challenge == 'ApiKey realm="tollhouse"'


# ----------------------------------------------------------------------------------------------------- undecided
@pytest.mark.parametrize("settings", [{"jwt": "acme,newer"}, {"api_keys": "partner,newer"}, {"jwt": "newer"}])
def test_what_this_view_does_not_know_is_not_decided(settings):
    sent = check_request({"x-api-key": KEY.text}, settings=ROUTE | settings, claims={"sub": "s"})
    assert isinstance(decide(sent, record()), Undecided)


def test_a_pepper_that_is_not_here_is_not_a_wrong_key():
    assert isinstance(decide(check_request({"x-api-key": KEY.text}), record(pepper_version=9)), Undecided)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.0.2.9", True),
        ("::ffff:192.0.2.9", True),
        ("2001:db8::1", True),
        ("192.0.3.9", False),
        ("2001:db9::1", False),
        ("", False),
        ("192.0.2.9, 10.0.0.1", False),
    ],
)
def test_a_key_works_from_its_networks_only(address, inside):
    known = facts(check_request({"x-api-key": KEY.text}), view(), address)
    needed = examine(known, view())
    decided = conclude(known, view(), needed, record(networks=OFFICE), peppers=PEPPERS, now=NOW)
    assert isinstance(decided, Allow) == inside


def test_both_secrets_of_a_rotated_key_work_until_the_overlap_ends():
    new = keys.remint(PEPPERS[2], KEY.prefix)
    assert (new.id, new.prefix) == (KEY.id, KEY.prefix)
    old = Previous(KEY.digest, 1, NOW + 1)
    rotated = record(digest=new.digest, pepper_version=2, previous=old)
    for text in (new.text, KEY.text):
        assert isinstance(decide(check_request({"x-api-key": text}), rotated), Allow)
    over = record(digest=new.digest, pepper_version=2, previous=old._replace(until=NOW))
    assert isinstance(decide(check_request({"x-api-key": new.text}), over), Allow)
    assert decide(check_request({"x-api-key": KEY.text}), over).reason is Reason.WRONG_SECRET
    assert KEY.digest not in repr(over).encode()


# ------------------------------------------------------------------------------------------------------- let in
def test_a_key():
    allowed = decide(check_request({"x-api-key": KEY.text}), record(expires_at=NOW + 1))
    assert allowed == Allow(
        Identity("c_1", "gold", ("a:read",), "key", KEY.id), (("x-client-id", "c_1"),), ("x-api-key",)
    )


@pytest.mark.parametrize("header", ["x-key", "x-old-key"])
def test_a_key_of_another_source_is_not_stripped_nor_forwarded_unless_asked(header):
    allowed = decide(check_request({header: KEY.text}), record())
    assert isinstance(allowed, Allow)
    assert (allowed.set_headers, allowed.remove_headers) == ((), ("x-api-key",))


def test_raw_headers():
    assert isinstance(decide(check_request(raw=[("x-api-key", KEY.text.encode())]), record()), Allow)


def test_a_key_of_another_route_s_source_does_not_count():
    sent = check_request({"x-key": KEY.text}, settings=ROUTE | {"api_keys": "partner"})
    assert decide(sent, record()).reason is Reason.NO_CREDENTIALS


@pytest.mark.parametrize(
    ("claims", "tier", "granted"),
    [
        ({"sub": "ann", "plan": "gold", "scope": "a:read  a:write"}, "gold", ("a:read", "a:write")),
        ({"sub": "ann", "plan": "platinum", "scope": ["x", 3, "y z"]}, "free", ("x", "y z")),
        ({"sub": "ann", "plan": ["gold"]}, "free", ()),
        ({"sub": "ann", "scope": {"a": 1}}, "free", ()),
        ({"sub": "ann", "plan": None, "scope": None}, "free", ()),
    ],
)
def test_a_token(claims, tier, granted):
    allowed = decide(check_request({"x-api-key": "ignored"}, claims=claims))
    assert allowed == Allow(Identity("ann", tier, granted, "jwt"), (), ("x-api-key",))


def test_subjects_are_qualified_when_there_are_several_providers():
    acme = view().providers["acme"]
    two = view(jwt_providers=dict.fromkeys(("acme", "other"), DOCUMENT_PROVIDER))
    assert acme.tier_claim == "plan"
    allowed = decide(check_request(claims={"sub": "ann"}), a_view=two)
    assert allowed.identity.client == "acme|ann"


@pytest.mark.parametrize(
    ("claims", "tier"),
    [
        ({"app": {"plan": "gold"}}, "gold"),
        ({"app.plan": "gold"}, "free"),  # one rule for names: Envoy's RBAC, too, reads this as nested
        ({"app": "gold"}, "free"),
        ({"app": {"plan": {"name": "gold"}}}, "free"),
    ],
)
def test_a_dotted_claim_is_nested(claims, tier):
    nested = view(jwt_providers={"acme": DOCUMENT_PROVIDER | {"tier_claim": "app.plan"}})
    assert decide(check_request(claims={"sub": "ann"} | claims), a_view=nested).identity.tier == tier


DOCUMENT_PROVIDER = {"issuer": "https://i", "audiences": ["api"], "jwks": {"hs256": {"secret": "s"}}}


def test_a_token_of_a_provider_that_the_route_does_not_accept_does_not_count():
    two = view(jwt_providers=dict.fromkeys(("acme", "other"), DOCUMENT_PROVIDER))
    sent = check_request(claims={"sub": "ann"}, provider="other")
    assert decide(sent, a_view=two).reason is Reason.NO_CREDENTIALS


def test_a_tier_that_was_removed_is_the_lowest():
    assert decide(check_request({"x-api-key": KEY.text}), record(tier="gone")).identity.tier == "free"


@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.text(), st.integers())), st.booleans()))
def test_scopes_are_strings_whatever_the_claim_is(claim):
    assert all(isinstance(scope, str) and scope == scope for scope in scopes(claim))


# ---------------------------------------------------------------------------------------------------- responses
def test_a_bare_response_would_let_everybody_in_so_a_denial_always_has_a_code():
    assert external_auth_pb2.CheckResponse().status.code == code_pb2.OK  # what Envoy takes for permission
    for reason in Reason:
        for status in (401, 403):
            made = response(Deny(status, reason, "no"))
            assert made.HasField("status")
            assert made.status.code != code_pb2.OK
            assert made.denied_response.status.code == status


def test_an_allow_says_so_and_describes_the_caller():
    made = response(Allow(Identity("c_1", "gold", ("a", "b"), "key", "k1"), (("x-client-id", "c_1"),), ("x-api-key",)))
    assert made.HasField("status")
    assert made.status.code == code_pb2.OK
    assert not made.HasField("denied_response")
    assert list(made.ok_response.headers_to_remove) == ["x-api-key"]
    assert [(h.header.key, h.header.value) for h in made.ok_response.headers] == [("x-client-id", "c_1")]
    assert MessageToDict(made.dynamic_metadata) == {
        "client": "c_1", "tier": "gold", "scopes": ["a", "b"], "credential": "key", "key_id": "k1",
    }  # fmt: skip


def test_a_denial_describes_the_caller_where_known():
    known = response(Deny(401, Reason.EXPIRED_KEY, "d", "ApiKey", Identity("c_1", "gold", (), "key", "k1")))
    described = MessageToDict(known.dynamic_metadata)
    assert described == {
        "client": "c_1", "tier": "gold", "scopes": [], "credential": "key", "key_id": "k1", "denied": "expired_key",
        "code": "expired_key",
    }  # fmt: skip
    assert [(h.header.key, h.header.value) for h in known.denied_response.headers] == [("www-authenticate", "ApiKey")]
    assert known.denied_response.body == "d"
    assert MessageToDict(response(Deny(401, Reason.NO_CREDENTIALS, "d")).dynamic_metadata) == {
        "denied": "no_credentials",
        "code": "no_credentials",
    }
