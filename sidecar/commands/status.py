"""`sidecar status`."""

import argparse
from dataclasses import asdict

from sidecar_client import Client, Reachability

from .common.client import Output, add_client_flags, talk
from .common.exit_codes import FAILED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait until it is ready, for as long as --timeout says")
    parser.add_argument("--statistics", action="store_true", help="print the counters as well")
    add_client_flags(parser)
    parser.epilog = "exit code: 0 when the sidecar is ready, 1 when it is not, 3 when there is none"


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        readiness = await client.readiness()
        if options.wait and not readiness.ready:
            async for readiness in client.watch_readiness():
                if readiness.ready:
                    break
        node = await client.info()
        statistics = await client.statistics() if options.statistics else {}
        conditions = [
            {"type": c.type, "met": c.met, "reason": c.reason, "message": c.message, "remedy": c.remedy}
            for c in readiness.conditions
        ]
        fields = {
            "ready": readiness.ready,
            "conditions": conditions,
            "peer_id": node.peer_id,
            "network": node.network,
            "version": node.version,
            "api_engine": node.api_engine,
            "listening": list(node.listening_addresses),
            "announced": list(node.announced_addresses),
            "observed": list(node.observed_addresses),
            "relayed": list(node.relayed_addresses),
            "reachability": words(node.reachability),
            "addresses": [
                {
                    "address": each.address,
                    "reachability": words(each.reachability),
                    "source": each.source,
                    "proofs": each.proofs,
                    "failures": each.failures,
                }
                for each in node.addresses
            ],
            "port_mapping": None if node.port_mapping is None else asdict(node.port_mapping),
            "uptime": node.uptime,
        }
        lines = [
            f"{'ready' if readiness.ready else 'not ready'}, up {duration(node.uptime)}, sidecar {node.version}",
            f"  peer id    {node.peer_id}",
            f"  network    {node.network}",
        ]
        lines += [f"  engine     {node.api_engine}"] * bool(node.api_engine)
        lines += [f"  listening  {address}" for address in node.listening_addresses]
        lines += [f"  announced  {address}" for address in node.announced_addresses]
        lines += [f"  seen as    {address}" for address in node.observed_addresses]
        lines += [f"  relayed    {address}" for address in node.relayed_addresses]
        for each in node.addresses:
            found = f"reached by {each.proofs}, not by {each.failures}" if each.proofs or each.failures else "not tried"
            lines.append(f"  {words(each.reachability):<13}  {each.address} ({each.source}; {found})")
        if node.port_mapping is not None and node.port_mapping.state != "off":
            lines.append(f"  ports      {node.port_mapping.message}")
        for condition in readiness.conditions:
            lines.append(f"  {'yes' if condition.met else 'NO '}  {condition.type}: {condition.message}")
            if condition.remedy:
                lines.append(f"         {condition.remedy}")
        if options.statistics:
            fields["statistics"] = statistics
            lines += [f"  {name} {value:g}" for name, value in sorted(statistics.items())]
        await out.record(fields, *lines)
        return 0 if readiness.ready else FAILED

    return talk(options, conversation)


def words(reachability: Reachability) -> str:
    """A verdict for people: "not reachable"."""
    return reachability.name.lower().replace("_", " ")


def duration(seconds: float) -> str:
    """A time for people: `8 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    whole = int(seconds)
    units = [("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    first = next((place for place, (_, count) in enumerate(units) if count), 3)
    return " ".join(f"{count} {name}" for name, count in units[first : first + 2] if count) or "0 s"
