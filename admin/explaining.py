"""What becomes of a request to what is live. The keys it may name are looked up by their public ids."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from admin.keys import Keys
from admin.problems import ApiError, refused
from db.rows import KeyRow
from gateway.explain import Question, Unexplained, as_json, explain
from gateway.explain.question import AskedKey
from gateway.match import Index, index
from xds_server.rollout.publisher import Published, Publisher


class Explainer:
    """Keeps the index of what is published: making it is most of the work."""

    def __init__(self, publisher: Publisher, keys: Keys) -> None:
        self._publisher, self._keys = publisher, keys
        self._known: tuple[Published, Index] | None = None

    async def explain(self, question: Question) -> dict[str, Any]:
        """Raises ApiError 422, or 409 while no gateway is published."""
        published = self._publisher.state.published
        if published is None:
            raise ApiError(409, "nothing_published", "no gateway is published: apply one first")
        key = await self._key(question.key) if question.key is not None and question.key.id else question.key
        asked = question.model_copy(update={"key": key}).asked(time.time())
        try:
            found = await asyncio.to_thread(lambda: explain(published.gateway, asked, self._index(published)))
        except Unexplained as error:
            raise refused("/listener", str(error), "`listener` names one") from None
        facts = {} if key is None or key is question.key else {"key": key.model_dump(mode="json", exclude={"id"})}
        return {"revision": published.snapshot.revision, **as_json(found, published.where), **facts}

    def _index(self, published: Published) -> Index:
        known = self._known
        if known is None or known[0].gateway is not published.gateway:
            known = self._known = (published, index(published.gateway))
        return known[1]

    async def _key(self, asked: AskedKey) -> AskedKey:
        """What is stored of it; that somebody holds the whole key is not known."""
        try:
            row = await self._keys.get(asked.id or "")
        except ApiError as error:
            if error.status != 404:
                raise
            return AskedKey(state="unknown")
        return AskedKey(
            client=row.consumer,
            tier=row.tier,
            scopes=list(row.scopes),
            networks=list(row.allowed_ips),
            state=state_of(row, datetime.now(UTC)),
        )


def state_of(row: KeyRow, now: datetime) -> Any:
    if row.revoked_at is not None:
        return "revoked"
    if row.disabled_at is not None:
        return "disabled"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "unchecked"
