"""The generated code of the JavaScript client, by ts-proto as `clients/js/package-lock.json` pins it.

Beside `sidecar.v1` it has the parts of `google.rpc` that errors carry.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import google.rpc
from grpc_tools import protoc

CLIENT = Path(__file__).resolve().parent.parent / "clients/js"
TARGET = CLIENT / "src/generated"
_PLUGIN = CLIENT / "node_modules/.bin/protoc-gen-ts_proto"
_GOOGLE = Path(next(iter(google.rpc.__path__))).parent.parent
_WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
_OPTIONS = (
    "env=node",  # bytes are Buffers
    "esModuleInterop=true",
    "forceLong=bigint",  # sequences of records have 64 bits
    "importSuffix=.js",
    "oneof=unions-value",
    "outputJsonMethods=false",
    "outputServices=generic-definitions",
    "removeEnumPrefix=true",
    "unrecognizedEnum=false",
    "useDate=false",
)


def available() -> bool:
    """Whether Node is here."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def _plugin() -> Path:
    """ts-proto; it is installed where it is missing."""
    if not _PLUGIN.exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=CLIENT, check=True, stdout=subprocess.DEVNULL)  # ours is the result of a check
    return _PLUGIN


def generate(run: Callable[[list[str]], None], protos: Path, directory: Path) -> dict[str, str]:
    """The files by their path in `TARGET`. `run` is protoc."""
    sources = sorted(str(path.relative_to(protos)) for path in (protos / "sidecar/v1").glob("*.proto"))
    run(
        [
            f"-I{protos}",
            f"-I{_GOOGLE}",
            f"-I{_WELL_KNOWN}",
            f"--plugin=protoc-gen-ts_proto={_plugin()}",
            f"--ts_proto_out={directory}",
            f"--ts_proto_opt={','.join(_OPTIONS)}",
            *sources,
            "google/rpc/error_details.proto",
            "google/rpc/status.proto",
        ]
    )
    return {os.path.relpath(path, directory): path.read_text() for path in sorted(directory.rglob("*.ts"))}
