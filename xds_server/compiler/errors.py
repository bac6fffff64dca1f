"""What goes wrong with one object, and the word for an object that is closed because of another."""


class CompileError(Exception):
    """This object cannot be compiled: it fails closed alone. `field`: where in the object, if that is known."""

    def __init__(self, message: str, *field: str | int, code: str = "GW601") -> None:
        super().__init__(message)
        self.message, self.field, self.code = message, field, code


class ClosedError(Exception):
    """This object is closed because another one is; the problem, of this `code`, is reported there."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
