"""Mistakes of ours in the log: where they happened, without any value that may be a secret."""

import traceback


def where(error: BaseException) -> dict[str, object]:
    """The error's type and its stack. Not its message, and no local variables: either may hold a caller's key."""
    return {"error": type(error).__name__, "stack": "".join(traceback.format_tb(error.__traceback__, limit=-8))}
