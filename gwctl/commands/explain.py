"""`gwctl explain`: what would become of a request, and why."""

import os
from pathlib import Path
from typing import Any, Final

import click

from gwctl.client import Target, client, target_options
from gwctl.exits import Exit
from gwctl.files import read
from gwctl.output import emit

SAN_KINDS: Final = ("uri", "dns", "email")


@click.command()
@click.argument("method")
@click.argument("url")
@click.option("--jwt", metavar="TOKEN|CLAIMS", help="A token, or NAME=VALUE,… as claims of one; @FILE, @-.")
@click.option("--key", metavar="KEY|FACTS", help="An API key, or what it is good for: tier=gold,client=c_1; @FILE, @-.")
@click.option("--user", metavar="NAME", help="Who comes with the right password.")
@click.option("--certificate", metavar="KIND:NAME", multiple=True, help="A name in the client's certificate.")
@click.option("--cookie", "session", is_flag=True, help="A browser with a session; --jwt has its claims.")
@click.option("--ip", "address", default="127.0.0.1", show_default=True, help="The caller's address.")
@click.option("--header", "-H", "headers", metavar="NAME:VALUE", multiple=True, help="A header of the request.")
@click.option("--listener", metavar="NAME", help="Which listener, if scheme and port do not say.")
@click.option("--sni", metavar="NAME", help="The server name that a TLS client asks for, if not the host.")
@click.option(
    "-f",
    "--file",
    "paths",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    multiple=True,
    help="Files or directories instead of what is live.",
)
@click.option("--live", is_flag=True, help="Ask a real Envoy on this machine too; exit with 1 if it does otherwise.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)
@target_options
@click.pass_context
def explain(
    ctx: click.Context,
    method: str,
    url: str,
    jwt: str | None,
    key: str | None,
    user: str | None,
    certificate: tuple[str, ...],
    session: bool,
    address: str,
    headers: tuple[str, ...],
    listener: str | None,
    sni: str | None,
    paths: tuple[Path, ...],
    live: bool,
    output: str,
    target: Target,
) -> None:
    """Explain what becomes of METHOD URL: route, caller, rules, limits, upstream, each with its place.

    Nothing is sent. Against what is live, or the files of -f without any server.
    """
    from gwctl.explaining import credentials
    from gwctl.explaining.document import Document

    files = read(paths) if paths else []
    document = Document.of(files) if files else None
    question: dict[str, Any] = {
        "method": method.upper(),
        "url": url,
        "headers": [header(text) for text in headers],
        "address": address,
        "certificate": [named(text) for text in certificate],
        "session": session,
    }
    question |= {"listener": listener} if listener else {}
    question |= {"sni": sni} if sni else {}
    question |= {"user": user} if user else {}
    if jwt is not None:
        question["token"] = credentials.token(jwt, document.gateway if document else None)
    if key is not None:
        question["key"] = credentials.key(key, server=document is None)
    found = document.explained(question) if document else client(target).post("/v1/explain", question)
    if live:
        found["live"] = asked_live(document or Document.of_server(target), question, found)
    emit("table" if output == "text" else output, "explain", found, lambda: people(found))
    if live and found["live"]["disagreements"]:
        ctx.exit(Exit.FAILED)


def header(text: str) -> dict[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError("A header is NAME:VALUE.")
    if name.strip().lower() == "authorization":
        raise click.UsageError("Say --jwt or --user instead of a header: credentials are taken apart, not repeated.")
    return {"name": name.strip(), "value": value.strip()}


def named(text: str) -> dict[str, str]:
    kind, colon, value = text.partition(":")
    if kind not in SAN_KINDS or not colon or not value:
        raise click.UsageError(f"A name in a certificate is KIND:NAME, with KIND one of {', '.join(SAN_KINDS)}.")
    return {"kind": kind, "value": value}


def asked_live(document: Any, question: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # or it talks on standard error when Envoy is started
    from gwctl.explaining.live import ask

    known = {"key": found["key"]} if found.get("key") else {}  # what the server knows of the key whose id we told
    return ask(document.gateway, document.asked(question | known), found["listener"])


def people(found: dict[str, Any]) -> str:
    from gateway.explain import text

    said = text(found)
    live = found.get("live")
    if live is None:
        return said
    if live["disagreements"]:
        return said + "".join(f"!! Envoy disagrees: {line}\n" for line in live["disagreements"])
    return f"{said}a real Envoy agrees: {live['status']}  {live['details']}\n"
