"""The dashboard in a real Chromium, by clicks and keys: `make page-test`, not a part of `make test`.

It makes the pictures of docs/dashboard.md.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sidecar.board.snapshot import changes, merge, snapshot
from tests.board.samples import event, gone, peer, sample, topic
from tests.e2e.processes import PATIENCE, Process, environment, running

from .browser import IMAGES, Dashboard, Visit, chromium, dashboard, visit
from .traffic import TOPIC, three

ROOT = Path(__file__).resolve().parents[2]
LIVE = "document.body.dataset.state === 'live'"
STILL = "[...dashboard.graph.dots.values()].every((dot) => dot.distance === dot.goal.distance)"
_MANY = 1000
_MOST_ELEMENTS = 2500  # of the document, however many peers there are


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def mesh(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process, Process]]:
    with three(tmp_path_factory.mktemp("mesh")) as sidecars:
        yield sidecars


@pytest.fixture(scope="module")
def board(mesh: tuple[Process, Process, Process]) -> Iterator[Dashboard]:
    with dashboard(mesh[0].home, mesh[0].socket) as started:
        yield started


@contextlib.contextmanager
def crowd(place: Path, peers: int) -> Iterator[Dashboard]:
    """A dashboard of a sidecar with so many peers that are not real."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.page.crowd", str(place / "api.sock"), str(peers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(place),
    ) as api:
        try:
            assert api.stdout is not None
            assert api.stdout.readline() == b"serving\n"
            with dashboard(place, place / "api.sock") as started:
                yield started
        finally:
            api.terminate()


# ------------------------------------------------------------ three real sidecars


def test_the_mesh_is_shown_in_graph_and_tables(
    browser: Browser, board: Dashboard, mesh: tuple[Process, Process, Process]
) -> None:
    ids = [sidecar.json("id")["peer_id"] for sidecar in mesh]
    with visit(browser, board.link) as seen:
        seen.until(LIVE)
        assert seen.text("#me") == ids[0]
        assert seen.text("#ready") == "ready"
        for peer_id in ids[1:]:
            row = seen.page.locator("#peers tr", has_text=peer_id[-8:])
            row.filter(has_text="ms").wait_for()  # the latency is measured
            assert "inbound" in row.inner_text()
            row.filter(has_text=TOPIC).wait_for()
        assert sorted(seen.page.evaluate("[...dashboard.graph.dots.keys()]")) == sorted(ids[1:])
        seen.until("document.querySelector('#graph').getAttribute('aria-label').includes('2 peers: 2 inbound')")
        seen.until(
            "[...document.querySelectorAll('#topics tbody tr')].some((row) => parseFloat(row.cells[1].textContent) > 1)"
        )
        assert TOPIC in seen.text("#topics tbody")
        assert "2 of 2" in seen.text("#topics tbody")
        seen.until("document.querySelectorAll('#bars .bar:not(.empty)').length > 0")
        seen.until("parseFloat(document.querySelectorAll('.tile .value')[1].textContent) > 1")
        seen.until("document.querySelectorAll('.tile path.line')[1].getAttribute('d').includes('L')")
        assert "listening" in seen.text("#events")
        assert "✓" in seen.text("#conditions")
        assert board.token not in seen.page.url, "it does not stay in the address bar"
        assert all(board.token not in url for url in seen.requests)
        seen.page.reload()
        seen.until(LIVE)
        seen.complaints[:] = [text for text in seen.complaints if "net::ERR_" not in text]  # of the feed that was cut


def test_a_peer_that_is_clicked_shows_its_details(
    browser: Browser, board: Dashboard, mesh: tuple[Process, Process, Process]
) -> None:
    peer = mesh[1].json("id")
    with visit(browser, board.link) as seen:
        seen.until(LIVE)
        details = seen.page.locator("#details")
        seen.page.get_by_role("button", name=peer["peer_id"][-8:]).click()
        details.wait_for()
        text = details.inner_text()
        for part in (
            peer["peer_id"],
            peer["addresses"][0].partition("/p2p/")[0],
            "/meshsub/1",
            "sidecar/",
            "inbound",
            TOPIC,
        ):
            assert part in text
        seen.page.keyboard.press("Escape")
        details.wait_for(state="hidden")

        seen.until(f"dashboard.graph.dots.size === 2 && {STILL}")
        at = seen.page.evaluate("(({ x, y }) => ({ x, y }))([...dashboard.graph.dots.values()][0])")
        first = seen.page.evaluate("[...dashboard.graph.dots.keys()][0]")
        seen.page.locator("#graph").hover(position=at)
        seen.page.locator("#graph-tip", has_text=first[-8:]).wait_for()
        seen.page.locator("#graph").click(position=at)
        assert first in details.inner_text()
        seen.page.get_by_role("button", name="Close").click()
        details.wait_for(state="hidden")


