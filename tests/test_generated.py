"""What is generated from the schemas is what the schemas say now."""

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pool
from sidecar_client.v1 import pubsub_pb2

ROOT = Path(__file__).resolve().parent.parent


def test_generated_code_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), f"run `make protos`\n{done.stdout}{done.stderr}"


def test_schemas_keep_their_registered_names() -> None:
    file = descriptor_pool.Default().FindFileContainingSymbol("sidecar.v1.PubSubService")  # type: ignore[no-untyped-call]
    assert file.name == "sidecar/v1/pubsub.proto"
    assert pubsub_pb2.TopicMessage.__module__ == "sidecar_client.v1.pubsub_pb2"
