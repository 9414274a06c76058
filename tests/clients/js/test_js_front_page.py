"""The JavaScript program on the front page does what it says, with the packed client, at two real sidecars."""

import os
import re
import subprocess
from pathlib import Path

from tests.clients.js.npm_tools import CLIENT
from tests.e2e.processes import PATIENCE, environment, running_pair


def test_the_front_page(app: Path, tmp_path: Path) -> None:
    """It hears what it publishes; started at another sidecar with the peer id of the first, it is answered there."""
    (program,) = re.findall(r"```js\n(.*?)```", (CLIENT.parents[1] / "README.md").read_text(), re.DOTALL)
    (tmp_path / "node_modules").symlink_to(app / "node_modules")
    (tmp_path / "program.mjs").write_text(program)
    command = ["node", str(tmp_path / "program.mjs")]
    with running_pair(tmp_path) as (first, second):
        peer = first.json("id")["peer_id"]
        environ = environment(first.home) | {"PATH": os.environ["PATH"], "SIDECAR_API": str(first.socket)}
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as serving:
            try:
                assert serving.stdout is not None
                assert serving.stdout.readline() == f"{peer} says hello\n"
                environ["SIDECAR_API"] = str(second.socket)
                done = subprocess.run(
                    [*command, peer], env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
                )
                assert done.returncode == 0, done.stderr
                assert re.fullmatch(r"\w+ says hello\nhello, node\n", done.stdout)  # it may hear the other first
            finally:
                serving.kill()
