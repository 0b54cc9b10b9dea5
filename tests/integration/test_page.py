"""The status page in a real browser: what it shows, to whom, and that nothing of it is markup."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest

from consumer.admin import AdminServer
from consumer.health import Health
from consumer.metrics import Metrics
from tests.services.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no chromium on PATH, and CHROMIUM does not name one")
TOKEN = "0123456789abcdef"
MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SIZES = [(360, 740), (768, 1024), (1280, 800), (2560, 1440)]


def status(**other: Any) -> dict[str, Any]:
    """One that has something of everything."""
    place = {"topic": "orders", "partition": 0, "offset": 17}
    partitions = {
        f"orders/{number}": {
            "phase": "flowing",
            "next_offset": 1000 * number,
            "end": 1000 * number + number,
            "lag": number,
            "paused": "",
            "reason": "",
            "last_batch": {"at": time.time() - number, "offsets": 500},
        }
        for number in range(64)
    }
    partitions["orders/1"] |= {"phase": "held", "paused": "held", "reason": "offsets 3 to 7 are gone"}
    partitions["orders/2"] |= {"phase": "paused", "paused": "operator", "next_offset": None, "end": None, "lag": None}
    found = {
        "version": "0.1.0",
        "group": "shop",
        "instance": "host-1-abc",
        "state": "running",
        "reason": "records are written as they come",
        "alive": True,
        "ready": True,
        "started_at": 1000.0,
        "job": {"done": 470, "total": 1000, "percent": 47, "per_second": 10.0, "eta_seconds": 53.0},
        "progress": {"at": time.time(), "handled": 500_000, "lag": 2016},
        "records": dict.fromkeys(("consumed", "written", "filtered", "dead_lettered", "duplicate", "released"), 1234567)
        | {"in_flight": 42},
        "retries": 3,
        "dead_letters_pending": 2,
        "partitions": partitions,
        "dead_letters": {
            "orders, write, 23514": {"count": 9, "reason": "violates amount", "last": place, "samples": [place] * 5}
        },
        "events": [{"at": time.time(), "event": "held", "reason": "too many", "hint": "microbatch resume CONFIG"}],
        "paused": ["orders/2"],
        "changed": {"batch.max_records": {"configured": 5000, "now": 100}},
        "needs_restart": ["topics"],
        "configuration": {"kafka": {"group.id": "shop", "sasl.password": "***"}, "batch": {"max_records": 100}},
    }
    return found | other


def history() -> list[dict[str, Any]]:
    now = time.time()
    return [{"at": now - 600 + second, "handled": second * 800, "lag": second % 60 * 100} for second in range(600)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    made = Chromium()
    yield made
    made.close()


@pytest.fixture
def page(browser: Chromium) -> Iterator[Callable[..., Chromium]]:
    """Opens it on a daemon with this status; fails when the browser had anything to say against it."""
    servers: list[AdminServer] = []

    def opened(told: dict[str, Any], *, token: str = "", width: int = 1280, dark: bool = False) -> Chromium:
        documents = {"/status": lambda: told, "/history": history}
        health = Health(True, True, "well")
        server = AdminServer("127.0.0.1", 0, Metrics().registry, lambda: health, documents, {}, token)
        servers.append(server)
        server.start()
        browser.said.clear()
        browser.look(width=width, dark=dark)
        browser.open(f"http://127.0.0.1:{server.port}/")
        return browser

    yield opened
    browser.open("about:blank")  # or it would go on asking, and be refused
    for server in servers:
        server.stop()


def text(browser: Chromium) -> str:
    browser.until("document.getElementById('live').textContent === 'live'")
    return str(browser.value("document.body.innerText"))


def test_it_shows_how_the_daemon_stands(page: Callable[..., Chromium]) -> None:
    """State, charts, partitions, dead letters, events with hints, and configuration."""
    browser = page(status())
    shown = text(browser)
    assert browser.value("document.getElementById('sentence').textContent") == (
        "Running: records are written as they come."
    )
    for words in (
        "group shop",
        "800 records a second",
        "2,016 records behind",
        "47 % of the job (470 of 1,000 offsets), 53 s left",
        "64 partitions, 2 not read",
        "orders/63",
        "offsets 3 to 7 are gone",
        "paused by operator",
        "+500 · ",
        "orders, write, 23514",
        "violates amount",
        "orders/0 @ 17",
        "microbatch resume CONFIG",
        "batch.max_records is 100 (configured: 5000)",
        "waits for a restart: topics",
    ):
        assert words in shown, words
    assert browser.value("document.getElementById('partitions').rows.length") == 64
    assert browser.value("document.querySelectorAll('path.curve').length") == 2
    settings = browser.value("document.getElementById('settings').textContent")
    assert "kafka.sasl.password***" in settings
    assert "canary" not in settings
    assert browser.said == []


@pytest.mark.parametrize(
    ("told", "sentence", "level"),
    [
        ({"state": "held", "reason": "too many. Do this"}, "Held: too many. Do this.", "bad"),
        ({"state": "unavailable", "reason": "PostgreSQL is away"}, "Unavailable: PostgreSQL is away.", "bad"),
        ({"ready": False, "reason": "Kafka: brokers are down"}, "Not ready: Kafka: brokers are down.", "bad"),
        ({"alive": False, "reason": "the loop has not turned"}, "Stuck: the loop has not turned.", "bad"),
        ({"state": "paused", "reason": "by an operator"}, "Paused: by an operator.", "warn"),
        ({"state": "claiming", "reason": "partitions"}, "Claiming: partitions.", "wait"),
    ],
)
def test_its_colour_and_sentence_say_what_is_wrong(
    page: Callable[..., Chromium], told: dict[str, Any], sentence: str, level: str
) -> None:
    """At first sight."""
    browser = page(status(**told))
    text(browser)
    assert browser.value("document.getElementById('sentence').textContent") == sentence
    assert browser.value("document.getElementById('state').className") == level


def test_nothing_that_the_daemon_says_becomes_markup(page: Callable[..., Chromium]) -> None:
    """Whatever stands in names of topics, reasons or settings."""
    place = {"topic": MARKUP, "partition": 0, "offset": 1}
    told = status(
        group=MARKUP,
        reason=MARKUP,
        partitions={MARKUP: status()["partitions"]["orders/1"] | {"reason": MARKUP}},
        dead_letters={MARKUP: {"count": 1, "reason": MARKUP, "last": place, "samples": [place]}},
        events=[{"at": 1, "event": MARKUP, "reason": MARKUP, "hint": MARKUP}],
        paused=[MARKUP],
        needs_restart=[MARKUP],
        configuration={MARKUP: {MARKUP: MARKUP}},
    )
    browser = page(told)
    assert MARKUP in text(browser)
    assert browser.value("document.title") != "owned"
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.value("document.querySelectorAll('script').length") == 1
    assert browser.said == []


def test_a_script_of_somebody_else_does_not_run(page: Callable[..., Chromium]) -> None:
    """The policy knows the page's own by its hash, and lets nothing be fetched from elsewhere."""
    browser = page(status())
    text(browser)
    browser.value("""{const s = document.createElement('script'); s.textContent = "document.title = 'owned'";
        document.body.append(s)}""")
    reached = browser.value("fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => error.name)")
    assert browser.value("document.title") != "owned"
    assert reached == "TypeError"
    assert any("Content Security Policy" in line for line in browser.said)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_every_screen(page: Callable[..., Chromium], width: int, height: int, dark: bool) -> None:
    """Nothing sticks out, and text can be told from its background (WCAG: 4.5 to 1)."""
    browser = page(status(), width=width, dark=dark)
    text(browser)
    assert browser.value("document.documentElement.scrollWidth") <= width
    weak = browser.value("""(() => {
        const light = (color) => {
            const [r, g, b] = color.match(/[\\d.]+/g).map((part) => part / 255)
                .map((part) => (part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4));
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const back = (node) => {
            for (; node; node = node.parentElement) {
                const color = getComputedStyle(node).backgroundColor;
                if (!/, 0\\)$/.test(color)) return light(color);
            }
            return 1;
        };
        return [...document.querySelectorAll('p, dt, dd, th, td span, h1, h2, small, b, .note')]
            .filter((node) => node.textContent && node.offsetParent)
            .filter((node) => {
                const pair = [light(getComputedStyle(node).color), back(node)];
                return (Math.max(...pair) + .05) / (Math.min(...pair) + .05) < 4.5;
            }).map((node) => `${node.tagName} ${node.className} ${node.textContent.slice(0, 20)}`);
    })()""")
    assert weak == []