def test_keys_alone_are_enough(browser: Browser, board: Dashboard, mesh: tuple[Process, Process, Process]) -> None:
    with visit(browser, board.link) as seen:
        seen.until(LIVE)
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.className") == "skip"
        seen.page.keyboard.press("Enter")
        focused = "document.activeElement.closest('#peers td') !== null"
        for _ in range(12):
            seen.page.keyboard.press("Tab")
            if seen.page.evaluate(focused):
                break
        name = seen.page.evaluate("document.activeElement.textContent")
        assert name in {sidecar.json("id")["peer_id"][-8:] for sidecar in mesh[1:]}
        seen.page.keyboard.press("Enter")
        seen.page.locator("#details", has_text=name).wait_for()
        seen.page.keyboard.press("Escape")
        seen.page.locator("#details").wait_for(state="hidden")
        assert seen.page.evaluate("document.activeElement.textContent") == name, "back where it was"
        assert seen.page.locator("th[aria-sort=ascending]").first.inner_text().startswith("Latency")
        seen.page.get_by_role("button", name="Latency").press("Enter")
        seen.page.locator("#peers th[aria-sort=descending]").wait_for()


def test_a_topic_that_is_chosen_is_shown_in_the_graph(browser: Browser, board: Dashboard) -> None:
    with visit(browser, board.link) as seen:
        seen.until(LIVE)
        seen.page.locator("#topics").get_by_role("button", name=TOPIC, exact=True).click()
        assert seen.page.locator("#graph-topic").input_value() == TOPIC
        seen.until(f"document.querySelector('#graph-note').textContent.includes('2 in the mesh of {TOPIC}')")


def test_light_dark_and_small(browser: Browser, board: Dashboard) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        with visit(browser, board.link, scheme=scheme) as seen:
            seen.until(LIVE)
            colours[scheme] = seen.page.evaluate(
                """() => { const { backgroundColor, color } = getComputedStyle(document.body);
                return [backgroundColor, color, dashboard.graph.colours.text]; }"""
            )
            seen.page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
            seen.until(f"dashboard.graph.colours.text !== {colours[scheme][2]!r}")
    assert all(light != dark for light, dark in zip(*colours.values(), strict=True))
    for width in (360, 640, 641, 768, 900, 1000, 1120, 1920):
        with visit(browser, board.link, width=width) as seen:
            seen.until(LIVE)
            seen.until("document.querySelectorAll('#peers tbody tr').length === 2")
            assert seen.width() <= width
            seen.page.locator("#peers td button").first.click()
            assert seen.page.locator("#details").bounding_box()["width"] <= width  # type: ignore[index]
            assert seen.width() <= width


def test_a_wrong_link_says_so_and_the_right_one_helps(browser: Browser, board: Dashboard) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{board.origin}/#{'x' * 43}")
    page.locator("#banner", has_text="open the one that").wait_for()
    assert page.locator("main").is_hidden()
    page.goto(board.link)
    page.locator("body[data-state=live]").wait_for()
    context.close()


def test_changes_are_merged_as_the_dashboard_merges_them(browser: Browser, board: Dashboard) -> None:
    kinds = [
        snapshot(sample(0)),
        snapshot(sample(1, peers=[peer(1), peer(2)], topics=[topic()], events={1: event()})),
        snapshot(sample(2, peers=[peer(2, latency=0.5), peer(3)], gone=[gone(1)], events={2: event("b")})),
    ]
    with visit(browser, board.link) as seen:
        for old in kinds:
            for new in kinds:
                merged = seen.page.evaluate(
                    "async ([old, found]) => (await import('/feed.js')).merge(old, found)", [old, changes(old, new)]
                )
                assert merged == merge(old, changes(old, new)) == new


def test_an_objective_for_broadcasts_is_shown_where_there_is_one(browser: Browser, board: Dashboard) -> None:
    show = "async (objective) => (await import('/delays.js')).showObjective(objective)"
    wanted = {"seconds": 0.5, "wanted": 0.99}
    with visit(browser, board.link) as seen:
        seen.until(LIVE)
        text = seen.page.locator("#objective")
        assert text.is_hidden()
        seen.page.evaluate(show, {**wanted, "share": None, "met": True})
        assert text.inner_text() == "Nobody has answered a probe yet. Wanted: 99 % within 500 ms."
        seen.page.evaluate(show, {**wanted, "share": 0.9899, "met": False})
        assert text.inner_text() == (
            "Broadcasts are late. 98.9 % of the receivers had the last messages within 500 ms. "
            "Wanted: 99 % within 500 ms."
        )
        late = text.evaluate("(shown) => getComputedStyle(shown).color")
        seen.page.evaluate(show, {**wanted, "share": 1.0, "met": True})
        assert text.inner_text().startswith("100 % of the receivers")
        assert text.evaluate("(shown) => getComputedStyle(shown).color") != late


# ------------------------------------------------------------ what goes away


def _lost_connections_aside(seen: Visit) -> None:
    """Chromium itself complains of connections that were refused or cut; that is what these tests bring about."""
    seen.complaints[:] = [text for text in seen.complaints if "net::ERR_" not in text]


