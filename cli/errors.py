"""The one exception with which a command says that it cannot do what was asked, and what to do next."""

import typer


class CommandError(typer.TyperException):
    """Ends the command with `exit_code`; each line of the message is printed to stderr behind `penstock:`."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
