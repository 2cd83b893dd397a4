"""The page Pipeline health says what the ledger says, to those who are logged in, and says so when it can't."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright
from psycopg.rows import dict_row
from pyspark.sql import SparkSession

from infra.local import credentials
from infra.local.airflow_api import AirflowApi
from infra.local.stack import ADMIN, Stack
from tests.kit.events import at, values
from tests.kit.pipeline import RUN, Pipeline
from tests.kit.programs import require
from tests.kit.records import event
from tests.kit.services import superuser

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",  # root has no other way; it shows only this stack's own page
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=30_000)
HOSTILE = "<script>pwned = 1</script><img src=x onerror='pwned = 1'>"
SECONDS = 1000
WIDE, NARROW = ViewportSize(width=1400, height=900), ViewportSize(width=380, height=800)


# What is shown


@pytest.fixture(scope="module")
def seen(stack: Stack, template: str, spark: SparkSession) -> Iterator[Pipeline]:  # noqa: ARG001 - copied before data come
    """The stack's own ledger with a published batch, landed records, rejects, checks and an audit."""
    view = Pipeline.of(stack)
    fresh = values(60)
    old = json.dumps(event(eventId="old", eventTime=at(datetime.now(UTC) - timedelta(days=3)))).encode()
    named = json.dumps(event(eventType=HOSTILE)).encode()
    view.produce([*fresh, *fresh[:6], (0, old), (0, None), (1, HOSTILE.encode()), (2, named)])
    view.drain_all()
    view.aggregate_all(spark)
    view.produce(values(65)[60:])
    view.drain_all()
    view.conn.execute("DELETE FROM ledger.health_checks")  # of other tests on this stack
    for component, status, reason in (
        ("kafka", "ok", "1 broker"),
        ("storage", "down", f"Could not write: {HOSTILE}"),
        ("postgresql", "degraded", "9 % of the disk is free. Free some."),
    ):
        view.conn.execute(
            "INSERT INTO ledger.health_checks (component, status, latency_seconds, reason, dag_run_id)"
            " VALUES (%s, %s, 0.25, %s, 'run')",
            [component, status, reason],
        )
    view.conn.execute(
        "INSERT INTO ledger.audits SELECT now(), check_name, sum(value), sum(unaccounted)"
        " FROM ledger.conservation GROUP BY check_name"
    )
    yield view
    view.conn.execute("DELETE FROM ledger.health_checks")
    view.conn.execute("DELETE FROM ledger.audits")
    view.close()


@pytest.fixture(scope="module")
def jwt(stack: Stack) -> str:
    with AirflowApi(stack) as api:
        return str(api._client.headers["Authorization"]).removeprefix("Bearer ")


