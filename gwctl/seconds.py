"""Durations on the command line, written as in the language: `30s`, `1m30s`."""

from typing import Any

import click

from gateway.scalars import parse_duration


class Seconds(click.ParamType[float]):
    """A duration with its unit, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value) / 1000
        except ValueError as error:
            self.fail(str(error), param, ctx)
