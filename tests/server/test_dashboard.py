"""The dashboard in a real browser: Chromium without a window, on the machine's own installation."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_session.server import running
from dspy_session.server._questions import report_rows
from tests.server.histories import conversation, grown, written

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
REQUIRED = os.environ.get("DSPY_SESSION_REQUIRE_BROWSER") == "1"
pytestmark = pytest.mark.skipif(
    BROWSER is None and not REQUIRED,
    reason="no Chromium here: apt-get install chromium, or name one in CHROMIUM",
)
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
VIEWS = [
    "",
    "sessions",
    "skills",
    "tools",
    "models",
    "cost",
    "cost?measure=tokens&grain=month",
    "reports",
    "report/overview",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the module."""
    with sync_api.sync_playwright() as playwright:
        # Without its sandbox, which needs rights that containers do not give.
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Page:
    """A page of the dashboard; whatever the browser complains of fails the test."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str) -> Any:
        """Go to a view and wait until it is drawn."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}#/{path}")
        self.page.wait_for_selector("main:not([aria-busy]) h1")
        return self.page


@pytest.fixture
def served() -> Iterator[Any]:
    """Serves histories for as long as the test and its pages last."""
    with contextlib.ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(running(*given, **options))


@pytest.fixture
def opened(browser: Any, served: Any) -> Iterator[Any]:
    """Opens pages with the options of a browser's context; they are closed before their servers are."""
    pages: list[Page] = []

    def open_page(url: str, **options: Any) -> Page:
        pages.append(Page(browser, url, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
        assert page.complaints == []


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.dataset.key || document.activeElement.id || ''"))


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_drawn_from_the_recordings(address: str, opened: Any, view: str) -> None:
    page = opened(address).open(view)
    assert page.locator("main h1").inner_text()
    assert page.locator("main .error").count() == 0
    assert page.locator("main").inner_text().count("undefined") == 0
    assert "NaN" not in page.locator("main").inner_text()


def test_every_report_is_drawn(address: str, opened: Any) -> None:
    shown = opened(address)
    page = shown.open("reports")
    links = [link.get_attribute("href") for link in page.locator("main li a").all()]
    assert len(links) == len(report_rows())
    for link in links:
        page = shown.open(link.removeprefix("#/"))
        assert page.locator("main .error").count() == 0
        assert {"undefined", "NaN", "[object Object]"}.isdisjoint(page.locator("td, th").all_inner_texts())


def test_a_session_is_told_turn_by_turn(address: str, opened: Any) -> None:
    page = opened(address).open("sessions?search=Add reorder report")
    page.get_by_role("link", name="Add reorder report").click()
    page.wait_for_selector("article.turn")
    assert page.locator("article.turn").count() == 4
    assert page.locator("nav.outline li").count() == 4
    edit = page.locator("details.toolcall", has_text="edit").first
    edit.locator("summary").first.click()
    edit.locator("tr.added").first.wait_for()
    assert edit.locator("tr.added").count() == 4
    assert re.search(r"call 1\s*lab/lab-large", page.locator(".stepline").first.inner_text())
    thought = page.locator("details.reasoning").first
    thought.locator("summary").click()
    thought.locator(".prose").wait_for()
    assert thought.locator(".prose").inner_text()
    assert page.locator(".changes tr.added").count() > 0
    colour = "getComputedStyle(document.querySelector('tr.added td')).backgroundColor"
    assert page.evaluate(colour) != page.evaluate(colour.replace("added", "same"))


def test_a_session_shows_its_to_do_list(address: str, opened: Any) -> None:
    page = opened(address).open("session/ses_e04b9acfbffeLmotmnHFTzqKK2")
    page.get_by_text("To do: 3 of 3 done").click()
    assert page.locator(".todos li").count() == 3
    assert "Reproduce the failure" in page.locator(".todos li").first.inner_text()


def test_sub_agents_hang_under_their_session(address: str, opened: Any) -> None:
    page = opened(address).open("sessions?search=Survey")
    row = page.locator("tr[aria-expanded=false]").first
    row_key = row.get_attribute("data-key")
    row.focus()
    page.keyboard.press("ArrowRight")
    child = page.locator("tr[aria-level='2']").first
    child.wait_for()
    assert focused(page) == row_key
    page.keyboard.press("ArrowDown")
    assert focused(page) == child.get_attribute("data-key")
    page.keyboard.press("ArrowLeft")
    assert (
        focused(page) == row.get_attribute("data-key") or page.locator("tr[aria-expanded=true]").count() == 1
    )
    page.keyboard.press("ArrowLeft")
    assert page.locator("tr[aria-level='2']").count() == 0


def test_everything_can_be_reached_by_keyboard(address: str, opened: Any) -> None:
    page = opened(address).open("")
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("node => node === document.activeElement")
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    page.keyboard.press("Shift+Tab")
    page.goto(f"{address}#/sessions")
    page.wait_for_selector("tr[data-item]")
    first, second = (page.locator("tr[data-item]").nth(place).get_attribute("data-key") for place in (0, 1))
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page) == first:
            break
    # The list is one stop; within it, arrows move.
    assert focused(page) == first
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowDown")
    assert focused(page) == second
    page.keyboard.press("End")
    assert focused(page) == page.locator("tr[data-item]").last.get_attribute("data-key")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector("article.turn")
    assert page.url.endswith(str(first).removeprefix("row-"))


def test_the_page_has_landmarks_names_and_one_heading(address: str, opened: Any) -> None:
    for view in VIEWS:
        page = opened(address).open(view)
        assert [page.locator(each).count() for each in ("main", "header", "main h1")] == [1, 1, 1]
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, a[href], select, input, svg[role=img], nav, [role=region]")]
            .filter(node => node.offsetParent !== null || node instanceof SVGElement)
            .filter(node => !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length))
            .map(node => node.outerHTML.slice(0, 80))"""
        )
        assert nameless == []
        assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("view", [*VIEWS, "session/{id}"])
def test_a_phone_scrolls_one_way_only(tmp_path: Path, served: Any, opened: Any, view: str) -> None:
    long = "a/very/long/path/" * 20 + "x" * 300
    path = written(
        tmp_path,
        conversation(1, long, prompt=long, thought=long, reply=long, secret=long, turns=3),
        conversation(2, parent="ses_0001"),
    )
    url = served(path)
    page = opened(url, viewport={"width": 360, "height": 740}).open(view.format(id="ses_0001"))
    for folded in page.locator("details > summary").all():
        folded.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("nav a, select")]
        .filter(node => node.offsetParent).map(node => node.getBoundingClientRect().height))"""
    )
    assert smallest >= 24