def state(stack: Stack, jwt: str, **asked: object) -> dict[str, Any]:
    answer = httpx.get(
        f"{stack.airflow_url}/clickstream/health/state",
        params={name: str(value) for name, value in asked.items()},
        headers={"Authorization": f"Bearer {jwt}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# Who may see it


def test_strangers_get_no_state_and_are_sent_to_the_login(stack: Stack) -> None:
    url = f"{stack.airflow_url}/clickstream/health"
    for headers in ({}, {"Cookie": "_token="}):
        assert httpx.get(f"{url}/state", headers=headers, timeout=30).status_code == 401
        page = httpx.get(f"{url}?batch=1", headers=headers, timeout=30)
        assert page.status_code == 307
        assert page.headers["location"] == "../api/v2/auth/login?next=%2Fclickstream%2Fhealth%3Fbatch%3D1"
    for token in ("x", credentials.token(stack, "metrics_token")):
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/state", headers=bearer, timeout=30).status_code == 403
        assert httpx.get(url, headers=bearer, timeout=30).status_code == 403


def test_a_logged_in_user_gets_page_and_state_under_a_strict_policy(stack: Stack, jwt: str) -> None:
    for path in ("health", "health/state", "static/health.js", "static/health.css", "static/icon.svg"):
        answer = httpx.get(f"{stack.airflow_url}/clickstream/{path}", cookies={"_token": jwt}, timeout=30)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] in {"no-cache", "no-store"}
    assert httpx.get(f"{stack.airflow_url}/clickstream/static/..%2Fapp.py", timeout=30).status_code in {404, 422}
    assert httpx.get(f"{stack.airflow_url}/clickstream/static/health.html", timeout=30).status_code == 422


@pytest.mark.parametrize("asked", ["batch=0", "batch=x", "batch=9223372036854775808", f"drain_run={'x' * 251}"])
def test_what_cannot_exist_is_refused(stack: Stack, jwt: str, asked: str) -> None:
    url = f"{stack.airflow_url}/clickstream/health/state?{asked}"
    assert httpx.get(url, headers={"Authorization": f"Bearer {jwt}"}, timeout=30).status_code == 422


def test_a_locked_ledger_is_given_up_soon_and_says_so(stack: Stack, jwt: str, seen: Pipeline) -> None:
    with seen.connect() as writer, writer.transaction():
        writer.execute("LOCK TABLE ledger.batches IN ACCESS EXCLUSIVE MODE")
        answer = httpx.get(
            f"{stack.airflow_url}/clickstream/health/state", headers={"Authorization": f"Bearer {jwt}"}, timeout=30
        )
    assert answer.status_code == 503
    assert "The ledger can't be read (QueryCanceled)" in answer.json()["detail"]
    assert answer.elapsed < timedelta(seconds=20)


# The page in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require("chromium")
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


@dataclass
class Complaints:
    """What a browser's console and network complain about."""

    found: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("requestfailed", lambda request: self.found.append(f"{request.url} {request.failure}"))
        page.on(
            "response",
            lambda answer: self.found.append(f"{answer.url} {answer.status}") if answer.status >= 400 else None,
        )

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium says of Airflow's own frame that its sandbox is a weak one.
        if message.type in {"error", "warning"} and "can escape its sandboxing" not in message.text:
            self.found.append(message.text)


def cookies(stack: Stack, jwt: str) -> list[Any]:
    return [{"name": "_token", "value": jwt, "url": stack.airflow_url, "httpOnly": True}]


@contextmanager
def opened(
    browser: Browser, stack: Stack, jwt: str, query: str = "", **options: Any
) -> Iterator[tuple[Page, Complaints]]:
    """The page, loaded, in a browser that is logged in, with a clock that the test can move."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    context.add_cookies(cookies(stack, jwt))
    page = context.new_page()
    page.set_default_timeout(60 * SECONDS)
    page.clock.install()
    complaints = Complaints()
    complaints.listen(page)
    page.goto(f"{stack.airflow_url}/clickstream/health{query}")
    expect(page.locator("#main")).to_be_visible(timeout=60 * SECONDS)
    yield page, complaints
    context.close()


def poll_again(page: Page) -> None:
    """Let the page's clock reach its next poll."""
    page.clock.run_for(11 * SECONDS)


def table(page: Page, section: str) -> list[list[str]]:
    """The texts of a table's cells, without ages."""
    return [
        [re.sub(r"\s+(\d+ (s|min|h|d)\s?)+ago$", "", cell.inner_text()).strip() for cell in row.locator("th, td").all()]
        for row in page.locator(f"#{section} tbody tr").all()
    ]


def grouped(number: int | None) -> str:
    return "\N{EN DASH}" if number is None else f"{number:,}"


def rows(view: Pipeline, query: str) -> list[dict[str, Any]]:
    with view.conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def test_the_page_shows_what_the_ledger_says_without_complaint(
    browser: Browser, stack: Stack, jwt: str, seen: Pipeline
) -> None:
    with opened(browser, stack, jwt) as (page, complaints):
        shown = {name: table(page, name) for name in ("partitions", "batches", "checks", "conservation", "rejects")}
        offsets = ("next_offset", "log_start_offset", "log_end_offset")
        assert [[*row[0].split("/"), row[2], *row[6:9]] for row in shown["partitions"]] == [
            [row["topic"], str(row["partition"]), *(grouped(row[name]) for name in ("lag_records", *offsets))]
            for row in rows(seen, "SELECT * FROM ledger.lag ORDER BY topic, partition")
        ]
        numbers = ("planned", "landed", "absent", "lost", "accepted", "duplicate", "late", "rejected", "attempt")
        assert [[row[0], row[1], *row[3:7], *row[8:12], row[17]] for row in shown["batches"]] == [
            [str(row["batch_id"]), row["state"], *(grouped(row[name]) for name in numbers)]
            for row in rows(seen, "SELECT * FROM ledger.batches ORDER BY batch_id DESC LIMIT 20")
        ]
        assert {(row[7], row[12]) for row in shown["batches"]} == {("yes", "yes")}
        assert [row[:2] for row in shown["checks"]] == [
            ["storage", "down"], ["postgresql", "degraded"], ["kafka", "ok"],
        ]  # fmt: skip
        assert {tuple(row) for row in shown["conservation"]} == {
            (r["check_name"], grouped(r["value"]), grouped(r["unaccounted"]))
            for r in rows(
                seen, "SELECT * FROM ledger.audits WHERE audited_at = (SELECT max(audited_at) FROM ledger.audits)"
            )
        }
        assert {(row[0], row[2]) for row in shown["rejects"]} == {
            (r["reason"], grouped(r["sum"]))
            for r in rows(seen, "SELECT reason, sum(records)::int FROM ledger.rejected_counts GROUP BY 1")
        }
        events = page.locator("#windows tbody td:nth-child(2) span[title]")
        loaded = page.locator("#as-of").inner_text().removeprefix("As of ").partition(",")[0]
        hours = rows(
            seen,
            f"SELECT * FROM analytics.traffic_by_window WHERE window_minutes = 60 AND window_start <= '{loaded}'"
            f" AND window_start > date_trunc('hour', '{loaded}'::timestamptz, 'UTC') - interval '6 hours'"
            " ORDER BY window_start DESC",
        )
        assert hours
        for window, row in zip(events.all(), hours, strict=True):
            assert window.get_attribute("title") == (
                f"{row['status']}, revision {row['revision']}, last published by batch {row['batch_id']}"
            )
            assert (window.text_content() or "").startswith(grouped(row["events"]))
        watermark = seen.one("SELECT min(watermark) FROM ledger.watermarks")
        assert f"{watermark.astimezone(UTC):%H:%M:%S}" in page.locator("#partitions-note").inner_text()
        waiting = seen.one("SELECT sum(end_offset - first_offset)::int FROM ledger.unpublished_segments")
        assert (
            f"{grouped(waiting)} offsets landed and not yet published" in page.locator("#partitions-note").inner_text()
        )
        answers = [row.split("\n") for row in page.locator("#verdict > div").all_inner_texts()]
        assert [one[0].split()[0] for one in answers] == ["Fresh", "Complete", "Correct", "Running"]
        assert page.title().startswith("Running: no")
        assert complaints.found == []


def test_a_batch_and_a_drain_run_open_by_link_and_lead_to_each_other(
    browser: Browser, stack: Stack, jwt: str, seen: Pipeline
) -> None:
    batch_id = seen.one("SELECT max(batch_id) FROM ledger.batches")
    with opened(browser, stack, jwt, f"?batch={batch_id}#detail") as (page, complaints):
        detail = page.locator("#detail")
        expect(detail.get_by_role("heading", level=2)).to_have_text(f"Batch {batch_id}")
        segments = rows(seen, f"SELECT * FROM ledger.segments WHERE batch_id = {batch_id}")
        for segment in segments:
            expect(detail).to_contain_text(segment["path"])
        assert detail.locator("tbody").nth(1).locator("tr").count() == len(segments)
        spark = detail.get_by_role("link", name="Spark log").get_attribute("href")
        run = quote(RUN, safe="")
        assert spark == f"{stack.airflow_url}/dags/aggregate_clickstream/runs/{run}/tasks/aggregate"
        detail.get_by_role("link", name=RUN).last.click()
        expect(detail.get_by_role("heading", level=2)).to_have_text("Offsets of a drain run")
        expect(detail).to_contain_text(segments[0]["path"])
        detail.get_by_role("link", name=str(batch_id), exact=True).first.click()
        expect(detail.get_by_role("heading", level=2)).to_have_text(f"Batch {batch_id}")
        detail.get_by_role("link", name="Close").click()
        expect(page.locator("#main")).to_be_visible()
        expect(detail).to_be_hidden()
        page.goto(f"{stack.airflow_url}/clickstream/health?batch=999999")
        expect(detail).to_contain_text("There is no batch 999999")
        assert complaints.found == []


def test_hostile_texts_stay_text(browser: Browser, stack: Stack, jwt: str, seen: Pipeline) -> None:
    seen.conn.execute(
        "UPDATE ledger.partitions SET stopped = 'create_time', stopped_reason = %s, stopped_at = now()"
        " WHERE partition = 2",
        [f"Run declare_loss. {HOSTILE}"],
    )
    try:
        with opened(browser, stack, jwt) as (page, complaints):
            expect(page.locator("#checks")).to_contain_text(f"Could not write: {HOSTILE}")
            expect(page.locator("#partitions tr.note")).to_contain_text(f"Run declare_loss. {HOSTILE}")
            expect(page.locator("#verdict")).to_contain_text("Stopped: clickstream-events/2")
            masked = re.sub(r"[^\W_]", "*", HOSTILE)
            expect(page.locator("#rejects")).to_contain_text(masked)
            assert page.locator("main :is(script, img)").count() == 0
            assert page.evaluate("window.pwned") is None
            assert "pwned" not in page.locator("#rejects").inner_text()
            assert complaints.found == []
    finally:
        seen.conn.execute("UPDATE ledger.partitions SET stopped = NULL, stopped_reason = NULL, stopped_at = NULL")


def test_an_equation_that_does_not_hold_is_marked(browser: Browser, stack: Stack, jwt: str, seen: Pipeline) -> None:
    batch_id = seen.one("SELECT max(batch_id) FROM ledger.batches")
    with superuser(stack, "clickstream") as conn:
        (rule,) = conn.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'batch_records_conserved'"
        ).fetchone() or ("",)
        conn.execute("ALTER TABLE ledger.batches DROP CONSTRAINT batch_records_conserved")
        conn.execute("UPDATE ledger.batches SET late = late - 3 WHERE batch_id = %s", [batch_id])
        try:
            with opened(browser, stack, jwt) as (page, _):
                row = page.locator("#batches tr.broken")
                expect(row).to_have_count(1)
                expect(row).to_contain_text("no: 3")
                expect(page.locator("#verdict")).to_contain_text(f"The equation of batch {batch_id} does not hold.")
        finally:
            conn.execute("UPDATE ledger.batches SET late = late + 3 WHERE batch_id = %s", [batch_id])
            conn.execute(f"ALTER TABLE ledger.batches ADD CONSTRAINT batch_records_conserved {rule}")