def test_a_sidecar_that_is_killed_is_shown_as_gone(browser: Browser, tmp_path: Path) -> None:
    with three(tmp_path) as (first, second, _), dashboard(first.home, first.socket) as board:
        gone = second.json("id")["peer_id"]
        with visit(browser, board.link) as seen:
            seen.until("document.querySelectorAll('#peers tbody tr').length === 2")
            second.popen.kill()
            seen.page.locator("#peers tr.gone", has_text=gone[-8:]).wait_for()
            seen.page.locator("#events li", has_text=f"{gone[-8:]} disconnected").wait_for()
            seen.until("document.querySelector('#graph').getAttribute('aria-label').includes(': 1 peer:')")
            seen.page.get_by_role("button", name=gone[-8:]).click()
            seen.page.locator("#details", has_text="gone since").wait_for()


def test_it_goes_on_over_restarts_of_the_sidecar_and_of_itself(browser: Browser, tmp_path: Path) -> None:
    token = ("--token-file", str(tmp_path / "token"))
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(running(tmp_path / "1"))
        sidecar.line("Ready after")
        first = Dashboard(tmp_path, sidecar.socket, *token)
        stack.callback(first.close)
        port = first.origin.rpartition(":")[2]
        with visit(browser, first.link) as seen:
            seen.until(LIVE)
            sidecar.popen.kill()
            sidecar.ended()
            seen.page.locator("#banner", has_text="The sidecar has not answered since").wait_for()
            assert seen.text("#ready") == "gone"
            again = stack.enter_context(running(tmp_path / "1"))
            again.line("Ready after")
            seen.until(LIVE)
            assert seen.text("#banner") == ""

            first.popen.kill()
            first.popen.wait(PATIENCE)
            seen.page.locator("#banner", has_text="The dashboard does not answer").wait_for()
            stack.enter_context(dashboard(tmp_path, sidecar.socket, *token, "--port", port))
            seen.until(LIVE)
            assert seen.text("#banner") == ""
            _lost_connections_aside(seen)


# ------------------------------------------------------------ many


def test_a_thousand_peers_stay_usable(browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with crowd(tmp_path, _MANY) as board, visit(browser, board.link) as seen:
        seen.until(f"dashboard.graph.dots.size >= {0.95 * _MANY}")
        seen.page.locator("#peers .pager", has_text="1 to 12 of").wait_for()
        seen.page.get_by_role("button", name="Next page").first.click()
        seen.page.locator("#peers .pager", has_text="13 to 24 of").wait_for()
        seen.until("document.querySelectorAll('#events li.info').length > 5")

        some = seen.page.evaluate("[...dashboard.graph.dots.keys()][500]")
        seen.page.locator("#peers-filter").fill(some)
        seen.until("document.querySelectorAll('#peers tbody tr').length === 1")
        seen.page.get_by_role("button", name=some[-8:]).click()
        seen.page.locator("#details", has_text=some).wait_for()
        seen.page.keyboard.press("Escape")

        # Names that peers and apps choose are texts, whatever they hold.
        seen.page.locator("#peers-filter").fill("onerror")
        seen.until("document.querySelectorAll('#peers tbody tr').length === 12")
        seen.page.locator("#peers td button").first.click()
        assert "<img src=x" in seen.text("#details")
        assert seen.page.evaluate("document.body.dataset.owned") is None
        assert seen.page.locator("img").count() == 1, "the sign in the corner"
        seen.page.keyboard.press("Escape")

        seen.until("dashboard.graph.times.length >= 30")
        elements = seen.page.evaluate("document.querySelectorAll('*').length")
        assert elements <= _MOST_ELEMENTS
        frame = seen.page.evaluate("dashboard.graph.frame()")
        line = seen.page.evaluate(
            """() => { const begun = performance.now(); dashboard.graph.draw(); document.querySelector('#peers-filter')
            .dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - begun; }"""
        )
        with capsys.disabled():
            print(
                f"\n{_MANY} peers: {frame:.1f} ms for a frame, {line:.1f} ms for graph and table, {elements} elements"
            )


# ------------------------------------------------------------ pictures


def test_pictures_are_taken(browser: Browser, tmp_path: Path) -> None:
    with crowd(tmp_path, 26) as board:
        for name, scheme, width, height in (
            ("dashboard-light.png", "light", 1280, 1420),
            ("dashboard-dark.png", "dark", 1280, 1420),
            ("dashboard-360.png", "light", 360, 1420),
        ):
            with visit(browser, board.link, width=width, scheme=scheme) as seen:
                seen.until(LIVE)
                seen.until("dashboard.shown.lines.peers.length > 24")
                seen.until("/^last [0-9]+ s, up to 26$/.test(document.querySelector('.tile .scale').textContent)")
                seen.until(STILL)
                seen.picture(name, height)
                assert (IMAGES / name).stat().st_size < 250_000