def luminance(colour: str) -> float:
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_can_be_read(address: str, opened: Any, scheme: str) -> None:
    page = opened(address, color_scheme=scheme).open("session/ses_e04b96fcfffeDvpwFe7eVcUM5g")
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    # WCAG 2's contrast of text: 4.5 to 1.
    pairs = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(n => n.offsetParent && !n.closest(".gone, :disabled")
            && [...n.childNodes].some(c => c.nodeType === 3 && c.data.trim())).map(n => {
            let under = n;
            const clear = c => c === "rgba(0, 0, 0, 0)" || c === "transparent";
            while (under && clear(getComputedStyle(under).backgroundColor)) under = under.parentElement;
            const ground = getComputedStyle(under || document.body).backgroundColor;
            return [getComputedStyle(n).color, ground, n.outerHTML.slice(0, 80)];
        })"""
    )
    assert len(pairs) > 50
    for ink, under, where in pairs:
        light, dark = sorted((luminance(ink), luminance(under)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, where


def test_the_theme_can_be_chosen_and_is_kept(address: str, opened: Any) -> None:
    page = opened(address, color_scheme="light").open("")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Use the dark theme").click()
    dark = page.evaluate(ground)
    assert luminance(dark) < luminance(light)
    page.reload()
    page.wait_for_selector("main h1")
    assert page.evaluate(ground) == dark
    assert page.get_by_role("button", name="Use the light theme").count() == 1


def test_nothing_moves_for_those_who_do_not_want_it(address: str, opened: Any) -> None:
    page = opened(address, reduced_motion="reduce").open("")
    page.evaluate("document.getElementById('live').dataset.kind = 'busy'")
    assert page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"


def test_what_comes_from_data_is_text(tmp_path: Path, served: Any, opened: Any) -> None:
    path = written(tmp_path, conversation(1, EVIL, prompt=EVIL, thought=EVIL, reply=EVIL, secret=EVIL))
    url = served(path)
    shown = opened(url)
    for view in (
        "",
        "sessions",
        f"sessions?search={'%3Cimg'}",
        "session/ses_0001",
        "tools",
        "report/%3Cimg%20src=x%3E",
    ):
        page = shown.open(view)
        for folded in page.locator("details > summary").all():
            folded.click()
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img, main script").count() == 0
        if "report" not in view and view != "tools":
            assert "onerror" in page.locator("main").inner_text()
    # The report that there is not is refused, and the browser says so.
    shown.complaints = [each for each in shown.complaints if "404" not in each]


@pytest.mark.parametrize("kind", ["valueOf", "constructor", "__proto__", "toString"])
def test_parts_of_any_name_leave_the_others_readable(
    tmp_path: Path, served: Any, opened: Any, kind: str
) -> None:
    odd = conversation(1, reply="The reply stands.")
    _, parts = odd.messages[1]
    parts.insert(0, {**parts[-3], "id": "prt_0", "type": kind, "text": "odd"})
    page = opened(served(written(tmp_path, odd))).open("session/ses_0001")
    told = page.locator("main").inner_text()
    assert "The reply stands." in told
    assert "[object" not in told


def test_scripts_in_the_page_are_not_run(address: str, opened: Any) -> None:
    shown = opened(address)
    page = shown.open("")
    for attempt in (
        "document.body.innerHTML = '<img src=x onerror=window.hacked=1>'",
        "document.body.setAttribute('onclick', 'window.hacked = 1')",
        "document.createElement('script').textContent = 'window.hacked = 1'",
        "document.createElement('script').src = 'data:text/javascript,window.hacked=1'",
        "window.trustedTypes.createPolicy('any', {createHTML: text => text})",
    ):
        with pytest.raises(sync_api.Error, match=r"Trusted|policy|Policy"):
            page.evaluate(f"() => {{ {attempt} }}")
    assert page.evaluate("window.hacked") is None
    shown.complaints.clear()


def test_the_page_follows_opencode_while_it_works(tmp_path: Path, served: Any, opened: Any) -> None:
    path = written(tmp_path, conversation(1, "The first"))
    url = served(path, interval=0.2)
    page = opened(url).open("sessions")
    page.get_by_text("The first").wait_for()
    search = page.locator("input[type=search]")
    search.focus()
    grown(path, conversation(2, "The second"))
    page.get_by_text("The second").wait_for(timeout=30_000)
    assert focused(page) == "search"
    page.get_by_text("The first").click()
    page.wait_for_selector("article.turn")
    opened_part = page.locator("details.toolcall").first
    opened_part.locator("summary").first.click()
    grown(path, conversation(3, "A helper", parent="ses_0001"))
    page.get_by_text("A helper").wait_for(timeout=30_000)
    # What the reader had opened stays open.
    assert opened_part.get_attribute("open") is not None
    assert page.locator("#live").inner_text() == "live"


def test_a_server_that_went_away_is_told_and_found_again(tmp_path: Path, opened: Any) -> None:
    path = written(tmp_path, conversation(1))
    with running(path, interval=0.2) as url:
        shown = opened(url)
        page = shown.open("")
        port = int(url.rstrip("/").rpartition(":")[2])
    page.get_by_text("server not reached").wait_for(timeout=30_000)
    with running(path, port=port, interval=0.2):
        page.locator("#live[data-kind=on]").wait_for(timeout=30_000)
    shown.context.close()
    shown.complaints.clear()


def test_long_sessions_come_page_by_page(tmp_path: Path, served: Any, opened: Any) -> None:
    url = served(written(tmp_path, conversation(1, turns=45)))
    page = opened(url).open("session/ses_0001")
    assert page.locator("article.turn").count() == 10
    page.get_by_role("button", name="Next").click()
    page.get_by_role("heading", name="Turn 11", exact=True).wait_for()
    page.locator("nav.outline a").nth(44).click()
    page.get_by_role("heading", name="Turn 45", exact=True).wait_for()
    assert page.locator("article.turn").count() == 5
    assert page.evaluate("document.activeElement.id") == "turn-44"


def test_filters_are_kept_from_view_to_view(tmp_path: Path, served: Any, opened: Any) -> None:
    url = served(written(tmp_path, conversation(1)))
    page = opened(url).open("")
    page.locator("#filter-days option[value='30']").wait_for(state="attached")
    page.locator("#filter-days").select_option("30")
    page.wait_for_url("**days=30*")
    page.get_by_role("link", name="Sessions", exact=True).click()
    page.get_by_text("No session fits these filters.").wait_for()
    page.locator("#filter-days").select_option("")
    page.get_by_text("Session 1").wait_for()


def test_the_chart_has_a_table_with_the_same_numbers(address: str, opened: Any) -> None:
    page = opened(address).open("cost")
    drawn = [each.evaluate("node => node.textContent") for each in page.locator("svg g.bar title").all()]
    rows = [each.locator("th, td").all_inner_texts() for each in page.locator("table.report tbody tr").all()]
    assert drawn
    assert sorted(drawn) == sorted(f"{row[0]}: {row[-1]}" for row in rows)


def test_tables_can_be_sorted(address: str, opened: Any) -> None:
    page = opened(address).open("tools")
    column = page.locator("thead th", has_text="Failed")
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    place = page.locator("thead th").all_inner_texts().index(column.inner_text())
    failed = [int(row.locator("th, td").nth(place).inner_text()) for row in page.locator("tbody tr").all()]
    assert failed == sorted(failed, reverse=True)
    assert failed[0] > failed[-1]


def test_the_token_opens_the_dashboard(tmp_path: Path, served: Any, opened: Any) -> None:
    url = served(written(tmp_path, conversation(1)), token="a-token")
    shown = opened(url)
    shown.page.goto(url)
    shown.page.get_by_label("Token").fill("wrong")
    shown.page.keyboard.press("Enter")
    shown.page.get_by_text("That is not the token.").wait_for()
    shown.page.get_by_label("Token").fill("a-token")
    shown.page.get_by_role("button", name="Open").click()
    shown.page.wait_for_selector("main h1:text('Overview')")
    assert shown.page.evaluate("document.cookie") == ""
    # The browser tells of the 401 that the wrong token got.
    shown.complaints = [each for each in shown.complaints if "401" not in each]


def test_nothing_is_asked_of_the_network(address: str, opened: Any) -> None:
    shown = opened(address)
    asked: list[str] = []
    shown.page.on("request", lambda request: asked.append(request.url))
    for view in VIEWS:
        shown.open(view)
    assert [url for url in asked if not url.startswith((address, "about:"))] == []
