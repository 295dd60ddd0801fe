"""From pydantic's findings to ours: JSON pointers and plain words, never the value that was given."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from api.errors import FieldError, invalid


class StrictModel(BaseModel):
    """A body whose fields are all known and of exactly the right type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


ModelT = TypeVar("ModelT", bound=StrictModel)


def read_model(model: type[ModelT], value: Mapping[str, object]) -> ModelT:
    """The model in a parsed body. Raises Problem 422 with every wrong place."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(*field_errors(error)) from None


def escape(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def field_errors(error: ValidationError, prefix: str = "") -> list[FieldError]:
    """What pydantic found wrong; `prefix` is the pointer of the part that it looked at."""
    return [_field_error(one, prefix) for one in error.errors(include_url=False, include_input=False)]


_MESSAGES: Final = {
    "extra_forbidden": "is not a field; see the reference for those there are",
    "missing": "is required",
    "int_type": "must be an integer",
    "string_type": "must be a text",
    "dict_type": "must be an object",
    "list_type": "must be a list",
}


_SUBJECT: Final = re.compile(r"^[A-Z][a-z]+ should\b")
"""pydantic's `Input should be …`, `String should have …`, `List should have …`: here the pointer tells what."""


def _field_error(error: ErrorDetails, prefix: str) -> FieldError:
    pointer = "".join(f"/{escape(str(step))}" for step in error["loc"] if step != "[key]")
    message = _MESSAGES.get(error["type"])
    if message is None:
        message = _SUBJECT.sub("must", error["msg"]).replace("'", "")
    return FieldError(prefix + pointer, message)
