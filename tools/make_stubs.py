"""Write type stubs (.pyi) for the protobufs that xds-protos ships without any, so that mypy catches a misspelled field.

    python tools/make_stubs.py .stubs

They are generated from the installed descriptors, never from a copy of the .proto files, so they match what runs.
"""

import importlib
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

PACKAGES = (
    "envoy/",
    "xds/",
    "udpa/",
    "validate/",
    "google/rpc/",
    "google/api/",
    "cel/",
    "opentelemetry/",
    "opencensus/",
)


def modules() -> Iterator[str]:
    for file in files("xds-protos") or ():
        if str(file).endswith("_pb2.py") and str(file).startswith(PACKAGES):
            yield str(file).removesuffix(".py").replace("/", ".")


def with_dependencies(descriptors: list[FileDescriptor]) -> FileDescriptorSet:
    """All files that these need, dependencies first."""
    seen: dict[str, FileDescriptorProto] = {}

    def visit(descriptor: FileDescriptor) -> None:
        if descriptor.name in seen:
            return
        for dependency in descriptor.dependencies:
            visit(dependency)
        proto = FileDescriptorProto()
        descriptor.CopyToProto(proto)
        seen[descriptor.name] = proto

    for descriptor in descriptors:
        visit(descriptor)
    return FileDescriptorSet(file=seen.values())


def main(target: Path) -> int:
    descriptors = [importlib.import_module(name).DESCRIPTOR for name in modules()]
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(suffix=".binpb") as bundle:
        bundle.write(with_dependencies(descriptors).SerializeToString())
        bundle.flush()
        return int(
            protoc.main(
                [
                    "protoc",
                    f"--descriptor_set_in={bundle.name}",
                    f"--pyi_out={target}",
                    *(d.name for d in descriptors),
                ]
            )
        )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