# Live


@pytest.fixture
def clocked(browser: Browser, stack: Stack, jwt: str, seen: Pipeline) -> Iterator[Page]:  # noqa: ARG001
    with opened(browser, stack, jwt) as (page, _):
        yield page


def test_news_come_by_themselves_and_leave_the_focus_where_it_is(clocked: Page, seen: Pipeline) -> None:
    link = clocked.locator("#batches tbody a").first
    link.focus()
    seen.conn.execute(
        "INSERT INTO ledger.health_checks (component, status, latency_seconds, reason, dag_run_id)"
        " VALUES ('kafka', 'degraded', 1, 'One broker of three is gone.', 'run')"
    )
    poll_again(clocked)
    expect(clocked.locator("#checks")).to_contain_text("One broker of three is gone.")
    expect(link).to_be_focused()
    seen.conn.execute("DELETE FROM ledger.health_checks WHERE reason = 'One broker of three is gone.'")


def test_a_lost_connection_is_shown_with_the_age_of_the_data_and_recovers(clocked: Page) -> None:
    banner = clocked.locator("#connection")
    expect(banner).to_be_hidden()
    clocked.context.set_offline(True)
    poll_again(clocked)
    expect(banner).to_contain_text("Connection lost: Airflow's API server does not answer. What you see is from")
    expect(banner).to_be_visible()
    said = banner.locator("[role=status]").inner_text()
    clocked.clock.run_for(300 * SECONDS)
    expect(clocked.locator("#age")).to_have_text(re.compile(r"^[5-9] min old$"))
    assert banner.locator("[role=status]").inner_text() == said
    expect(clocked.locator("#batches tbody tr").first).to_be_visible()
    clocked.context.set_offline(False)
    poll_again(clocked)
    expect(banner).to_be_hidden()
    expect(clocked.locator("#as-of")).to_contain_text(re.compile(r", \d+ s ago"))


