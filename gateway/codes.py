"""The registry of problem codes: stable numbers that scripts may rely on and operators can look up.

GW0xx the text, GW1xx the words, GW2xx how the parts fit together, GW3xx who may call and how much, GW4xx owners.
GW6xx are the compiler's and GW7xx Envoy's own refusals; they are told where they arise, in `xds_server`.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Code:
    """What a code stands for, in one line, and what it does to an apply."""

    title: str
    severity: Literal["error", "warning"] = "error"


def _warning(title: str) -> Code:
    return Code(title, "warning")


CODES: Final = {
    "GW001": Code("the text is not YAML"),
    "GW002": Code("the file is not UTF-8"),
    "GW003": Code("the file is too large"),
    "GW004": Code("nested too deep"),
    "GW005": Code("an alias without an anchor, to itself, or that expands to too much"),
    "GW006": Code("a key is not text"),
    "GW007": Code("more than one document in a file"),
    "GW008": Code("a character that may not be in a document"),
    "GW009": Code("a number that cannot be represented"),
    "GW010": Code("a YAML tag"),
    "GW011": _warning("a plain word that YAML 1.1 and YAML 1.2 read differently"),
    "GW012": Code("the document is not a mapping"),
    "GW013": Code("a YAML merge key"),
    "GW014": Code("more problems than are shown"),
    "GW015": _warning("a comment that ignores a warning which is not there"),
    "GW101": Code("unknown field"),
    "GW102": Code("duplicate key"),
    "GW103": Code("a field is missing"),
    "GW104": Code("a value of the wrong type"),
    "GW105": Code("a value that is not allowed here"),
    "GW106": Code("a field of the language that this version does not support yet"),
    "GW107": Code("a key that is not a name, header name or method"),
    "GW108": Code("fields that exclude each other, or none of them"),
    "GW109": Code("not a duration, rate or percentage"),
    "GW111": Code("a field without a value"),
    "GW201": Code("a reference to something that is not defined"),
    "GW202": _warning("an upstream that no route uses"),
    "GW204": Code("a listener's protocol and its tls do not go together"),
    "GW205": Code("two listeners on one address and port"),
    "GW207": Code("two certificates for one host"),
    "GW211": Code("two routes that match exactly the same"),
    "GW212": _warning("two routes that differ only in their methods and share one"),
    "GW213": Code("a path outside its module's fence"),
    "GW214": Code("all backends have the weight 0"),
    "GW215": _warning("a try may take longer than the whole request"),
    "GW216": _warning("an unknown HTTP method"),
    "GW217": Code("a module without routes"),
    "GW218": Code("a redirect that cannot be carried out, or never ends"),
    "GW219": _warning("routes on a listener that only redirects"),
    "GW220": Code("a backend that is listed twice"),
    "GW221": Code("a regex that Envoy does not take"),
    "GW222": Code("a path template that Envoy does not take"),
    "GW223": Code("not a network in CIDR notation"),
    "GW224": Code("not an origin"),
    "GW225": _warning("a path that no request has"),
    "GW226": Code("a comparison that is always true"),
    "GW230": Code("a path without a fixed first segment on a listener whose scopes are by path"),
    "GW231": Code("a wildcard host on a listener whose scopes are by host"),
    "GW232": Code("scopes on a listener that only redirects"),
    "GW240": _warning("a route that no request gets to: another one before takes them all"),
    "GW241": _warning("the same on some of the route's hosts"),
    "GW242": _warning("routes of two modules that meet, where only their names decide"),
    "GW250": Code("a rewrite that cannot be carried out"),
    "GW251": Code("a rewrite with a variable or group that its match does not have"),
    "GW252": Code("a comparison of a cookie that could see the ones beside it"),
    "GW253": Code("something asked of sent requests on a route that sends nothing"),
    "GW261": _warning("an open route that reaches an upstream"),
    "GW263": _warning("a gate of a rollout that nothing judges yet"),
    "GW264": Code("two waves of one name"),
    "GW265": Code("waves that leave out nodes"),
    "GW280": _warning("a raw override of Envoy's settings"),
    "GW281": Code("a raw override of what decides who may call, or where traffic goes"),
    "GW301": Code("nothing says who may call"),
    "GW302": _warning("a rule about claims where only API keys are accepted"),
    "GW303": Code("two authorization rules of one name"),
    "GW304": Code("authorization without authentication"),
    "GW305": _warning("an open route in a module that asks for a tier above the lowest"),
    "GW306": _warning("a rule for a tier below the module's"),
    "GW307": _warning("authorization that lets nobody in"),
    "GW308": Code("a way to authenticate that is listed twice"),
    "GW311": Code("an inline key set that cannot be read"),
    "GW312": Code("a secret key in the document"),
    "GW313": Code("a public key that cannot be used"),
    "GW314": Code("a header with two meanings"),
    "GW315": Code("a JWT provider without a place for the token"),
    "GW316": Code("a place that key sets are not fetched from"),
    "GW317": Code("a time for fetching key sets that is out of range"),
    "GW318": Code("two ways to authenticate of one name"),
    "GW319": _warning("an API key in the query, which others log"),
    "GW321": Code("an edit of a header that belongs to the message"),
    "GW322": Code("a reserved header as a carrier of identity"),
    "GW323": Code("a header that is both written and removed"),
    "GW324": Code("an edit of a header that tells who calls"),
    "GW331": Code("credentials for any origin"),
    "GW332": Code("an authorization rule on headers, which callers write"),
    "GW333": _warning("a policy weakened by its override"),
    "GW341": Code("rate limits on a route that Envoy answers by itself"),
    "GW342": Code("a limit for each value of a claim where no token is accepted"),
    "GW343": _warning("a tier's limit for each value of a claim, with routes of API keys only"),
    "GW344": Code("two limits of one route with one name"),
    "GW345": Code("a request that costs more than its limit"),
    "GW346": Code("a burst that cannot be"),
    "GW347": Code("words of a limit that do not go together"),
    "GW348": Code("a domain of rate limits that is taken"),
    "GW349": Code("two descriptors for the same key and value"),
    "GW352": _warning("a higher tier that may do less than a lower one"),
    "GW353": Code("client certificates on a listener that does not verify any"),
    "GW354": Code("a path of a login that no route of it takes"),
    "GW355": Code("ways to authenticate that do not go together with a login"),
    "GW356": _warning("a login whose tokens are not for whom its provider expects"),
    "GW361": Code("an address or host name that is not one"),
    "GW362": Code("an endpoint that is listed twice"),
    "GW363": _warning("a health check whose timeout is longer than its interval"),
    "GW364": Code("an empty range of statuses"),
    "GW365": Code("a duration that may not be zero"),
    "GW366": Code("a back-off whose maximum is below its base"),
    "GW370": _warning("an upstream whose broken endpoints nobody notices"),
    "GW371": Code("a hash without a policy that uses it, or the other way round"),
    "GW372": Code("a gap in the priorities of endpoints"),
    "GW373": _warning("zone-aware load balancing without zones"),
    "GW374": Code("backends of one route that are chosen by different hashes"),
    "GW375": Code("a gRPC health check of an upstream that does not speak HTTP/2"),
    "GW376": Code("a word that the load balancing policy does not carry out"),
    "GW377": Code("session persistence on a route that reaches no upstream"),
    "GW380": Code("a bandwidth limit below what Envoy can count"),
    "GW381": Code("a size that lets no request through"),
    "GW382": _warning("a fault that every request meets"),
    "GW383": Code("a way of compression that is listed twice"),
    "GW384": Code("a local limit in shadow"),
    "GW386": Code("a local limit of zero"),
    "GW387": _warning("a limit that can never bind"),
    "GW388": Code("gRPC-Web for an upstream that speaks HTTP/1.1"),
    "GW389": Code("a response cache that can never keep an answer"),
    "GW390": Code("client certificates without an authority to check them against"),
    "GW391": Code("not a cipher of TLS 1.2 that Envoy takes"),
    "GW392": Code("ciphers where only TLS 1.3 is spoken"),
    "GW393": Code("protocols for ALPN that the listener does not have"),
    "GW394": Code("a size of headers that Envoy cannot be given"),
    "GW395": Code("something that only an HTTPS listener has"),
    "GW396": Code("HTTP/3 together with client certificates"),
    "GW397": _warning("a response cache of a route that knows its callers"),
    "GW398": Code("a size or a time beyond what a response cache keeps"),
    "GW399": Code("a file on the node without its whole path"),
    "GW401": Code("an object that two files define"),
    "GW402": Code("an object that belongs to another owner"),
    "GW405": Code("a route without the authentication that the floor requires"),
    "GW406": Code("a timeout longer than the floor allows"),
    "GW407": Code("a TLS version below the floor's"),
    "GW408": Code("an edit of a response header that the floor decides"),
    "GW410": Code("a route outside what is delegated to its owner"),
    "GW411": Code("a route inside what is delegated to another owner"),
    "GW413": Code("an owner that delegates to itself"),
    "GW414": Code("the same delegated to two owners"),
    "GW421": _warning("a limit by quota, which is experimental"),
    "GW422": _warning("a limit that is too little to be shared out"),
    "GW423": Code("a second quota where Envoy asks for one"),
    "GW424": Code("a quota in shadow, or of zero"),
}


def table() -> str:
    """`docs/problems.md`: every code with its title."""
    rows = "".join(f"| `{name}` | {code.severity} | {code.title} |\n" for name, code in CODES.items())
    return f"{_INTRODUCTION}\n| code | severity | what it is |\n|---|---|---|\n{rows}"


_INTRODUCTION: Final = """# Problem codes

What `gwctl validate` and `gwctl apply` say about a document. A code never changes its meaning. An `error` stops an
apply, a `warning` does not. This page is made from `gateway/codes.py`; a test keeps the two in step.

`GW5xx` are refusals of Envoy's own, `GW6xx` things that could not be compiled; both name the place in the document.
"""
