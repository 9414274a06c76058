"""miniupnpd in the NATs: the program that opens ports on many routers for whoever asks from inside."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.namespaces import entering
from bench.reach.places import Place

_OWN = Path(__file__).parents[2] / ".tools/bin"  # where `make miniupnpd` puts it
_END = 10.0
_SETTINGS = """ext_ifname=wan
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
uuid=6288d9dc-d4a1-4ed4-b483-448e6e140161
allow 1024-65535 0.0.0.0/0 1024-65535
"""


def daemon() -> str | None:
    """Where the program is; None where it is not installed."""
    return shutil.which("miniupnpd", path=str(_OWN)) or shutil.which("miniupnpd")


@contextlib.contextmanager
def gateways(program: str, places: Sequence[Place]) -> Iterator[None]:
    """Run it next to the homes of these places."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        settings = Path(directory, "conf")
        settings.write_text(_SETTINGS)
        for place in places:
            own = "-d", "-f", str(settings), "-P", str(Path(directory, f"{place.number}.pid"))
            process = subprocess.Popen(
                entering(place.router, program, *own),
                pass_fds=(place.router,),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(_end, process)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
