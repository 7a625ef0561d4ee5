"""The one kind of error that a user can fix, and other errors in one line."""


class UserError(Exception):
    """A mistake that the user can fix. The message is one printable line: place, rule, value, next step."""

    def __init__(self, message: str) -> None:
        # A message may quote a file from a stranger: no control character of it reaches the terminal.
        line = " ".join(message.split())
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line))


def describe_fault(error: Exception) -> str:
    """The error in one line; of the mistakes that pydantic found the first, with its place."""
    from pydantic import ValidationError  # dev.install runs before any package is there

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
    return str(error)