def test_a_ledger_that_cannot_be_read_is_shown_with_the_reason(clocked: Page, seen: Pipeline) -> None:
    with seen.connect() as writer, writer.transaction():
        writer.execute("LOCK TABLE ledger.batches IN ACCESS EXCLUSIVE MODE")
        poll_again(clocked)
        expect(clocked.locator("#connection")).to_contain_text("The ledger can't be read (QueryCanceled)")
        expect(clocked.locator("#connection")).to_be_visible()
    poll_again(clocked)
    expect(clocked.locator("#connection")).to_be_hidden()


def test_a_logged_out_session_is_shown_and_recovers_with_the_login(clocked: Page, stack: Stack, jwt: str) -> None:
    clocked.context.clear_cookies()
    poll_again(clocked)
    expect(clocked.locator("#connection")).to_contain_text("You are logged out of Airflow. What you see is from")
    expect(clocked.get_by_role("link", name="Log in again")).to_be_visible()
    clocked.context.add_cookies(cookies(stack, jwt))
    poll_again(clocked)
    expect(clocked.locator("#connection")).to_be_hidden()


def test_a_hidden_page_asks_nothing(clocked: Page) -> None:
    asked: list[str] = []
    clocked.on("request", lambda request: asked.append(request.url))
    hide = "value => { Object.defineProperty(document, 'hidden', { value, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    clocked.evaluate(hide, True)  # noqa: FBT003
    asked.clear()  # of a poll before
    clocked.clock.run_for(120 * SECONDS)
    assert asked == []
    with clocked.expect_request("**/health/state*"):
        clocked.evaluate(hide, False)  # noqa: FBT003


