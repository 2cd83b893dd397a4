import re
import unicodedata

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from clickstream_transform.referrer import host_of
from clickstream_transform.tables.pages_by_window import path_of
from tests.kit.examples import examples

HOSTS = {
    None: "(direct)",
    "": "(direct)",
    " ": "(invalid)",
    "\n": "(invalid)",
    "shop.example": "(invalid)",
    "//shop.example": "(invalid)",
    "mailto:a@shop.example": "(invalid)",
    "https:/shop.example": "(invalid)",
    "https:// ": " ",
    "https://\n/": "\n",
    "https://a\nB/c": "a\nb",
    "x\ny://shop.example": "shop.example",
    "://shop.example": "shop.example",
    "https://Shop.Example": "shop.example",
    "https://shop.example/a://b": "shop.example",
    "https://shop.example?a=https://b": "shop.example",
    "a://b://c": "b",
    "://://": "(invalid)",
    "https:///": "(invalid)",
    "https://?": "(invalid)",
    "https://#a": "(invalid)",
    "https://u:p@shop.example:8080": "shop.example",
    "https://a@b@c@shop.example": "shop.example",
    "https://shop.example/@b": "shop.example",
    "https://u@": "(invalid)",
    "https://u@:80": "(invalid)",
    "https://:80": "(invalid)",
    "https://shop.example:": "shop.example",
    "https://shop.example:80:90": "shop.example",
    "https://[::1]:80": "[::1]",
    "https://[::1]": "[::1]",
    "https://u@[FE80::A%25eth0]:443/a": "[fe80::a%25eth0]",
    "https://[]": "[]",
    "https://[::1": "[",
    "https://\u0130.example": "i\u0307.example",
    "https://\u0391\u03a3": "\u03b1\u03c2",
    "https://\u0391\u03a3\u0391": "\u03b1\u03c3\u03b1",
    "https://\u0391\u03a3.example": "\u03b1\u03c3.example",
    "https://\u03a3": "\u03c3",
    "https://STRASSE.\u1e9e": "strasse.\u00df",
    "https://\U00010400": "\U00010428",
    "x" * 1_000 + "://" + "Y" * 21: "y" * 21,
    "://" * 300: "(invalid)",
    "://" + "[" * 1_000: "[" * 1_000,
    "://" + "a@" * 500: "(invalid)",
}
PAGES = {
    "/": "/",
    "?": "/",
    "#": "/",
    "": "/",
    "?#": "/",
    "#?": "/",
    "/?": "/",
    "/a?b#c?d": "/a",
    "/a#b?c": "/a",
    " ": " ",
    "\n": "\n",
    "a\n?b\n#": "a\n",
    "/%3F": "/%3F",
    "/A/": "/A/",
    "/\U0001f600?": "/\U0001f600",
}
TEXTS = st.lists(st.sampled_from([*":/?#@[].aB\n \\$\u00c9\U0001f600", "://", "https://"]), max_size=12).map("".join)


def values(spark: SparkSession, texts: list[str | None]) -> tuple[list[str], list[str]]:
    """Hosts and pages of texts."""
    frame = spark.createDataFrame(pa.table({"text": pa.array(texts, pa.string())}))
    table = frame.select(host_of("text").alias("host"), path_of("text").alias("path")).toArrow()
    return table["host"].to_pylist(), table["path"].to_pylist()


def test_hosts_and_pages(steps_session: SparkSession) -> None:
    hosts, pages = values(steps_session, [*HOSTS, *PAGES])
    assert dict(zip(HOSTS, hosts, strict=False)) == HOSTS
    assert dict(zip(PAGES, pages[len(HOSTS) :], strict=True)) == PAGES


def test_lower_case_is_the_same_in_python(steps_session: SparkSession) -> None:
    """For the characters of Unicode 3.2: later letters depend on which Unicode a library knows."""
    known = (chr(code) for code in range(1, 0x110000))
    letters = [letter for letter in known if unicodedata.ucd_3_2_0.category(letter) not in {"Cn", "Cs", "Co"}]
    inside = [letter for letter in letters if letter not in "/?#@:[]"]
    hosts, _ = values(steps_session, [f"://{letter}" for letter in inside])
    assert [(letter, host) for letter, host in zip(inside, hosts, strict=True) if host != letter.lower()] == []


def host(referrer: str) -> str:
    rest = referrer.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    address = re.match(r"\[[^]]*]", authority)
    return (address[0] if address else authority.partition(":")[0]).lower() or "(invalid)"


@settings(max_examples=examples(short=3, long=60), suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, min_size=150, max_size=300))
def test_any_text_has_the_host_and_page_that_python_finds(steps_session: SparkSession, texts: list[str]) -> None:
    hosts, pages = values(steps_session, list(texts))
    assert hosts == [host(text) if text else "(direct)" for text in texts]
    assert pages == [text.partition("?")[0].partition("#")[0] or "/" for text in texts]
