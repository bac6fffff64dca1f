"""The answer that is neither yes nor no."""


class Unavailable(Exception):  # noqa: N818 - not a fault: the answer that must be given
    """No decision can be made now. Nothing may be concluded from it; the message is for logs and holds no secret."""