def test_who_is_not_logged_in_logs_in_and_comes_back_to_the_page(
    browser: Browser, stack: Stack, seen: Pipeline
) -> None:
    batch_id = seen.one("SELECT max(batch_id) FROM ledger.batches")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60 * SECONDS)
    page.goto(f"{stack.airflow_url}/clickstream/health?batch={batch_id}")
    page.locator('input[name="username"]').fill(ADMIN)
    page.locator('input[name="password"]').fill(credentials.token(stack, "airflow_admin"))
    page.locator('button[type="submit"]').click()
    expect(page.locator("#detail h2")).to_have_text(f"Batch {batch_id}", timeout=60 * SECONDS)
    context.close()


# For everyone


ROLES = """() => ({
    tables: [...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('thead th[scope]')),
    rows: [...document.querySelectorAll('tbody tr')].every(r => r.querySelector('th[scope=row], td[colspan]')),
    headings: [...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1])),
    landmarks: ['header', 'nav[aria-label]', 'main'].every(l => document.querySelectorAll(l).length === 1),
    lang: document.documentElement.lang,
})"""


def test_the_keyboard_reaches_everything_and_the_focus_shows(
    browser: Browser, stack: Stack, jwt: str, seen: Pipeline
) -> None:
    batch_id = seen.one("SELECT max(batch_id) FROM ledger.batches")
    with opened(browser, stack, jwt, f"?batch={batch_id}") as (page, _):
        found = page.evaluate(ROLES)
        headings = found.pop("headings")
        assert found == {"tables": True, "rows": True, "landmarks": True, "lang": "en"}
        assert headings[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
        page.evaluate(
            "window.all = [...document.querySelectorAll('a[href], [tabindex=\"0\"]')].filter(e => e.checkVisibility())"
        )
        wanted = page.evaluate("window.all.length")
        assert wanted > 20
        reached = []
        for _number in range(wanted):
            page.keyboard.press("Tab")
            position, outline = page.evaluate(
                "[window.all.indexOf(document.activeElement), getComputedStyle(document.activeElement).outlineStyle]"
            )
            reached.append(position)
            assert outline == "solid"
        assert reached == list(range(wanted))


CONTRAST = """() => {
    const pixel = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d',
        { willReadFrequently: true });
    const rgb = (...layers) => {
        pixel.clearRect(0, 0, 1, 1);
        for (const layer of layers) { pixel.fillStyle = layer; pixel.fillRect(0, 0, 1, 1); }
        return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = color => color.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const found = {};
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const element = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
        const back = light(rgb(...layers)), front = light(rgb(...layers, getComputedStyle(element).color));
        const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
        if (ratio < 4.5) found[`${element.tagName}.${element.className} ${walk.currentNode.data.slice(0, 30)}`] = ratio;
    }
    return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_can_be_read_in_every_theme_and_width(
    browser: Browser, stack: Stack, jwt: str, seen: Pipeline, tmp_path: Path, *, theme: str, viewport: ViewportSize
) -> None:
    seen.conn.execute(
        "UPDATE ledger.partitions SET stopped = 'expired', stopped_reason = 'Run declare_loss.', stopped_at = now()"
        " WHERE partition = 1"
    )
    batch_id = seen.one("SELECT max(batch_id) FROM ledger.batches")
    try:
        with opened(browser, stack, jwt, f"?batch={batch_id}", viewport=viewport, color_scheme=theme) as (
            page,
            complaints,
        ):
            page.screenshot(path=tmp_path / f"{theme}-{viewport['width']}.png", full_page=True)
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            assert dark == (theme == "dark")
            assert page.evaluate(CONTRAST) == {}
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            page.context.set_offline(True)
            poll_again(page)
            expect(page.locator("#connection")).to_be_visible()
            assert page.evaluate(CONTRAST) == {}
            page.screenshot(path=tmp_path / f"{theme}-{viewport['width']}-lost.png")
            assert [text for text in complaints.found if "ERR_INTERNET_DISCONNECTED" not in text] == []
    finally:
        seen.conn.execute("UPDATE ledger.partitions SET stopped = NULL, stopped_reason = NULL, stopped_at = NULL")


# Inside of Airflow's UI


def test_it_is_in_the_navigation_follows_the_theme_and_its_links_work(
    browser: Browser, stack: Stack, jwt: str, seen: Pipeline, tmp_path: Path
) -> None:
    batch_id = seen.one("SELECT max(batch_id) FROM ledger.batches")
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    context.add_cookies(cookies(stack, jwt))
    context.add_init_script("localStorage.getItem('theme') ?? localStorage.setItem('theme', 'dark')")
    page = context.new_page()
    page.set_default_timeout(60 * SECONDS)
    page.clock.install()
    page.goto(stack.airflow_url)
    page.get_by_role("link", name="Pipeline health").or_(page.locator("[href$='pipeline-health']")).first.click()
    frame = page.frame_locator("iframe[title='Pipeline health']")
    expect(frame.locator("#main")).to_be_visible(timeout=60 * SECONDS)
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    page.screenshot(path=tmp_path / "airflow-dark.png")
    page.evaluate("document.documentElement.classList.replace('dark', 'light')")
    expect(frame.locator("html")).to_have_attribute("data-theme", "light")
    frame.locator("#batches").get_by_role("link", name=str(batch_id), exact=True).click()
    expect(frame.locator("#detail h2")).to_have_text(f"Batch {batch_id}")
    inside = f"/plugin/pipeline-health/clickstream/health?batch={batch_id}"
    expect(page).to_have_url(re.compile(re.escape(inside)))
    frame.get_by_role("link", name="Spark log").click()
    expect(page).to_have_url(re.compile(r"/dags/aggregate_clickstream/runs/.*/tasks/aggregate"))
    page.goto(f"{stack.airflow_url}{inside}")
    expect(frame.locator("#detail h2")).to_have_text(f"Batch {batch_id}")
    with context.expect_page() as apart:
        frame.get_by_role("link", name="Spark log").click(modifiers=["Control"])
    assert "/tasks/aggregate" in apart.value.url
    context.clear_cookies()
    poll_again(page)
    expect(frame.locator("#connection").or_(page.locator('input[name="username"]'))).to_be_visible()
    context.close()
