"""A gateway that is explained here: of files, or what is live."""

import json
import time
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from gateway.document import Object
from gateway.explain import Asked, Question, Unexplained, as_json, explain
from gateway.model import Gateway
from gateway.places import Where
from gateway.read import check_objects, load
from gwctl.client import Target, client
from gwctl.exits import Exit, Failure
from gwctl.files import File
from gwctl.problems import show


class Document:
    """A gateway to be explained here, with the places of what it says."""

    def __init__(self, gateway: Gateway, where: Where) -> None:
        self.gateway, self.where = gateway, where

    @classmethod
    def of(cls, files: Sequence[File]) -> "Document":
        loaded = load(files)
        if loaded.gateway is None:
            show(loaded.problems, files)
            raise Failure(Exit.INVALID, "the files are not a valid gateway")
        return cls(loaded.gateway, loaded.where)

    @classmethod
    def of_server(cls, target: Target) -> "Document":
        """What is live, without its places: the control plane has told those."""
        from gateway.places import Where

        server = client(target)
        newest = server.get("/v1/revisions", limit=1)["revisions"][0]["revision"]
        rows = server.get(f"/v1/revisions/{newest}")["objects"]
        objects = tuple(
            Object(one["kind"], one["name"], one["owner"], one["labels"], one["body"], one["file"], {}) for one in rows
        )
        gateway, problems = check_objects(objects)
        if gateway is None:
            show(problems, ())
            raise Failure(Exit.INVALID, "this version of gwctl cannot read what is live")
        return cls(gateway, Where.of(objects))

    def asked(self, question: dict[str, Any]) -> Asked:
        """Raises Failure 3."""
        try:
            return Question.model_validate_json(json.dumps(question)).asked(time.time())
        except ValidationError as error:  # without the input: there may be a claim in it that is nobody's business
            told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise Failure(Exit.INVALID, told) from None

    def explained(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            return as_json(explain(self.gateway, self.asked(question)), self.where)
        except Unexplained as error:
            raise Failure(Exit.INVALID, str(error), "--listener NAME says which") from None
