"""Spec: a frozen, validated choice of options whose every wrong value gets one sentence."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core.core_schema import CoreSchema, no_info_wrap_validator_function

from .errors import TaskError, nearest


class Spec(BaseModel):
    """Options of a task, a net or a training: frozen, JSON in and out. Abstract: use a subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Around the whole schema, so that a subclass's own validators are inside; a wrap validator of this class is not.
        return no_info_wrap_validator_function(cls._in_a_sentence, handler(source))

    @classmethod
    def _in_a_sentence(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(data)
        except ValidationError as error:
            raise TaskError(f"{cls.__name__}: {_sentence(cls, error)}") from None


def _sentence(spec: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(p) for p in first["loc"] if isinstance(p, int) or p in spec.model_fields or first["type"] == "extra_forbidden")
    if first["type"] == "extra_forbidden":
        return f'no option "{where}": {nearest(where, spec.model_fields)}'
    if first["type"] == "missing":
        return f'"{where}" must be given'
    fact = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    told = fact if first["type"] == "value_error" else f"must be {fact}" if first["msg"].startswith("Input should be ") else fact
    return f"{where} {told}; got {first['input']!r}" if where else told
