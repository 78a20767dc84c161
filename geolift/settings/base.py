"""What every group of options is: frozen, closed, and able to say how its options are presented."""

from __future__ import annotations

from inspect import get_annotations
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

Group = Literal["input", "sensor and bands", "method", "trust", "output", "machine"]
"""Under which heading an option stands in the help, in this order."""


Effect = Literal["pixels", "beside", "run"]
"""What an option changes: the product's pixels; what is written or judged beside them; only how the run goes."""

SideProduct = Literal["raster", "model", "page"]


def shown(
    metavar: str | None = None,
    *,
    group: Group | None = None,
    main: int = 0,
    effect: Effect | None = None,
    side_product: SideProduct | None = None,
) -> dict[str, JsonValue]:
    """Return what is to be known of an option beside its rule: how it is presented, and what it changes.

    ``metavar`` stands for its value; ``group`` is the heading where it is not its class's; the few options with a
    rank ``main`` come before all groups; ``effect`` where it is not its class's; ``side_product``: the option names a
    file of that kind, which is written beside the product.
    """
    if side_product is not None and effect is None:
        effect = "beside"
    facts: dict[str, JsonValue] = {
        "metavar": metavar,
        "group": group,
        "main": main,
        "effect": effect,
        "side_product": side_product,
    }
    return {name: value for name, value in facts.items() if value}


class Settings(BaseModel):
    """Frozen, typed, and closed: an unknown name is an error."""

    # Built when first validated: `--help` needs names and texts only.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)
    group: ClassVar[Group] = "input"
    effect: ClassVar[Effect] = "pixels"

    @model_validator(mode="before")
    @classmethod
    def _words_in_any_case(cls, values: Any) -> Any:
        """Accept ``gtiff`` for GTiff: a choice is a choice however it is written."""
        if not isinstance(values, dict):
            return values
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name: _as_listed(value, kinds.get(name)) for name, value in values.items()}

    @classmethod
    def group_of(cls, name: str) -> Group:
        """Return the heading of an option: the field's own, or that of the class that defines the field."""
        extra = cls.model_fields[name].json_schema_extra
        if isinstance(extra, dict) and "group" in extra:
            return extra["group"]  # type: ignore[return-value]
        return cls._home_of(name).group

    @classmethod
    def with_effect(cls, *effects: Effect) -> set[str]:
        """Return the options that change these things."""
        return {name for name in cls.model_fields if cls._fact(name, "effect", cls._home_of(name).effect) in effects}

    @classmethod
    def side_products(cls) -> dict[str, SideProduct]:
        """Return the options that name a file written beside the product, each with the kind of file."""
        kinds = {name: cls._fact(name, "side_product", None) for name in cls.model_fields}
        return {name: kind for name, kind in kinds.items() if kind is not None}

    @classmethod
    def _fact(cls, name: str, fact: str, default: Any) -> Any:
        extra = cls.model_fields[name].json_schema_extra
        return extra.get(fact, default) if isinstance(extra, dict) else default

    @classmethod
    def in_reading_order(cls) -> list[str]:
        """Return the options as a reader wants them: the main ones, then class by class as listed, its own last."""
        homes = [*cls.__mro__[1:], cls]

        def key(name: str) -> tuple[int, int]:
            extra = cls.model_fields[name].json_schema_extra
            rank = extra.get("main") if isinstance(extra, dict) else None
            return (rank if isinstance(rank, int) else len(homes), homes.index(cls._home_of(name)))

        return sorted(cls.model_fields, key=key)

    @classmethod
    def _home_of(cls, name: str) -> type[Settings]:
        """Return the class that defines a field."""
        homes = (home for home in cls.__mro__ if issubclass(home, Settings))
        return next(home for home in homes if name in get_annotations(home))


def _as_listed(value: Any, annotation: Any) -> Any:
    if not isinstance(value, str):
        return value
    return next((word for word in words_of(annotation) if word.lower() == value.strip().lower()), value)


def words_of(annotation: Any) -> list[str]:
    """Return the words that an option takes, beside whatever else it takes."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in words_of(part)]
