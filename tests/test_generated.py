"""What is generated from the schemas is what the schemas say now."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from sidecar_client.v1 import pubsub_pb2

from tests.interop.build import ToolMissing
from tests.prepare import ensure

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = 3  # the status of a check that finds nothing, where Go or Node is not installed


def test_generated_code_is_up_to_date() -> None:
    with contextlib.suppress(ToolMissing):  # then it says so itself
        ensure("js client")  # whose packages have the generator: they are installed once at a time
    done = subprocess.run(  # the first time on a machine it builds Go's plugins
        [sys.executable, "tools/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    if done.returncode == LEFT_OUT and os.environ.get("CI") != "true":
        pytest.skip(f"the rest is up to date; {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, ""), f"run `make protos`\n{done.stdout}{done.stderr}"


def test_schemas_keep_their_registered_names() -> None:
    file = descriptor_pool.Default().FindFileContainingSymbol("sidecar.v1.PubSubService")  # type: ignore[no-untyped-call]
    assert file.name == "sidecar/v1/pubsub.proto"
    assert pubsub_pb2.TopicMessage.__module__ == "sidecar_client.v1.pubsub_pb2"


def test_a_change_that_breaks_apps_is_refused(tmp_path: Path) -> None:
    buf = ROOT / "protos/node_modules/.bin/buf"
    if not buf.exists() and os.environ.get("CI") != "true":
        pytest.skip("buf is not installed: `make breaking` does it")
    released = max((ROOT / "protos/released").glob("*.binpb"), key=lambda image: _version(image.stem))
    shutil.copytree(ROOT / "protos/sidecar", tmp_path / "sidecar")
    shutil.copy(ROOT / "protos/buf.yaml", tmp_path)

    def compare() -> subprocess.CompletedProcess[str]:
        command = [str(buf), "breaking", "--against", str(released)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert compare().returncode == 0
    schema = tmp_path / "sidecar/v1/peer.proto"
    schema.write_text(schema.read_text().replace("string agent = 7;", "string agent = 77;"))
    broken = compare()
    assert broken.returncode != 0
    assert 'field "7" with name "agent"' in broken.stdout


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
