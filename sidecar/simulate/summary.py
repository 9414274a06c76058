"""A report for people: a few lines."""

from collections.abc import Iterator, Sequence

from .report import Record
from .settings import Assignment


def summary(report: Sequence[Record]) -> Iterator[str]:
    """The report for people: a few lines."""
    run = report[0]
    end = "" if run["whole"] else f"; broken off at {run['played']:.1f} s"
    yield f"{run['scenario']}: {run['nodes']} nodes, {run['duration']:g} s of virtual time, seed {run['seed']}{end}"
    if run["settings"]:
        yield f"with {', '.join(Assignment(*item).text for item in run['settings'].items())}"
    yield ""
    for record in report:
        match record["record"]:
            case "deliveries":
                yield from _told(record)
            case "limit":
                path, ratio = record["path"], record["ratio"]
                shortest_path = f"p50 {time_words(path['p50'])}, p99 {time_words(path['p99'])}"
                times = f"{ratio['p50']:.2f} and {ratio['p99']:.2f} times that"
                yield f"limit        the shortest paths: {shortest_path}; it took {times}"
            case "copies" if record["per_delivery"] is not None:
                fetched, spared = record["fetched_by_iwant"], record["spared_by_idontwant"]
                each = f"{record['per_delivery']:.2f} for each delivery"
                yield f"copies       {each}; {fetched} fetched by IWANT, {spared} spared by IDONTWANT"
            case "hops":
                yield f"hops         {spread_words(record)} until a node has a message"
            case "mesh":
                links = f"{record['topic']}: {spread_words(record)} links a node"
                yield f"mesh         {links}, {record['one_sided']} of them known to one side only"
            case "connections":
                yield f"connections  {spread_words(record)} a node; {record['dials']} dials"
            case "dht":
                yield f"DHT          {record['questions_per_node']:.1f} questions a node; {_lookups(record)}"
    if run["hostile"]:
        yield _hostile(report)
    sent = [record for record in report if record["record"] == "bytes" and record["per_node_second"]]
    sent.sort(key=lambda record: (-record["sent"], record["service"]))
    if sent:
        shown = ", ".join(f"{record['service']} {record['per_node_second']:.0f}" for record in sent)
        yield f"sent         bytes a second and node: {shown}"


def _hostile(report: Sequence[Record]) -> str:
    """What the hostile nodes have got hold of."""
    text = f"hostile      {report[0]['hostile']} nodes"
    for record in report:
        if record["record"] == "connections" and record["to_hostile"] is not None:
            text += f"; to them lead {record['to_hostile']:.0%} of the others' connections"
    for record in report:
        if record["record"] == "mesh" and record["to_hostile"] is not None:
            text += f", {record['to_hostile']:.0%} of their mesh links of {record['topic']}"
    return text


def _told(record: Record) -> Iterator[str]:
    name = "messages" if record["publish"] == "all" else f"publish {record['publish']}"
    missed = f"{record['missed']} missed" if record["missed"] else "none missed"
    yield f"{name:12} {record['messages']}; {record['received']} of {record['owed']} deliveries, {missed}"
    if record["received"]:
        for label, key in (("delay", "delay"), ("last one", "last_receiver")):
            times = record[key]
            shown = ", ".join(f"{name} {time_words(times[name])}" for name in ("p50", "p90", "p99"))
            yield f"  {label:10} {shown}, longest {time_words(times['max'])}"


def _lookups(record: Record) -> str:
    told = f"{record['lookups']} lookups, {record['found']} came to their end"
    half = [_half(record[name]) for name in ("hops", "questions_per_lookup")]
    if None in half:
        return told
    hops = "1 hop" if half[0] == 1 else f"{half[0]:g} hops"
    return f"{told}, half of them within {hops} and {half[1]:g} questions"


def _half(bounded: Sequence[Sequence[float | None]]) -> float | None:
    """The bound that half of all are not above; None: there are none, or it has no bound."""
    left = sum(count or 0 for _, count in bounded) / 2
    for bound, count in bounded:
        left -= count or 0
        if left <= 0:
            return bound if count else None
    return None


def time_words(seconds: float) -> str:
    """A delay for people: `29 ms`, `12.3 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def spread_words(record: Record) -> str:
    """How far values are spread, of a record or a part of one: `1 to 6 (median 3, p99 5)`."""
    if record["min"] is None:
        return "none"
    least, half, nearly, most = (f"{round(record[name], 2):.10g}" for name in ("min", "p50", "p99", "max"))
    return f"{least} to {most} (median {half}, p99 {nearly})"
