"""Regular expressions of others, which must be RE2's to be ours."""

import re
from collections.abc import Iterable


def re2_problem(pattern: str) -> str | None:
    """What RE2 says against it, if anything."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        return str(error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0])
    return None


def full_match(values: Iterable[str]) -> str:
    """One of the values, as a pattern for the whole text."""
    return "|".join(re.escape(value) for value in values)
