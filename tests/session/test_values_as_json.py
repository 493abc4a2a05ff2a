"""Each kind of value, the exact JSON that stands for it in files, and what cannot come back."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import math
import os
import pickle
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import dspy
import pydantic
import pytest

from dspy_session import StandIn
from dspy_session._exchange import Exchange, Projection
from dspy_session.codec.files import read_json, write_json
from dspy_session.codec.known_types import known_types
from dspy_session.codec.stand_in import type_name
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.errors import FormatError, SerializationError

HERE = __name__


class Colour(Enum):
    RED = "r"


class Level(IntEnum):
    LOW = 1


class Rights(Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Inner:
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    colour: Colour = Colour.RED
    made: int = dataclasses.field(init=False, default=0)


class Step(pydantic.BaseModel):
    what: str
    when: date | None = None


class Plan(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    steps: list[Step] = []


class Renamed(pydantic.BaseModel):
    inside: str = pydantic.Field(alias="outside")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    inside: str = pydantic.Field(alias="outside")


@dataclasses.dataclass
class Unresolved:
    there: Nowhere = None  # type: ignore[name-defined] # noqa: F821


class Shouting(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def upper(cls, value: str) -> str:
        return value + "!"


class Point(NamedTuple):
    x: int


class Money(Decimal):
    pass


class Moment(datetime):
    pass


class Span(timedelta):
    pass


def tagged(kind: str, /, **more: Any) -> dict[str, Any]:
    return {"$type": kind, **more}


ZONE = timezone(timedelta(hours=2))
MADE = Outer(Inner(("a",)))
object.__setattr__(MADE, "made", 3)
FORMS: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (7, 7),
    (1.5, 1.5),
    ("text", "text"),
    ([1, [2]], [1, [2]]),
    ({"a": {"b": 1}}, {"a": {"b": 1}}),
    (math.inf, tagged("float", value="inf")),
    (-math.inf, tagged("float", value="-inf")),
    ((1, (2,)), tagged("tuple", items=[1, tagged("tuple", items=[2])])),
    ({"b", "a"}, tagged("set", items=["a", "b"])),
    (frozenset({2, 1}), tagged("frozenset", items=[1, 2])),
    ({"b", 1}, tagged("set", items=["b", 1])),
    ({1: "a", "b": (2,)}, tagged("dict", items=[[1, "a"], ["b", tagged("tuple", items=[2])]])),
    ({"$type": "x"}, tagged("dict", items=[["$type", "x"]])),
    ({(1,): 2}, tagged("dict", items=[[tagged("tuple", items=[1]), 2]])),
    (b"\x00\xff", tagged("bytes", base64="AP8=")),
    (bytearray(b"hi"), tagged("bytearray", base64="aGk=")),
    (1 + 2j, tagged("complex", real=1.0, imag=2.0)),
    (complex(math.inf, 0), tagged("complex", real=tagged("float", value="inf"), imag=0.0)),
    (datetime(2026, 1, 2, 3, tzinfo=ZONE), tagged("datetime", iso="2026-01-02T03:00:00+02:00")),
    (date(2026, 1, 2), tagged("date", iso="2026-01-02")),
    (time(3, 4), tagged("time", iso="03:04:00")),
    (timedelta(1, 2, 3), tagged("timedelta", days=1, seconds=2, microseconds=3)),
    (Decimal("1.20"), tagged("decimal", value="1.20")),
    (UUID(int=1), tagged("uuid", value="00000000-0000-0000-0000-000000000001")),
    (Path("a/b"), tagged("path", value="a/b")),
    (Colour.RED, tagged("enum", **{"class": f"{HERE}:Colour"}, name="RED")),
    (Level.LOW, tagged("enum", **{"class": f"{HERE}:Level"}, name="LOW")),
    (Rights.READ, tagged("enum", **{"class": f"{HERE}:Rights"}, name="READ")),
    (Rights.READ | Rights.WRITE, tagged("enum", **{"class": f"{HERE}:Rights"}, value=3)),
    (
        MADE,
        tagged(
            "dataclass",
            **{"class": f"{HERE}:Outer"},
            fields={
                "inner": tagged(
                    "dataclass",
                    **{"class": f"{HERE}:Inner"},
                    fields={"names": tagged("tuple", items=["a"])},
                ),
                "colour": tagged("enum", **{"class": f"{HERE}:Colour"}, name="RED"),
                "made": 3,
            },
        ),
    ),
    (
        Plan(steps=[Step(what="look")], note="n"),
        tagged(
            "model",
            **{"class": f"{HERE}:Plan"},
            fields={
                "steps": [
                    tagged("model", **{"class": f"{HERE}:Step"}, fields={"what": "look", "when": None})
                ],
                "note": "n",
            },
        ),
    ),
    (
        Renamed(outside="x"),
        tagged("model", **{"class": f"{HERE}:Renamed"}, fields={"inside": "x"}),
    ),
    (Strict(outside="x"), tagged("model", **{"class": f"{HERE}:Strict"}, fields={"inside": "x"})),
    (Unresolved(3), tagged("dataclass", **{"class": f"{HERE}:Unresolved"}, fields={"there": 3})),
    (Shouting(text="hey"), tagged("model", **{"class": f"{HERE}:Shouting"}, fields={"text": "hey!"})),
    (
        dspy.History(messages=[{"q": (1,)}]),
        tagged(
            "model",
            **{"class": type_name(dspy.History)},
            fields={"messages": [{"q": tagged("tuple", items=[1])}]},
        ),
    ),
    (dspy.Prediction(answer="a"), tagged("prediction", fields={"answer": "a"}, inputs=None)),
    (
        dspy.Example(q=(1,), dspy_uuid="u"),
        tagged("example", fields={"q": tagged("tuple", items=[1]), "dspy_uuid": "u"}, inputs=None),
    ),
    (
        dspy.Example(q=1, a=2).with_inputs("q", "a"),
        tagged("example", fields={"q": 1, "a": 2}, inputs=["a", "q"]),
    ),
    (StandIn("text", "m:C", {"k": 1}), tagged("stand-in", **{"class": "m:C"}, text="text", data={"k": 1})),
]
TYPES = [Outer, Plan, Renamed, Strict, Unresolved, Shouting, Level, Rights]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=lambda each: type(each).__name__)
def test_every_kind_has_its_form_and_comes_back(value: Any, form: Any) -> None:
    written = Encoder(strict=True).value(value, "here")
    assert written == form
    back = Decoder(TYPES).value(json.loads(json.dumps(written)), "here")
    assert type(back) is type(value)
    if isinstance(value, (dspy.Example, dspy.Prediction)):
        assert dict(back.items(include_dspy=True)) == dict(value.items(include_dspy=True))
        assert getattr(back, "_input_keys", None) == getattr(value, "_input_keys", None)
    else:
        assert back == value
        assert getattr(back, "data", None) == getattr(value, "data", None)


def test_what_is_not_a_number_comes_back_too() -> None:
    written = Encoder().value(math.nan, "here")
    assert written == tagged("float", value="nan")
    assert math.isnan(Decoder().value(written, "here"))


def test_fields_are_written_by_name() -> None:
    assert Encoder().fields({"a": (1,), "b": 2}, "turn 0") == {"a": tagged("tuple", items=[1]), "b": 2}
    assert Decoder().fields({"a": tagged("tuple", items=[1]), "b": 2}, "turn 0") == {"a": (1,), "b": 2}
    with pytest.raises(FormatError, match=r"^turn 0: expected an object of fields, found list$"):
        Decoder().fields([1], "turn 0")


@pytest.mark.parametrize(
    "value",
    [
        Point(1),
        Money("1.2"),
        Moment(2026, 1, 2),
        Span(1),
        object(),
        Outer,
        [(Point(1),)],
        {"a": {1: Point(1)}},
        {Point(1): 1},
        {Point(1)},
        Inner(names=(Point(1),)),  # type: ignore[arg-type]
        Plan(extra=Point(1)),  # type: ignore[call-arg]
        dspy.History(messages=[{"q": Point(1)}]),
        dspy.Example(q=Point(1)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_would_not_come_back_is_told_with_its_place(value: Any) -> None:
    with pytest.raises(
        SerializationError, match=r"^turn 3, field 'q': a \S+ cannot be written so that it comes back$"
    ):
        Encoder(strict=True).fields({"q": value}, "turn 3")
    with pytest.warns(UserWarning, match=r"^turn 3, field 'q': a \S+ cannot keep its type in a file") as told:
        Encoder().fields({"q": value}, "turn 3")
    assert [Path(each.filename).name for each in told] != []


def test_a_stand_in_is_written_of_what_cannot_be() -> None:
    with pytest.warns(UserWarning, match="cannot keep its type"):
        written = Encoder().value(Point(1), "here")
    assert written == tagged("stand-in", **{"class": f"{HERE}:Point"}, text="Point(x=1)", data=None)
    back = Decoder([Point]).value(written, "here")
    assert (back, type(back), back.type_name, back.data) == ("Point(x=1)", StandIn, f"{HERE}:Point", None)


def test_a_value_that_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SerializationError, match=r"^turn 3: a value contains itself$"):
        Encoder().fields({"q": loop}, "turn 3")


@pytest.mark.parametrize(
    "value", [MADE, Plan(steps=[Step(what="look")]), Colour.RED, Rights.READ | Rights.WRITE]
)
def test_a_class_that_was_not_named_is_held_and_comes_back_later(value: Any) -> None:
    form = Encoder().value([value, value], "here")
    decoder = Decoder()
    with pytest.warns(UserWarning, match="is not known to this program") as told:
        held = decoder.value(form, "here")
    names = [str(each.message).split(" is not known")[0] for each in told]
    assert f"here: {HERE}:{type(value).__name__}" in names
    assert len(names) == len(set(names))
    assert [type(each) for each in held] == [StandIn, StandIn]
    assert held[0].type_name == f"{HERE}:{type(value).__name__}"
    again = Encoder().value(held, "here")
    assert Decoder().value(again, "here") == held
    assert Decoder([type(value), *TYPES]).value(again, "here") == [value, value]


def test_the_text_of_what_is_held_shows_its_fields() -> None:
    with pytest.warns(UserWarning, match=r"Step is not known to this program; pass types=\[…\]"):
        assert Decoder().value(Encoder().value(Step(what="look"), "h"), "h") == "what='look', when=None"
    with pytest.warns(UserWarning, match="is not known"):
        assert Decoder().value(Encoder().value(Colour.RED, "h"), "h") == "RED"
    with pytest.warns(UserWarning, match="is not known"):
        assert Decoder().value(Encoder().value(Rights.READ | Rights.WRITE, "h"), "h") == "3"


def test_annotations_name_classes_too() -> None:
    form = Encoder().value([MADE, Plan()], "here")
    for annotation in (dict[str, Outer | Plan], list[Outer] | tuple[Plan, ...]):
        assert Decoder(annotations=[annotation]).value(form, "here") == [MADE, Plan()]


@pytest.mark.parametrize(
    "form",
    [
        tagged("dataclass", **{"class": f"{HERE}:Inner"}, fields={"gone": 1}),
        tagged("dataclass", **{"class": f"{HERE}:Step"}, fields={"what": "x"}),
        tagged("model", **{"class": f"{HERE}:Inner"}, fields={"names": []}),
        tagged("model", **{"class": f"{HERE}:Step"}, fields={"when": None}),
        tagged("model", **{"class": f"{HERE}:Step"}, fields={"what": 3}),
        tagged("enum", **{"class": f"{HERE}:Colour"}, name="BLUE"),
        tagged("enum", **{"class": f"{HERE}:Colour"}, value="b"),
    ],
)
def test_a_class_that_has_changed_since_is_held(form: dict[str, Any]) -> None:
    with pytest.warns(
        UserWarning, match=r"^here: \S+ no longer takes what the file holds \(\w+Error\)\. A StandIn holds"
    ):
        held = Decoder([Inner, Step, Colour]).value(form, "here")
    assert (type(held), held.type_name, held.data) == (StandIn, form["class"], form)
    fields = form.get("fields", {})
    shown = form.get(
        "name", form.get("value", ", ".join(f"{name}={item!r}" for name, item in fields.items()))
    )
    assert held == shown
    assert Encoder(strict=True).value(held, "here")["data"] == form


def test_a_model_whose_fields_have_aliases_may_lack_what_it_need_not_have() -> None:
    form = tagged("model", **{"class": f"{HERE}:Plan"}, fields={})
    assert Decoder([Plan]).value(form, "here") == Plan()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (tagged("unknown"), r"^here: unknown \$type 'unknown'$"),
        ({"$type": 3}, r"^here: unknown \$type 3$"),
        ({"$type": ["tuple"]}, r"unknown \$type"),
        (tagged("tuple"), r"^here: damaged tuple \(KeyError"),
        (tagged("tuple", items=3), r"^here: damaged tuple \(TypeError"),
        (tagged("set", items=[[1]]), r"^here: damaged set \(TypeError"),
        (tagged("bytes", base64="%%%"), r"^here: damaged bytes"),
        (tagged("bytearray", base64="%%%"), r"^here: damaged bytearray"),
        (tagged("float", value="1"), r"^here: damaged float \(KeyError"),
        (tagged("date", iso="soon"), r"^here: damaged date \(ValueError"),
        (tagged("decimal", value="x"), r"^here: damaged decimal \(InvalidOperation"),
        (tagged("dict", items=[[1]]), r"^here: damaged dict \(ValueError"),
        (
            tagged("dataclass", **{"class": "m:C"}, fields=3),
            r"^here: expected an object of fields, found int$",
        ),
        (
            tagged("stand-in", **{"class": "m:C"}, text=3),
            r"^here: damaged stand-in \(TypeError: text and class",
        ),
        (
            tagged("stand-in", **{"class": 3}, text="x"),
            r"^here: damaged stand-in \(TypeError: text and class",
        ),
        ([tagged("tuple", items=[tagged("x")])], r"^here: unknown"),
        ({"a": tagged("x")}, r"^here: unknown"),
    ],
)
def test_damage_is_told_with_its_place(form: Any, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        Decoder().value(form, "here")


def test_damage_inside_a_field_is_told_with_the_field() -> None:
    form = tagged("dataclass", **{"class": f"{HERE}:Inner"}, fields={"names": tagged("x")})
    with pytest.raises(FormatError, match=r"^here, field 'names': unknown"):
        Decoder([Inner]).value(form, "here")
    held = tagged("stand-in", **{"class": f"{HERE}:Inner"}, text="x", data=form)
    with pytest.raises(FormatError, match=r"^here, field 'names': unknown"):
        Decoder([Inner]).value(held, "here")
    example = tagged("example", fields={"q": tagged("x")}, inputs=None)
    with pytest.raises(FormatError, match=r"^here, field 'q': unknown"):
        Decoder().value(example, "here")
    with pytest.raises(FormatError, match=r"^turn 1, field 'q': unknown"):
        Decoder().fields({"q": tagged("x")}, "turn 1")


def test_dspys_own_types_are_known() -> None:
    known = known_types()
    assert {name.rpartition(":")[2] for name in known} >= {
        "History",
        "Image",
        "Tool",
        "ToolCalls",
        "ToolCalls.ToolCall",
    }
    image = dspy.Image("data:image/png;base64," + base64.b64encode(b"png").decode())
    calls = dspy.ToolCalls(tool_calls=[dspy.ToolCalls.ToolCall(name="look", args={"at": (1,)})])
    for value in (image, calls):
        assert (
            Decoder().value(json.loads(json.dumps(Encoder(strict=True).value(value, "here"))), "here")
            == value
        )


def test_a_stand_in_copies_as_itself() -> None:
    held = StandIn("text", "m:C", {"k": 1})
    twin = pickle.loads(pickle.dumps(held))
    assert (twin, twin.type_name, twin.data) == ("text", "m:C", {"k": 1})
    assert copy.deepcopy(held) is held
    assert repr(held) == "StandIn('text', type_name='m:C')"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_value_without_a_text_is_named() -> None:
    assert StandIn.of(Mute()) == "<Mute>"
    assert StandIn.of(Mute()).type_name == f"{HERE}:Mute"


def test_a_field_that_a_model_has_no_more_is_let_go() -> None:
    form = tagged("model", **{"class": f"{HERE}:Step"}, fields={"what": "look", "when": None, "gone": 1})
    assert Decoder([Step]).value(form, "here") == Step(what="look")


def test_a_message_of_a_history_is_a_dict() -> None:
    message = Exchange({"q": (1,)}, {"a": 2}).message(Projection())
    assert Encoder(strict=True).value(message, "here") == {"q": tagged("tuple", items=[1]), "a": 2}


@pytest.mark.parametrize("value", [Point(1), Money("1.2"), Moment(2026, 1, 2), Span(1)], ids=repr)
def test_the_class_of_what_cannot_be_written_is_named(value: Any) -> None:
    with pytest.raises(
        SerializationError, match=rf"^here: a {HERE}:{type(value).__name__} cannot be written"
    ):
        Encoder(strict=True).value(value, "here")
    with pytest.warns(UserWarning, match="cannot keep its type"):
        assert Encoder().value(value, "here")["text"] == str(value)


def test_a_file_is_for_people_too(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, {"name": "Zoë \ud800", "items": [1]})
    text = path.read_text(encoding="utf-8", errors="surrogatepass")
    assert text == '{\n  "name": "Zoë \ud800",\n  "items": [\n    1\n  ]\n}'
    assert read_json(path) == {"name": "Zoë \ud800", "items": [1]}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": math.nan})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["data.json"]


@pytest.mark.parametrize(("mask", "mode"), [(0o027, 0o640), (0o002, 0o664)])
def test_a_new_file_may_be_read_by_those_whom_the_umask_lets(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "data.json", {})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "data.json").stat().st_mode & 0o777 == mode


def test_a_file_is_written_beside_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[Path] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(Path(old)), replace(old, new)))
    write_json(tmp_path / "data.json", {})
    # Only inside one file system is a file put in the place of another at once.
    assert [each.parent for each in moved] == [tmp_path]
