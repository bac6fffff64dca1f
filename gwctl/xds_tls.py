"""A node's side of mutual TLS with the control plane, as parts of its bootstrap.

Certificate and authorities come by SDS from files on the node, not from the bootstrap itself: so Envoy takes new ones
without a restart. It looks when something is moved into the file's directory, as a renewal or a mounted secret does.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CERTIFICATE: Final = "xds-certificate"
AUTHORITIES: Final = "xds-authorities"
SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type
CONTEXT: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files on the node, absolute paths. `server`: the name that the control plane's certificate must have.

    `directory`: on the node too, where the files of `secrets` are.
    """

    certificate: Path
    key: Path
    authorities: Path
    server: str
    directory: Path

    def transport_socket(self) -> Part:
        """Of the xDS cluster."""
        context: Part = {
            "@type": CONTEXT,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [self._from_file(CERTIFICATE)],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [_named(self.server)]},
                    "validation_context_sds_secret_config": self._from_file(AUTHORITIES),
                },
            },
        }
        if _kind(self.server) == "DNS":
            context["sni"] = self.server
        return {"name": "envoy.transport_sockets.tls", "typed_config": context}

    def secrets(self) -> dict[str, Part]:
        """The files that SDS reads, by their names in `directory`."""
        chain, key = {"filename": str(self.certificate)}, {"filename": str(self.key)}
        certificate = {"certificate_chain": chain, "private_key": key, "watched_directory": _parent(self.certificate)}
        authorities = {
            "trusted_ca": {"filename": str(self.authorities)},
            "watched_directory": _parent(self.authorities),
        }
        return {
            _file(CERTIFICATE): _resources({"name": CERTIFICATE, "tls_certificate": certificate}),
            _file(AUTHORITIES): _resources({"name": AUTHORITIES, "validation_context": authorities}),
        }

    def _from_file(self, name: str) -> Part:
        source = {"path": str(self.directory / _file(name)), "watched_directory": {"path": str(self.directory)}}
        return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


def _file(name: str) -> str:
    return f"{name}.yaml"


def _parent(path: Path) -> Part:
    return {"path": str(path.parent)}


def _resources(secret: Part) -> Part:
    return {"resources": [{"@type": SECRET, **secret}]}


def _named(server: str) -> Part:
    return {"san_type": _kind(server), "matcher": {"exact": server}}


def _kind(server: str) -> str:
    """Envoy's word for this kind of subject alternative name."""
    if "://" in server:
        return "URI"
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return "DNS"
    return "IP_ADDRESS"
