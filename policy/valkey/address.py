"""Where a Valkey (or Redis) is, as one URL says it.

    unix:///run/valkey.sock?username=…&password_file=…
    valkey://[user:password@]host[:6379][/database]        valkeys://… over TLS
    valkey+sentinel://host[:26379],host…/service           valkeys+sentinel://…
    valkey+cluster://host[:6379],host…                     valkeys+cluster://…

`redis` and `rediss` mean the same as `valkey` and `valkeys`. Parameters: `username`, `password_file`, `db`, with TLS
`ssl_ca`, `ssl_cert` and `ssl_key`, with Sentinel `sentinel_username` and `sentinel_password_file`. Others are errors: a
parameter that is passed over could be the one that was to make the connection safe.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

Topology = Literal["single", "sentinel", "cluster"]
TOPOLOGIES: Final[dict[str, Topology]] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}
TLS: Final = {"valkey": False, "redis": False, "unix": False, "valkeys": True, "rediss": True}
PORTS: Final = {"single": 6379, "sentinel": 26379, "cluster": 6379}
PARAMETERS: Final = frozenset({"username", "password_file", "db"})
TLS_PARAMETERS: Final = frozenset({"ssl_ca", "ssl_cert", "ssl_key"})
SENTINEL_PARAMETERS: Final = frozenset({"sentinel_username", "sentinel_password_file"})


@dataclass(frozen=True, slots=True)
class Login:
    """`file` is read at each connection, so that a password can be changed under a running service."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    file: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.file)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. `authorities` are trusted beside the system's; the server's name is always checked."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """`hosts`: (host, port) of the server, or of any Sentinels or cluster nodes; none where `socket` is the way."""

    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    socket: Path | None = None
    service: str = ""
    database: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: Tls | None = None

    @property
    def exposed(self) -> bool:
        """Whether passwords, counters and kept responses leave this machine in plain text."""
        return self.tls is None and not all(_loopback(host) for host, _ in self.hosts)


def parse(url: str) -> Address:
    """Raises ValueError, whose text has nothing of the URL but names: it may hold a password."""
    parts = urlsplit(url)
    scheme, _, suffix = parts.scheme.partition("+")
    if scheme not in TLS or suffix not in TOPOLOGIES or (scheme == "unix" and suffix):
        raise ValueError(
            "a Valkey URL begins with unix://, valkey[s]://, valkey[s]+sentinel:// or valkey[s]+cluster://"
        )
    topology = TOPOLOGIES[suffix]
    given = _parameters(parts, TLS[scheme], topology)
    service, database = _path(parts, scheme, topology, given)
    return Address(
        topology,
        hosts=() if scheme == "unix" else _hosts(parts, PORTS[topology]),
        socket=Path(unquote(parts.path)) if scheme == "unix" else None,
        service=service,
        database=database,
        login=_login(parts, given),
        sentinel_login=Login(given.get("sentinel_username"), None, _file(given, "sentinel_password_file")),
        tls=Tls(*(_file(given, name) for name in ("ssl_ca", "ssl_cert", "ssl_key"))) if TLS[scheme] else None,
    )


def _parameters(parts: SplitResult, tls: bool, topology: Topology) -> dict[str, str]:
    known = PARAMETERS | (TLS_PARAMETERS if tls else set()) | (SENTINEL_PARAMETERS if topology == "sentinel" else set())
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(
            f"a Valkey URL of this kind has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    if ("ssl_cert" in given) is not ("ssl_key" in given):
        raise ValueError("ssl_cert and ssl_key of a Valkey URL go together")
    return given


def _path(parts: SplitResult, scheme: str, topology: Topology, given: dict[str, str]) -> tuple[str, int]:
    """The service's name and the number of the database."""
    path = unquote(parts.path).strip("/")
    number = given.get("db") or (path if topology == "single" and scheme != "unix" else "") or "0"
    if not number.isdecimal():
        raise ValueError("the database of a Valkey URL is a number")
    if topology == "sentinel" and not path:
        raise ValueError("a URL of Sentinels ends with the name of the service: valkey+sentinel://host,host/service")
    if topology == "cluster" and (path or int(number)):
        raise ValueError("a cluster has one database, without a name")
    return (path if topology == "sentinel" else ""), int(number)


def _hosts(parts: SplitResult, default: int) -> tuple[tuple[str, int], ...]:
    found = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{text}")
            found.append((one.hostname or "", one.port or default))
        except ValueError:
            raise ValueError("a port in the Valkey URL is not one") from None
    if not all(host for host, _ in found):
        raise ValueError("a host is missing in the Valkey URL")
    return tuple(found)


def _login(parts: SplitResult, given: dict[str, str]) -> Login:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if password and "password_file" in given:
        raise ValueError("a Valkey URL has a password or a password_file, not both")
    return Login(unquote(user) or given.get("username"), unquote(password) or None, _file(given, "password_file"))


def _file(given: dict[str, str], name: str) -> Path | None:
    return Path(given[name]) if given.get(name) else None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
