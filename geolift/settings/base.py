"""What every group of options is: frozen, closed, and able to say how its options are presented."""

from __future__ import annotations

from inspect import get_annotations
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Group = Literal["input", "sensor and bands", "method", "trust", "output", "machine"]
"""Under which heading an option stands in the help, in this order."""


def shown(metavar: str | None = None, *, group: Group | None = None, main: int = 0) -> dict[str, Any]:
    """Return how help and forms present an option.

    ``metavar`` stands for its value; ``group`` is the heading where it is not its class's; the few options with a
    rank ``main`` come before all groups.
    """
    facts = {"metavar": metavar, "group": group, "main": main}
    return {name: value for name, value in facts.items() if value}


class Settings(BaseModel):
    """Frozen, typed, and closed: an unknown name is an error."""

    # Built when first validated: `--help` needs names and texts only.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    group: ClassVar[Group] = "input"

    @classmethod
    def group_of(cls, name: str) -> Group:
        """Return the heading of an option: the field's own, or that of the class that defines the field."""
        extra = cls.model_fields[name].json_schema_extra
        if isinstance(extra, dict) and "group" in extra:
            return extra["group"]  # type: ignore[return-value]
        return cls._home_of(name).group

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
