"""The one kind of error that a user can fix."""


class UserError(Exception):
    """A mistake that the user can fix. The message is one printable line: place, rule, value, next step."""

    def __init__(self, message: str) -> None:
        # A message may quote a file from a stranger: no control character of it reaches the terminal.
        line = " ".join(message.split())
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line))
