"""Runs the cases of a `tests.yaml`: explained, counted under a clock of ours, and held against a real Envoy."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.explain import Asked, Unexplained, explain
from gateway.match import index
from gateway.model import Gateway
from gateway.testing.judging import Sent, Verdict, judged
from gateway.testing.model import Case, Step
from gwctl.proving.agreement import disagreements
from gwctl.proving.counting import Counters, exactly
from gwctl.proving.credentials import Unprovable
from gwctl.proving.runner import Runner

DAY: Final = 86_400_000
APART: Final = 730 * DAY
"""Between cases: longer than any limit remembers, so that no case sees what another has spent."""


class Clock:
    """Milliseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 20_000 * DAY

    def __call__(self) -> int:
        return self.now

    def next_case(self) -> None:
        self.now = (self.now // DAY) * DAY + APART


class Trial:
    """`directory`: where a real Envoy may have its files; None judges by what is explained alone."""

    def __init__(self, gateway: Gateway, directory: Path | None) -> None:
        self._gateway, self._clock = exactly(gateway), Clock()
        self._index = index(self._gateway)
        self._counters = Counters(self._gateway, self._clock)
        self._closing = ExitStack()
        self._runner: Runner | None = None
        if directory is not None:
            self._runner = self._closing.enter_context(Runner(directory, self._gateway, now=self._clock))
        self.sent: list[Sent] = []

    def run(self, case: Case) -> Verdict:
        self._clock.next_case()
        verdict = Verdict()
        for at, step in enumerate(case.sequence):
            self._clock.now += step.after
            mark = f"steps[{at}]: " if case.steps else ""
            try:
                sent = list(self._send(step, verdict))
            except Unexplained as error:
                verdict.failures.append(f"{mark}{error}")
                continue
            self.sent += sent
            verdict.failures += [mark + line for line in judged(step.expect, sent)]
        return verdict

    def _send(self, step: Step, verdict: Verdict) -> Iterator[Sent]:
        """One by one: Envoy answers in no order what comes at once."""
        start, given = self._clock.now, step.given
        asked = given.question().asked(time.time())  # tokens are looked at under the real clock
        for at in range(given.repeat):
            self._clock.now = start + at * given.within // given.repeat
            one = self._counters.sent(explain(self._gateway, asked, self._index))
            yield one if self._runner is None else self._held(self._runner, asked, one, verdict)

    def _held(self, runner: Runner, asked: Asked, sent: Sent, verdict: Verdict) -> Sent:
        """Against what Envoy does with the same request."""
        wanted = replace(asked, port=None, request=replace(asked.request, listener=sent.found.listener))
        found = explain(runner.gateway, wanted, runner.index)
        if sent.limited_by:
            found = replace(found, answer=sent.found.answer, location=None)
        try:
            observed = next(runner.ask([wanted]))
        except Unprovable as error:
            verdict.note = f"not asked of Envoy: {error}"
            return sent
        lines = disagreements(wanted, found, observed)
        verdict.disagreements += [line for line in lines if line not in verdict.disagreements]
        return replace(sent, headers=observed.headers)

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> "Trial":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
