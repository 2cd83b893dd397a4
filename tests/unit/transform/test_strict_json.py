import inspect
import sys

import pytest

from clickstream_transform.strict_json import OutsizedInteger, parse_json


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\ufeff{}",
        "{} {}",
        "{}x",
        "NaN",
        '{"a": NaN}',
        "[Infinity]",
        "-Infinity",
        "{'a': 1}",
        '{"a": 1,}',
        "[1,]",
        "01",
        "+1",
        "1.",
        ".5",
        "0x1",
        '"tab\tinside"',
        '"\\x"',
        '"\\u12g4"',
        "\u00a0{}",
        "{}\x0b",
        "// comment\n{}",
        '"\\ud800"',
        '"\\uDC00"',
        '"\\udc00\\ud800"',
        '"\\ud800\\ud800\\udc00"',
        '"\\ud83d \\ude00"',
        '{"\\ud800": 1}',
        '{"unknown": {"deep": ["\\udfff"]}}',
        '{"a": "\\ud800", "a": 1}',
    ],
)
def test_what_rfc_8259_forbids(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (' \t\r\n{"a": [1, -2.5, 1e3, true, false, null]} ', {"a": [1, -2.5, 1000.0, True, False, None]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\\\ud800"', "\\ud800"),
        ('"\\ud83d\\ude00\\\\\\ud83d\\ude00"', "\U0001f600\\\U0001f600"),
        ('"\\u0000"', "\0"),
        ('"\U0001f600"', "\U0001f600"),
        ("9223372036854775808", 2**63),
        ("1" * 21, OutsizedInteger("1" * 21)),
    ],
)
def test_what_it_allows(text: str, expected: object) -> None:
    assert parse_json(text) == expected


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"[":', "}]")])
def test_nesting_is_bounded_exactly(opening: str, closing: str) -> None:
    levels = 1_024 // (opening.count("{") + opening.count("[", 0, 1))
    parse_json(opening * levels + "0" + closing * levels)
    with pytest.raises(ValueError, match="nesting"):
        parse_json("[" + opening * levels + "0" + closing * levels + "]")


def test_wide_is_not_deep() -> None:
    assert parse_json("[" + "[],{}," * 2_000 + "[]]") == [*([[], {}] * 2_000), []]
    assert parse_json('["' + "[{" * 2_000 + '\\"["]') == ["[{" * 2_000 + '"[']


def test_hostile_brackets_are_refused_quickly() -> None:
    with pytest.raises(ValueError, match="nesting"):
        parse_json("[" * 262_144)


def test_the_recursion_limit_is_restored() -> None:
    limit = sys.getrecursionlimit()
    parse_json("[" * 1_024 + "]" * 1_024)
    assert sys.getrecursionlimit() == limit


def test_deep_values_parse_from_deep_stacks() -> None:
    def descend(frames: int) -> object:
        return descend(frames - 1) if frames else parse_json("[" * 1_024 + "]" * 1_024)

    assert descend(sys.getrecursionlimit() - len(inspect.stack()) - 200)