def test_without_the_token_it_shows_nothing_and_asks(page: Callable[..., Chromium]) -> None:
    """A wrong one is said; the right one is kept for this tab only."""
    browser = page(status(), token=TOKEN)
    browser.until("!document.getElementById('ask').hidden")
    assert "orders" not in browser.value("document.body.innerText")

    def give(token: str) -> None:
        browser.value(f"""{{document.getElementById('token').value = '{token}';
            document.querySelector('form').requestSubmit()}}""")

    give(TOKEN[::-1])
    browser.until("!document.getElementById('refused').hidden")
    give(TOKEN)
    assert "orders/63" in text(browser)
    assert browser.value("document.getElementById('ask').hidden")
    assert browser.value("localStorage.length") == 0
    assert browser.value("document.cookie") == ""


def test_it_says_when_nobody_answers_any_more(page: Callable[..., Chromium], browser: Chromium) -> None:
    """And since when; what it shows is marked as old."""
    told: dict[str, Any] = status()
    page(told)
    text(browser)
    told["progress"] = object()  # no JSON: the answer is an error
    browser.until("document.getElementById('live').textContent.startsWith('no answer since ')")
    assert browser.value("document.querySelector('main').className") == "stale"


def test_it_is_light_and_at_once_there(page: Callable[..., Chromium]) -> None:
    """At most 100 kB, from nowhere else, painted within a second."""
    browser = page(status())
    text(browser)
    (painted,) = browser.value("performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)")
    assert painted < 1000
    fetched = browser.value("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)")
    assert set(fetched) <= {"/status", "/history"}


def test_the_file_is_small_and_names_no_address() -> None:
    """What it needs is in it."""
    file = resources.files("consumer").joinpath("page.html").read_text(encoding="utf-8")
    assert len(file.encode()) <= 100_000
    assert set(re.findall(r"https?://[^\s\"'>]+", file)) <= {"http://www.w3.org/2000/svg"}
