"""The simulator's exceptions: what stops it from starting, and a provider's refusals of single requests."""

import json


class SimulatorError(Exception):
    """The simulator cannot run as asked; the message is one line that says what to change."""


class SettingsError(SimulatorError):
    """A setting has an impossible value."""


class FaultsError(SimulatorError):
    """A fault, or a file of faults, that cannot be understood."""


class ApiError(Exception):
    """A refusal of one request, with OpenAI's error body `{"error": {message, type, param, code}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers

    def body(self) -> bytes:
        """The JSON body of the answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()
