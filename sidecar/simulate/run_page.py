"""The page of one run: a sentence, the figures that matter, pictures of what the report says, and last what it cost."""

from collections.abc import Iterator, Sequence

from .drawing import (
    RunSet,
    bounded_figure,
    bytes_figure,
    cpu_figure,
    delay_figure,
    first,
    moments_figure,
    of_kind,
    spread_figure,
)
from .page import Figure, Tile, document, figures, lines, section, tiles
from .report import COLUMN, Record
from .summary import spread_words, summary, time_words

COST_PART = '<section id="cost">'
"""Where the part of a page begins in which equal runs differ; nothing but the page's end follows it."""
_TOPICS = 3  # of which a caption tells


def run_page(report: Sequence[Record], cost: Record) -> str:
    """HTML. `cost`: as in the file of that name. Raises ImportError where `pictures.lacking`."""
    run, every = report[0], first(report, "deliveries")
    runs = [RunSet("", [report])]
    lead = [line for line in (_setting(run), run["about"]) if line]
    drawn = [
        *_delays(report),
        *_spreads(runs, report),
        *_traffic(report),
        *_degrees(runs, report),
        *_lookups(runs, report),
    ]
    parts = [
        tiles(list(_tiles(report))),
        section("Pictures", figures(drawn)),
        section("All figures", lines(summary(report))),
        section("What the run took", tiles(list(_costs(cost))), figures(_cpu(cost)), name="cost", lead=_DIFFERS),
    ]
    bad = not run["whole"] or bool(every and every["missed"])
    return document(run["scenario"], lead, _result(report), parts, bad=bad)


_DIFFERS = "Of this machine. It differs from run to run, unlike all above, which equal seeds have in common."


def _setting(run: Record) -> str:
    hostile = f", {run['hostile']} of them hostile" if run["hostile"] else ""
    return f"{run['nodes']} nodes{hostile}, {run['duration']:g} s of virtual time, seed {run['seed']}"


def _result(report: Sequence[Record]) -> str:
    run, every, limit = report[0], first(report, "deliveries"), first(report, "limit")
    said = "" if run["whole"] else f"Broken off after {run['played']:.1f} of {run['duration']:g} s. "
    if every is None:
        return said + "No message was published."
    if not every["received"]:
        return said + f"None of the {every['owed']} deliveries that were owed arrived."
    delay = every["delay"]
    half, nearly = time_words(delay["p50"]), time_words(delay["p99"])
    said += f"Half of all deliveries took at most {half}, 99 % at most {nearly}"
    if limit is not None:
        said += f", which is {limit['ratio']['p99']:.2f} times what the shortest paths take"
    missed = every["missed"]
    return f"{said}. " + (
        f"{missed} of {every['owed']} deliveries were missed." if missed else "Nobody missed a message."
    )


def _tiles(report: Sequence[Record]) -> Iterator[Tile]:
    every, copies, connections = first(report, "deliveries"), first(report, "copies"), first(report, "connections")
    if every and every["received"]:
        yield Tile(time_words(every["delay"]["p50"]), "delay, p50")
        yield Tile(time_words(every["delay"]["p99"]), "delay, p99")
        yield Tile(time_words(every["last_receiver"]["p99"]), "last receiver, p99")
    if copies and copies["per_delivery"] is not None:
        yield Tile(f"{copies['per_delivery']:.2f}", "copies for each delivery")
    for record in of_kind(report, "bytes"):
        if record["service"] == "gossip" and record["per_node_second"]:
            yield Tile(f"{record['per_node_second'] / 1024:.1f}", "KiB/s of gossip sent by a node")
    if connections and connections["p50"] is not None:
        yield Tile(str(connections["p50"]), "connections, median")


def _delays(report: Sequence[Record]) -> list[Figure]:
    every, limit = first(report, "deliveries"), first(report, "limit")
    if every is None or not every["received"]:
        return []
    caption = "Of all deliveries: {}. Of each message's last receiver: {}.".format(
        *(
            f"p50 {time_words(times['p50'])}, p99 {time_words(times['p99'])}, longest {time_words(times['max'])}"
            for times in (every["delay"], every["last_receiver"])
        )
    )
    if limit is not None:
        caption += (
            f" No protocol is faster than the shortest paths over the open connections: p50 "
            f"{time_words(limit['path']['p50'])}, p99 {time_words(limit['path']['p99'])}."
        )
    missed = sum(record["missed"] > 0 for record in of_kind(report, "message"))
    moments = "What each message took, by when it was published"
    moments += f"; {missed} of them somebody has missed." if missed else "; nobody has missed one."
    return [*delay_figure(report, caption), *moments_figure(report, moments)]


