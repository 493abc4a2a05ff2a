"""What takes the place of a value that cannot be kept as it is."""

from __future__ import annotations

from typing import Any


def type_name(cls: type) -> str:
    """`module:qualified.name`, by which files name a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


class StandIn(str):
    """Takes the place of a value that could not be copied, or whose type a loading program did not name.

    It reads as the text that the model was shown of the value, and says what it was.

    Attributes:
        type_name: `module:qualified.name` of the original's class.
        data: the original's encoded content, where a file held it; written again on the next save.
    """

    type_name: str
    data: Any

    def __new__(cls, text: str, type_name: str, data: Any = None) -> StandIn:
        self = super().__new__(cls, text)
        self.type_name = type_name
        self.data = data
        return self

    @classmethod
    def of(cls, value: Any) -> StandIn:
        """The stand-in of a value that cannot be kept."""
        try:
            text = str(value)
        except Exception:
            text = f"<{type(value).__qualname__}>"
        return cls(text, type_name(type(value)))

    def __repr__(self) -> str:
        return f"StandIn({str(self)!r}, type_name={self.type_name!r})"

    def __getnewargs__(self) -> tuple[str, str, Any]:  # type: ignore[override]
        return str(self), self.type_name, self.data

    def __deepcopy__(self, memo: dict[int, Any]) -> StandIn:
        return self
