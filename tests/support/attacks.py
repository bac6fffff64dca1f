"""What people send who are not let in: forged, stolen, mangled and misplaced credentials, made from good ones.

Each has a name. None is random but for the keys under it, so a failure is one that can be had again.
"""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from policy.authz import keys
from tests.support.tokens import Signer, broken_signature, key_set, signing_keys

ISSUER: Final = "https://id.example.com/"
AUDIENCE: Final = "orders"
P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519: Final = 2**252 + 27742317777372353535851937790883648493
Header = tuple[str, str | bytes]


@dataclass(frozen=True)
class Attack:
    """`malformed`: HTTP itself forbids it, so Envoy may refuse it (400, 431) before anybody looks for credentials."""

    name: str
    headers: tuple[Header, ...]
    query: str = ""
    malformed: bool = False


def b64(content: bytes | Mapping[str, Any]) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def bearer(name: str, token: str | bytes, malformed: bool = False) -> Attack:
    value = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
    return Attack(f"token: {name}", (("authorization", value),), malformed=malformed)


class Issuer:
    """One private key for each algorithm, the key set that verifies them, and somebody else's keys."""

    def __init__(self) -> None:
        self.keys, self.strangers = signing_keys(), signing_keys()
        self.key_set = key_set(self.keys)

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300} | more
        return {name: value for name, value in found.items() if value is not ...}

    def token(self, algorithm: str = "RS256", headers: Mapping[str, Any] | None = None, **more: Any) -> str:
        return self.sign(b64(self.claims(**more)), algorithm, {"kid": algorithm} | dict(headers or {}))

    def sign(
        self, payload: str, algorithm: str, headers: Mapping[str, Any], keys: Mapping[str, Signer] | None = None
    ) -> str:
        """Signs what no library would: any header, any payload. `payload`: base64url."""
        head = b64({"alg": algorithm, "typ": "JWT"} | dict(headers))
        worker = jwt.algorithms.get_default_algorithms()[algorithm]
        signature = worker.sign(f"{head}.{payload}".encode(), (keys or self.keys)[algorithm])
        return f"{head}.{payload}.{b64(signature)}"


# ------------------------------------------------------------------------------------------------------------ tokens
def token_attacks(issuer: Issuer) -> Iterator[Attack]:
    for part in (algorithms, confusions, signatures, key_names, own_keys, times, issuers, audiences, subjects, shapes):
        yield from part(issuer)
    yield from carriers(issuer)


def algorithms(issuer: Issuer) -> Iterator[Attack]:
    payload = b64(issuer.claims())
    for alg in ("none", "None", "NONE", "nOnE", "", " none", None, 0, ["RS256"], {"RS256": 1}, "RS256\x00", "rs256"):
        yield bearer(f"alg {alg!r} without a signature", f"{b64({'alg': alg, 'kid': 'RS256'})}.{payload}.")
    yield bearer("no alg", f"{b64({'kid': 'RS256'})}.{payload}.")
    yield bearer("alg none with a good signature", _headed(issuer.token(), {"alg": "none", "kid": "RS256"}))
    for alg in ("RS384", "RS512", "PS256", "ES256", "EdDSA", "HS256"):
        yield bearer(f"signed by RS256, said to be {alg}", _headed(issuer.token(), {"alg": alg, "kid": "RS256"}))


