"""A coroutine that starts at once, and that costs an asyncio.Task only where it must wait.

Most decisions are made from what is in memory: making a task for each, and a turn of the event loop to begin it, took
longer than deciding. Python 3.12 has eager tasks for this. For 3.11 this is a task of one's own, by what asyncio has
for those ("Extending", Task lifetime support): who asks `asyncio.current_task`, as `asyncio.timeout` does, gets it.
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Work(Generic[T]):
    """`ended` is called once with this; then `error` is what was raised, or `value` what was returned."""

    __slots__ = ("_cancels", "_coroutine", "_ended", "_loop", "_must_cancel", "_waits_for", "done", "error", "value")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T],
        ended: "Callable[[Work[T]], None]",
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._ended = ended
        self._cancels = 0
        self._must_cancel = False
        self._waits_for: asyncio.Future[Any] | None = None
        self.done = False
        self.error: BaseException | None = None
        self.value: T | None = None

    def run(self, error: BaseException | None = None) -> None:
        """Until it ends or must wait. For callbacks of the event loop: within a task there already is one."""
        if self._must_cancel:
            error, self._must_cancel = error or asyncio.CancelledError(), False
        self._waits_for = None
        _enter_task(self._loop, self)  # type: ignore[arg-type]
        try:
            waits_for = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as stop:
            self.value, self.done = stop.value, True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            self.error, self.done = raised, True
        else:
            self._wait(waits_for)
        finally:
            _leave_task(self._loop, self)  # type: ignore[arg-type]
        if self.done:
            self._ended(self)

    def cancel(self, msg: object = None) -> bool:
        if self.done:
            return False
        self._cancels += 1
        if self._waits_for is None or not self._waits_for.cancel(msg):
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        return self._cancels

    def uncancel(self) -> int:
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def _wait(self, future: Any) -> None:
        if future is None:  # asyncio.sleep(0)
            self._loop.call_soon(self.run)
            return
        future._asyncio_future_blocking = False  # how a task tells a future that it was understood
        future.add_done_callback(self._wake)
        self._waits_for = future
        if self._must_cancel and future.cancel():
            self._must_cancel = False

    def _wake(self, _: "asyncio.Future[Any]") -> None:
        """What the future holds, a cancellation too, is given or thrown by the future itself."""
        self.run()
