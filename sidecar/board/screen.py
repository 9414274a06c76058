"""A snapshot as one screen of text: what `sidecar top` draws. Pure: no terminal here, no clock."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..core.classes import NamedTuple
from ..process.printable import escaped
from .snapshot import Snapshot
from .words import age, count, delay, fit, number, percent, size

_PLAIN_WIDTH = 120
_PLAIN_ROWS = 50  # of each table, where there is no screen to fill
BOLD, DIM, GREEN, YELLOW, RED, REVERSE = "1", "2", "32", "33", "31", "7"

# Of a peer's row, by its standing: nothing is published to it, or it is not listened to.
_STANDINGS = {"no_publish": YELLOW, "graylisted": RED}

Paint = Callable[[str, str], str]


class _Column(NamedTuple):
    title: str
    width: int  # of the last column: at least
    right: bool = False


class _Table(NamedTuple):
    title: str
    columns: tuple[_Column, ...]
    rows: Sequence[tuple[str, ...]]
    style: Sequence[str]  # of each row
    nothing: str  # said where there are no rows


def draw(shown: Snapshot, width: int, height: int, *, colour: bool = True, first_peer: int = 0) -> list[str]:
    """Exactly `height` lines of `width` columns each (escape sequences not counted).

    `first_peer`: how many peers, by latency, are scrolled past.
    """
    paint = _paint if colour else _plain
    top = _head(shown, width, paint) + _readiness(shown, width, paint)
    foot = [*_queues(shown, width, paint), paint(fit("q quits, arrows scroll the peers", width), DIM)]
    left = height - len(top) - len(foot)
    # What a table does not need, the next one gets: topics take at most a third, then events, and peers the rest.
    topics = _topics(shown)
    events = _events(shown, newest=max(0, left))
    topic_lines = min(len(topics.rows) + 2, max(3, left // 3))
    event_lines = min(max(len(events.rows), 1) + 1, max(2, left // 4))
    peer_lines = max(0, left - topic_lines - event_lines)
    lines = [
        *top,
        *_lay(_peers(shown), width, peer_lines, paint, first=first_peer),
        *_lay(topics, width, topic_lines, paint),
        *_lay(events, width, event_lines, paint, from_end=True),
    ][: max(0, height - len(foot))]
    lines += [" " * width] * (height - len(foot) - len(lines))
    return [*lines, *foot][:height]


def plain(shown: Snapshot, width: int = _PLAIN_WIDTH) -> list[str]:
    """Everything, in lines without colour: for scripts and pipes."""
    tables = (_peers(shown), _topics(shown), _events(shown, newest=_PLAIN_ROWS))
    lines = _head(shown, width, _plain) + _readiness(shown, width, _plain) + _queues(shown, width, _plain)
    for table in tables:
        lines += _lay(table, width, min(len(table.rows), _PLAIN_ROWS) + 3, _plain)
    return [line.rstrip() for line in lines]


# ------------------------------------------------------------ the parts


def _head(shown: Snapshot, width: int, paint: Paint) -> list[str]:
    node, totals, link = shown["node"], shown["totals"], shown["link"]
    rates = totals["rates"]
    who = f"sidecar {node['version']}  {node['peer_id']}  network {node['network']}"
    state, style = ("ready", GREEN) if shown["readiness"]["ready"] else ("NOT READY", RED)
    if not link["reachable"]:
        state, style = "GONE", RED
    room = max(0, width - len(state) - 1)
    lines = [paint(fit(escaped(who), room), BOLD) + " " + paint(state, style)]
    facts = [
        f"up {age(shown['uptime'])}",
        f"{count(totals['peers'], 'peers')} ({totals['inbound']} in, {totals['outbound']} out, "
        f"{totals['relayed']} relayed)",
        f"reachability {node['reachability']}",
        f"messages/s in {number(rates['received'])} out {number(rates['sent'])} lost {number(totals['lost'])}",
        f"bytes/s in {size(rates['bytes_in'])} out {size(rates['bytes_out'])}",
    ]
    titles = (
        ("gossip_propagation_seconds", "delay"),
        ("gossip_probe_seconds", "probes"),
        ("event_loop_lag_seconds", "loop lag"),
    )
    for name, title in titles:
        found = shown["histograms"].get(name)
        if found is not None and found["median"] is not None:
            facts.append(f"{title} {delay(found['median'])}, 95 %: {delay(found['p95'])}")
    lines += [fit(line, width) for line in _wrap(facts, width)]
    if node["reachability"] == "not reachable":
        via = f"; reached through {count(len(node['relayed']), 'relayed addresses')}" if node["relayed"] else ""
        lines.append(paint(fit(f"peers cannot reach this node at its public addresses{via}", width), YELLOW))
    if not link["reachable"]:
        text = f"no answer for {age(time.monotonic() - link['at'])}, trying again: {escaped(link['trouble'])}"
        lines.append(paint(fit(text, width), RED))
    return lines


def _readiness(shown: Snapshot, width: int, paint: Paint) -> list[str]:
    lines = []
    for condition in shown["readiness"]["conditions"]:
        if not condition["met"]:
            text = f"{condition['type']}: {condition['message']}"
            lines.append(paint(fit(escaped(text), width), YELLOW))
            lines.append(fit(f"  {escaped(condition['remedy'])}", width))
    objective = shown["objective"]
    if objective is not None and not objective["met"]:
        had, wanted = percent(objective["share"]), percent(objective["wanted"])
        within = delay(objective["seconds"])
        text = f"broadcasts: {had} of the receivers had the last messages within {within}; wanted: {wanted}"
        lines.append(paint(fit(text, width), YELLOW))
    return lines


def _queues(shown: Snapshot, width: int, paint: Paint) -> list[str]:
    waiting = [f"{queue['what']}: {_amount(queue)}" for queue in shown["queues"] if queue["value"]]
    kept = [f"{amount['what']}: {_amount(amount)}" for amount in shown["kept"]]
    lost = [f"{loss['what']}: {number(loss['count'])}" for loss in shown["losses"]]
    lines = []
    parts = [("queues", waiting or ["empty"]), ("on disk", kept), ("lost", lost or ["nothing"])]
    for title, facts in [part for part in parts if part[1]]:
        wrapped = _wrap([f"{title:8}{facts[0]}", *facts[1:]], width)
        lines += [paint(fit(line, width), "") for line in wrapped[:2]]
    return lines


def _peers(shown: Snapshot) -> _Table:
    columns = (
        _Column("peer", 8),
        _Column("way", 4),
        _Column("path", 7),
        _Column("latency", 8, right=True),
        _Column("for", 6, right=True),
        _Column("score", 8, right=True),
        _Column("agent", 18),
        _Column("in the mesh of", 18),
        _Column("address", 12),
    )
    rows, styles = [], []
    for name, peer in sorted(shown["peers"].items(), key=_by_latency):
        gone = peer["gone"]
        rows.append(
            (
                name[-8:],
                "gone" if gone else {"inbound": "in", "outbound": "out"}.get(peer["direction"], ""),
                "" if gone else peer["path"],
                "" if gone else delay(peer["latency"]),
                age(shown["time"] - (gone["time"] if gone else peer["since"] or shown["time"])),
                "" if gone or peer["score"] is None else f"{peer['score']['score']:.1f}",
                escaped(peer["agent"]),
                escaped(", ".join(peer["mesh"])),
                escaped(gone["reason"] if gone else peer["remote"]),
            )
        )
        standing = "good" if peer["score"] is None else peer["score"]["standing"]
        styles.append(DIM if gone else _STANDINGS.get(standing, ""))
    return _Table("peers", columns, rows, styles, "no peers are connected")


def _topics(shown: Snapshot) -> _Table:
    columns = (
        _Column("topic", 24),
        _Column("deliv/s", 8, right=True),
        _Column("publ/s", 8, right=True),
        _Column("dupl/s", 8, right=True),
        _Column("dropped", 8, right=True),
        _Column("rejected", 8, right=True),
        _Column("mesh", 5, right=True),
        _Column("peers", 5, right=True),
        _Column("apps", 4, right=True),
    )
    rows = []
    for name, topic in sorted(shown["topics"].items(), key=_by_rate):
        rates = topic["rates"]
        rows.append(
            (
                escaped(name),
                number(rates["delivered"]),
                number(rates["published"]),
                number(rates["duplicates"]),
                number(topic["dropped"]),
                number(topic["rejected"]),
                number(len(topic["mesh"])),
                number(topic["peers"]),
                number(topic["subscribers"]),
            )
        )
    return _Table("topics", columns, rows, [""] * len(rows), "no topics")


def _events(shown: Snapshot, newest: int) -> _Table:
    columns = (_Column("time", 8), _Column("severity", 8), _Column("part", 12), _Column("event", 20))
    rows, styles = [], []
    for event in list(shown["events"].values())[-newest:] if newest else []:
        when = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        rows.append((when, event["severity"], escaped(event["part"]), escaped(event["message"])))
        styles.append({"error": RED, "warning": YELLOW}.get(event["severity"], ""))
    return _Table("events", columns, rows, styles, "none yet")


# ------------------------------------------------------------ laying out


def _lay(table: _Table, width: int, height: int, paint: Paint, *, first: int = 0, from_end: bool = False) -> list[str]:
    """A table in at most so many lines: titles, rows, and in place of the last how many more there are."""
    if height < 2:
        return []
    columns: list[_Column] = []
    used = 0
    for column in table.columns:  # those that fit; the last of them takes the rest
        if used + column.width + 1 > width and columns:
            break
        columns.append(column)
        used += column.width + 1
    widths = [column.width for column in columns]
    if not columns[-1].right:
        widths[-1] = max(1, width - sum(widths[:-1]) - (len(widths) - 1))

    def line(cells: Sequence[str], style: str) -> str:
        parts = []
        for cell, column, space in zip(cells, columns, widths, strict=False):
            text = fit(cell, space)
            filled = len(text) - len(text.rstrip())
            parts.append(" " * filled + text.rstrip() if column.right else text)
        return paint(fit(" ".join(parts), width), style)

    titles = line([column.title for column in columns], REVERSE)
    rows = list(zip(table.rows, table.style, strict=True))
    room = height - 1
    if not rows:
        return [titles, paint(fit(table.nothing, width), DIM), " " * width][:height]
    if from_end:
        return [titles, *(line(cells, style) for cells, style in rows[-room:])]
    first = max(0, min(first, len(rows) - room))
    more = len(rows) - first - room
    if more > 0 and room > 1:
        shown = rows[first : first + room - 1]
        return [titles, *(line(*row) for row in shown), paint(fit(f"and {more + 1} more", width), DIM)]
    shown = rows[first : first + room]
    gap = [" " * width] if len(shown) < room else []
    return [titles, *(line(*row) for row in shown), *gap]


def _wrap(facts: Sequence[str], width: int) -> list[str]:
    """Facts beside each other, in as many lines as it takes."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + len(fact) + 3 <= width:
            lines[-1] += f" · {fact}"
        else:
            lines.append(fact)
    return lines


def _amount(queue: dict[str, Any]) -> str:
    return size(queue["value"]) if queue["unit"] == "bytes" else count(queue["value"], queue["unit"])


def _by_latency(item: tuple[str, dict[str, Any]]) -> tuple[bool, bool, float, str]:
    name, peer = item
    latency = peer["latency"]
    return peer["gone"] is not None, latency is None, latency or 0.0, name


def _by_rate(item: tuple[str, dict[str, Any]]) -> tuple[float, str]:
    name, topic = item
    return -((topic["rates"]["delivered"] or 0.0) + (topic["rates"]["published"] or 0.0)), name


def _paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def _plain(text: str, style: str) -> str:
    return text