def confusions(issuer: Issuer) -> Iterator[Attack]:
    """HS256 with what everybody knows for a secret."""
    public = issuer.keys["RS256"].public_key()
    spki, pem = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding.PEM
    modulus = json.loads(issuer.key_set)["keys"][0]["n"]
    known = {
        "the PEM": public.public_bytes(pem, spki),
        "the PEM without its last line end": public.public_bytes(pem, spki).strip(),
        "the DER": public.public_bytes(serialization.Encoding.DER, spki),
        "the key set": issuer.key_set.encode(),
        "the modulus": modulus.encode(),
        "nothing": b"",
        "a NUL": b"\x00",
    }
    for name, secret in known.items():
        for algorithm in ("HS256", "HS384", "HS512"):
            for kid in ("RS256",) if algorithm != "HS256" else ("RS256", None):
                head = b64({"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {}))
                signed = f"{head}.{b64(issuer.claims())}"
                worker = jwt.algorithms.get_default_algorithms()[algorithm]
                said = f"{algorithm} by {name}{'' if kid else ', no kid'}"
                yield bearer(said, f"{signed}.{b64(worker.sign(signed.encode(), secret))}")


def signatures(issuer: Issuer) -> Iterator[Attack]:
    lengths = {"RS256": 256, "ES256": 64, "EdDSA": 64}
    for algorithm, length in lengths.items():
        good = issuer.token(algorithm)
        for name, signature in {
            "nothing": b"",
            "zeros": bytes(length),
            "ones": b"\xff" * length,
            "one byte": b"\x01",
            "a shorter one": signature_of(good)[:-1],
            "another token's": signature_of(issuer.token(algorithm, sub="bob")),
        }.items():
            yield bearer(f"{algorithm} with {name} for a signature", signed_by(good, signature))
        yield bearer(f"{algorithm} with a bit turned over", broken_signature(good))
        yield bearer(f"{algorithm} with other claims", _claiming(good, issuer.claims(sub="root")))
        if algorithm != "ES256":  # of which Envoy reads the first 64 bytes
            yield bearer(f"{algorithm} with a longer signature", signed_by(good, signature_of(good) + b"\x00"))
    good = issuer.token("ES256")
    r, s = signature_of(good)[:32], signature_of(good)[32:]
    for name, signature in {
        "r 0 and s 1": bytes(63) + b"\x01",
        "r and s the order": P256.to_bytes(32, "big") * 2,
        "r and s changed over": s + r,
        "DER": _der(good),
    }.items():
        yield bearer(f"ES256 with {name}", signed_by(good, signature))
    good = issuer.token("EdDSA")
    r, s = signature_of(good)[:32], signature_of(good)[32:]
    larger = (int.from_bytes(s, "little") + ED25519).to_bytes(32, "little")
    yield bearer("EdDSA with s and the order added", signed_by(good, r + larger))
    yield bearer("EdDSA of a point of small order", signed_by(good, b"\x01" + bytes(63)))


def key_names(issuer: Issuer) -> Iterator[Attack]:
    """A stranger's signature, and a `kid` that is to find a key somewhere else."""
    for kid in (
        "../../../../dev/null", "' UNION SELECT 'x' --", "RS256\x00", "", "*", "https://evil.example/key",
        "RS256,ES256", ["RS256"], 7, None, {"kid": "RS256"}, "k" * 5000, "|/bin/id", "file:///dev/null",
    ):  # fmt: skip
        made = issuer.sign(b64(issuer.claims()), "RS256", {"kid": kid}, issuer.strangers)
        yield bearer(f"a stranger's key as kid {str(kid)[:24]!r}", made)
    for algorithm in issuer.keys:
        made = issuer.sign(b64(issuer.claims()), algorithm, {"kid": algorithm}, issuer.strangers)
        yield bearer(f"a stranger's {algorithm} key by the good one's name", made)
    yield bearer("the name of another algorithm's key", issuer.token("ES256", {"kid": "RS256"}))


def own_keys(issuer: Issuer) -> Iterator[Attack]:
    """The token brings the key that verifies it."""
    public = json.loads(key_set(issuer.strangers))["keys"][0]
    pem = (
        issuer.strangers["RS256"]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for name, value in {
        "jwk": public,
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/cert.pem",
        "x5c": [base64.b64encode(pem).decode()],
        "jwks": {"keys": [public]},
        "key": public["n"],
    }.items():
        for kid in ("RS256", "mine"):
            made = issuer.sign(b64(issuer.claims()), "RS256", {name: value, "kid": kid}, issuer.strangers)
            yield bearer(f"its own key in {name}, kid {kid}", made)


def times(issuer: Issuer) -> Iterator[Attack]:
    now = int(time.time())
    ends: dict[str, dict[str, Any]] = {
        "ended two hours ago": {"exp": now - 7200},
        "ended in 1970": {"exp": 0},
        "a negative end": {"exp": -1},
        "no end": {"exp": ...},
        "an end that is null": {"exp": None},
        "an end in words": {"exp": "tomorrow"},
        "an end as text": {"exp": str(now + 300)},
        "an end in a list": {"exp": [now + 300]},
        "an end in an object": {"exp": {"$gt": 0}},
        "an end that is true": {"exp": True},
        "an end in the year 5138": {"exp": 10**11},
        "not before tomorrow": {"nbf": now + 86_400},
        "not before, as text": {"nbf": "now"},
    }
    for name, claims in ends.items():
        yield bearer(name, issuer.token(**claims))


def issuers(issuer: Issuer) -> Iterator[Attack]:
    for iss in (
        ..., None, "", "https://evil.example/", ISSUER.rstrip("/"), ISSUER + "x", ISSUER.upper(), [ISSUER],
        {"a": ISSUER}, f" {ISSUER}", f"{ISSUER}\x00", f"{ISSUER}#", ISSUER.replace("e", "\u0435", 1),
        ISSUER.replace("https", "http"),
    ):  # fmt: skip
        yield bearer(f"issuer {iss!r}", issuer.token(iss=iss))
    yield bearer("two issuers", issuer.sign(_twice(issuer, "iss", "https://evil.example/"), "RS256", {"kid": "RS256"}))


def audiences(issuer: Issuer) -> Iterator[Attack]:
    for aud in (
        ..., None, "", "billing", "order", "orders2", "ORDERS", "orders\x00", "*", [], ["billing"], [["orders"]], 7,
        {"orders": 1}, "orders,billing", "\u043erders",
    ):  # fmt: skip
        yield bearer(f"audience {aud!r}", issuer.token(aud=aud))
    yield bearer("two audiences", issuer.sign(_twice(issuer, "aud", "billing"), "RS256", {"kid": "RS256"}))
    yield bearer("two ends", issuer.sign(_twice(issuer, "exp", 1), "RS256", {"kid": "RS256"}))


def subjects(issuer: Issuer) -> Iterator[Attack]:
    for sub in (..., None, "", 7, ["alice"], {"id": "alice"}, True):
        yield bearer(f"subject {sub!r}", issuer.token(sub=sub))
    yield bearer("two subjects", issuer.sign(_twice(issuer, "sub", "root"), "RS256", {"kid": "RS256"}))


def shapes(issuer: Issuer) -> Iterator[Attack]:
    good = issuer.token()
    head, payload, signature = good.split(".")
    for name, text in {
        "nothing": "",
        "dots": "..",
        "one part": head,
        "two parts": f"{head}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts, as if encrypted": f"{head}.{payload}.{payload}.{payload}.{signature}",
        "no header": f".{payload}.{signature}",
        "no claims": f"{head}..{signature}",
        "letters": "a.b.c",
        "padded": f"{head}==.{payload}==.{signature}==",
        "percent dots": good.replace(".", "%2E"),
        "wide dots": good.replace(".", "\uff0e"),
        "a space within": f"{head}. {payload}.{signature}",
        "a tab within": f"{head}.\t{payload}.{signature}",
        "quoted": f'"{good}"',
        "in brackets": f"<{good}>",
        "in base64 once more": b64(good.encode()),
        "backwards": good[::-1],
        "with a tail": f"{good}x",
        "after a comma": f"x,{good}",
        "before a comma": f"{good},x",
        "in capitals": good.upper(),
        "as JSON serialization": json.dumps({"protected": head, "payload": payload, "signature": signature}),
        "20,000 bytes": f"{head}.{payload}.{'A' * 20_000}",
        "20,000 bytes of claims": issuer.token(more="A" * 20_000, iss="https://evil.example/"),
    }.items():
        yield bearer(name, text)
    for name, content in {
        "a list": b"[]", "a number": b"7", "no JSON": b"{", "a NUL": b"\x00", "no UTF-8": b'{"iss": "\xff"}',
        "null": b"null",
    }.items():  # fmt: skip
        yield bearer(f"claims that are {name}", issuer.sign(b64(content), "RS256", {"kid": "RS256"}))
        yield bearer(f"a header that is {name}", f"{b64(content)}.{payload}.{signature}")
    yield bearer("a NUL at the end", f"{good}\x00".encode(), malformed=True)
    yield bearer("100,000 bytes", "A" * 100_000, malformed=True)


def carriers(issuer: Issuer) -> Iterator[Attack]:
    """Good tokens where none is looked for, or not alone."""
    good, bad = issuer.token(), issuer.token(iss="https://evil.example/")

    def sent(name: str, *headers: Header, query: str = "") -> Attack:
        return Attack(f"token: {name}", headers, query)

    for scheme in ("", "Basic ", "Token ", "JWT ", "Bearer:", "Bearer=", "Digest ", "Negotiate ", "Bearer\u00a0"):
        yield sent(f"after {scheme!r}", ("authorization", f"{scheme}{good}".encode()))
    for header in ("x-authorization", "proxy-authorization", "x-forwarded-authorization", "x-access-token", "x-jwt"):
        yield sent(f"in {header}", (header, f"Bearer {good}"))
    for name in ("access_token", "token", "jwt", "authorization"):
        yield sent(f"in the query as {name}", query=f"?{name}={good}")
        yield sent(f"in a cookie {name}", ("cookie", f"{name}={good}"))
    yield sent("a good one and a bad one", ("authorization", f"Bearer {good}"), ("authorization", f"Bearer {bad}"))
    yield sent("a bad one and a good one", ("authorization", f"Bearer {bad}"), ("authorization", f"Bearer {good}"))
    yield sent("a bad one, a good one in one header", ("authorization", f"Bearer {bad}, Bearer {good}"))
    yield sent("what Envoy tells upstreams", ("x-jwt-payload", b64(issuer.claims())), ("x-user-id", "alice"))


def _headed(token: str, header: Mapping[str, Any]) -> str:
    return ".".join([b64(header), *token.split(".")[1:]])


def signed_by(token: str, signature: bytes) -> str:
    return ".".join([*token.split(".")[:2], b64(signature)])


def _claiming(token: str, claims: Mapping[str, Any]) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{b64(claims)}.{signature}"


def signature_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.split(".")[2] + "==")


def _der(token: str) -> bytes:
    raw = signature_of(token)
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def _twice(issuer: Issuer, name: str, bad: Any) -> str:
    """Claims in which `name` stands twice, the bad one first."""
    text = json.dumps(issuer.claims())
    return b64(f'{{"{name}": {json.dumps(bad)}, {text[1:]}'.encode())


# -------------------------------------------------------------------------------------------------------------- keys
HEADER: Final = "x-api-key"
OTHER_HEADER: Final = "x-partner-key"


def key_attacks(good: str, dead: Mapping[str, str]) -> Iterator[Attack]:
    """`good`: a key that works. `dead`: whole keys that must not, by what is wrong with them."""
    for name, text in (*altered(good), *junk(good), *((f"a key that is {why}", key) for why, key in dead.items())):
        yield Attack(f"key: {name}", ((HEADER, text.encode()),))
    for name, raw in {"a NUL at the end": f"{good}\x00", "a NUL in front": f"\x00{good}"}.items():
        yield Attack(f"key: {name}", ((HEADER, raw.encode()),), malformed=True)
    yield from misplaced(good)


def altered(good: str) -> Iterator[tuple[str, str]]:
    body, _, checksum = good.rpartition("_")
    gw, environment, key_id, secret = body.split("_")

    def whole(*parts: str) -> str:
        made = "_".join(parts)
        return f"{made}_{keys.checksum(made)}"

    yield "a wrong checksum", f"{body}_{'0' * 6}"
    yield "no checksum", body
    yield "the checksum in small letters", f"{body}_{checksum.lower()}x"[: len(good)]
    yield "the checksum's first character gone", f"{body}_{checksum[1:]}"
    yield "another environment", whole(gw, "test", key_id, secret)
    yield "another prefix", whole("sk", environment, key_id, secret)
    yield "another id", whole(gw, environment, "0" * 10, secret)
    yield "another secret", whole(gw, environment, key_id, secret[:-1] + ("a" if secret[-1] != "a" else "b"))
    yield "the secret backwards", whole(gw, environment, key_id, secret[::-1])
    yield "the secret in capitals", whole(gw, environment, key_id, secret.upper() + "")
    yield "a longer secret", whole(gw, environment, key_id, secret + "0")
    yield "no secret", whole(gw, environment, key_id, "")
    yield "the id for a secret", whole(gw, environment, key_id, (key_id * 4)[:32])
    yield "the last character gone", good[:-1]
    yield "the first character gone", good[1:]
    yield "half of it", good[: len(good) // 2]
    yield "one character more", good + "0"
    yield "twice", good + good
    yield "in capitals", good.upper()
    yield "in small letters", good.lower()
    yield "with letters' cases changed over", good.swapcase()
    yield "backwards", good[::-1]
    yield "a Cyrillic letter", good.replace("v", "\u0475", 1)
    yield "wide underscores", good.replace("_", "\uff3f")
    yield "a soft hyphen within", f"{good[:9]}\u00ad{good[9:]}"
    yield "a zero-width space at the end", f"{good}\u200b"
    yield "hyphens for underscores", good.replace("_", "-")
    yield "a space within", f"{good[:20]} {good[20:]}"
    yield "percent underscores", good.replace("_", "%5F")
    yield "a percent space at the end", f"{good}%20"
    yield "a percent NUL at the end", f"{good}%00"
    yield "in quotes", f'"{good}"'
    yield "in base64", base64.b64encode(good.encode()).decode()
    yield "in JSON", json.dumps({"key": good})
    yield "after a scheme", f"Bearer {good}"
    yield "after its name", f"{HEADER}: {good}"
    for name, other in {"nothing": "", "another key": whole(gw, environment, "A" * 10, secret), "itself": good}.items():
        yield f"before a comma and {name}", f"{good},{other}"
        yield f"after {name} and a comma", f"{other}, {good}"
    yield "before a semicolon", f"{good};x"


def junk(good: str) -> Iterator[tuple[str, str]]:
    _, _, key_id, secret, _ = good.split("_")
    yield from {
        "nothing": "", "null": "null", "undefined": "undefined", "true": "true", "a star": "*", "a percent sign": "%",
        "SQL": "' OR '1'='1", "a list in SQL": "gw_live_%_%_%", "a path": "../../etc/passwd", "a template": "{{7*7}}",
        "a format": "%s%s%n", "a pattern": "gw_.*", "its id": key_id, "its secret": secret,
        "its prefix": f"gw_live_{key_id}",
        "its digest": keys.digest(b"x" * 16, good).hex(), "10,000 letters": "a" * 10_000, "a line of dashes": "-" * 68,
    }.items()  # fmt: skip
    for number in range(6):
        yield f"somebody's invention {number}", keys.mint(bytes([number]) * 16).text


def misplaced(good: str) -> Iterator[Attack]:
    invented = keys.mint(b"y" * 16).text

    def sent(name: str, *headers: Header, query: str = "") -> Attack:
        return Attack(f"key: {name}", headers, query)

    yield sent("a good one and an invented one", (HEADER, good), (HEADER, invented))
    yield sent("an invented one and a good one", (HEADER, invented), (HEADER, good))
    yield sent("a good one twice", (HEADER, good), (HEADER, good))
    yield sent("a good one and an empty one", (HEADER, good), (HEADER, ""))
    yield sent("a good one in the header of another block", (OTHER_HEADER, good))
    yield sent("as a bearer token", ("authorization", f"Bearer {good}"))
    yield sent("as a bearer token beside an invented one", ("authorization", f"Bearer {good}"), (HEADER, invented))
    yield sent("as a scheme of its own", ("authorization", f"ApiKey {good}"))
    yield sent("as a password", ("authorization", f"Basic {base64.b64encode(f'x:{good}'.encode()).decode()}"))
    yield sent("in the query", query=f"?api_key={good}&{HEADER}={good}")
    yield sent("in a cookie", ("cookie", f"{HEADER}={good}; api_key={good}"))
    yield Attack("key: in a header that looks like the right one", (("x_api_key", good),), malformed=True)
    yield sent("in a shorter header", ("api-key", good), ("x-api-keys", good))
    yield sent("in a forwarded header", ("x-forwarded-x-api-key", good), ("x-original-api-key", good))
    yield sent("told as whom one is", ("x-client-id", "c_1"), ("x-client-address", "192.0.2.1"))