def _spreads(runs: Sequence[RunSet], report: Sequence[Record]) -> list[Figure]:
    hops, copies = first(report, "hops"), first(report, "copies")
    drawn: list[Figure] = []
    if hops:
        caption = f"How often a message was sent until a node had it: {spread_words(hops)}."
        drawn += spread_figure(runs, "hops", "Hops", caption, across="hops", of="deliveries")
    if copies and copies["per_delivery"] is not None:
        caption = (
            f"How many copies of a message a node got, in its mean: {spread_words(copies['per_node'])}. In all "
            f"{copies['per_delivery']:.2f}; {copies['fetched_by_iwant']} were fetched by IWANT, "
            f"{copies['spared_by_idontwant']} spared by IDONTWANT."
        )
        across = "copies of a message"
        drawn += spread_figure(runs, "copies", "Copies", caption, across=across, of="nodes", width=COLUMN)
    return drawn


def _traffic(report: Sequence[Record]) -> list[Figure]:
    sent = sorted(of_kind(report, "bytes"), key=lambda record: (-record["sent"], record["service"]))
    rates = ", ".join(f"{each['service']} {each['per_node_second']:.0f}" for each in sent if each["per_node_second"])
    return bytes_figure(report, f"Payload that a node sent. In the mean of the whole run, bytes a second: {rates}.")


def _degrees(runs: Sequence[RunSet], report: Sequence[Record]) -> list[Figure]:
    meshes, connections = of_kind(report, "mesh"), first(report, "connections")
    drawn: list[Figure] = []
    if meshes:
        told = [f"{mesh['topic']} {spread_words(mesh)}" for mesh in meshes[:_TOPICS]]
        more = f", and {len(meshes) - _TOPICS} further topics" if len(meshes) > _TOPICS else ""
        one_sided = sum(mesh["one_sided"] for mesh in meshes)
        caption = (
            f"Links of a node in a topic's mesh at the end: {'; '.join(told)}{more}. "
            f"{one_sided} of them are known to one side only."
        )
        drawn += spread_figure(runs, "mesh", "Mesh", caption, across="mesh links", of="nodes")
    if connections and connections["p50"] is not None:
        caption = f"Connections of a node at the end: {spread_words(connections)}. {connections['dials']} dials in all."
        if report[0]["hostile"] and connections["to_hostile"] is not None:
            caption += f" {connections['to_hostile']:.0%} lead to hostile nodes."
        drawn += spread_figure(runs, "connections", "Connections", caption, across="connections", of="nodes")
    return drawn


def _lookups(runs: Sequence[RunSet], report: Sequence[Record]) -> list[Figure]:
    dht = first(report, "dht")
    if dht is None:
        return []
    found = f"{dht['found']} of {dht['lookups']} lookups came to their end"
    asked = f"{dht['questions']} questions in all, {dht['questions_failed']} of them in vain"
    return [
        *bounded_figure(
            runs,
            "hops",
            "Hops of lookups",
            f"The longest chain of answers that led to one of the peers found. {found}.",
            across="hops",
            of="lookups",
        ),
        *bounded_figure(
            runs,
            "questions_per_lookup",
            "Questions of lookups",
            f"How many peers a lookup asked. {asked}.",
            across="questions",
            of="lookups",
        ),
    ]


def _costs(cost: Record) -> Iterator[Tile]:
    yield Tile(f"{cost['cpu_seconds']:.1f} s", "processor time")
    yield Tile(f"{cost['wall_seconds']:.1f} s", "until it was over")
    yield Tile(f"{cost['peak_memory_bytes'] / 2**20:.0f} MiB", "memory at most")
    if cost["cpu_per_node_second"] is not None:
        yield Tile(f"{cost['cpu_per_node_second'] * 1e3:.2f} ms", "for each node-second")
    if cost["cpu_per_copy"] is not None:
        yield Tile(f"{cost['cpu_per_copy'] * 1e6:.0f} us", "for each copy")


def _cpu(cost: Record) -> list[Figure]:
    return cpu_figure(cost["cpu_over_time"], "What a virtual second took of the processor, for all nodes together.")
