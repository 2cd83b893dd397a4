"""Frozen dataclasses from and to plain JSON values; errors name the field, `spec.segments[0].path`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self, TypeVar, cast, get_args, get_origin, get_type_hints

Form = TypeVar("Form")


class MalformedFieldError(ValueError):
    """A JSON value breaks the form that a field asks for; the message names the field."""

    @classmethod
    def wrong(cls, where: str, expected: str, value: object) -> Self:
        """Say what was expected where, and what is there."""
        return cls(f"{where}: expected {expected}, got {value!r:.120}")


def decode(form: type[Form], value: object, where: str) -> Form:
    """Build a `form` (a dataclass, int, float, str, tuple[X, ...] or Mapping[str, X]) of a parsed JSON value.

    Unknown keys of an object are ignored, so that either side may learn new ones first.

    Args:
        form: type to build.
        value: what `json.loads` returned.
        where: path of the value, for errors.

    Raises:
        MalformedFieldError: a field is missing or has another type.
    """
    origin = get_origin(form)
    if dataclasses.is_dataclass(form):
        return _decode_object(form, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise MalformedFieldError.wrong(where, "a list", value)
        (item,) = get_args(form)[:1]
        return cast("Form", tuple(decode(item, one, f"{where}[{index}]") for index, one in enumerate(value)))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise MalformedFieldError.wrong(where, "an object", value)
        item = get_args(form)[1]
        return cast("Form", {key: decode(item, one, f"{where}.{key}") for key, one in value.items()})
    if type(value) is form or (form is float and type(value) is int):
        return cast("Form", value)
    raise MalformedFieldError.wrong(where, _EXPECTED[form], value)


def encode(value: object) -> Any:  # noqa: ANN401 - whatever json.dumps takes
    """Return a dataclass as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(one) for one in value]
    if isinstance(value, Mapping):
        return {key: encode(one) for key, one in value.items()}
    return value


def _decode_object(form: type[Form], value: object, where: str) -> Form:
    if not isinstance(value, dict):
        raise MalformedFieldError.wrong(where, "an object", value)
    fields = {}
    for name, field_form in get_type_hints(form).items():
        if name not in value:
            raise MalformedFieldError(f"{where}.{name}: missing")
        fields[name] = decode(field_form, value[name], f"{where}.{name}")
    return form(**fields)


_EXPECTED: dict[Any, str] = {int: "an integer", float: "a number", str: "a string"}
