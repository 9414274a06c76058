"""Generate the code of all schemas: `make protos`; `--check` only says whether what is committed is up to date.

`protos/sidecar/v1` becomes `sidecar_client.v1` (messages, stubs and types), used by the server and the Python client
alike, and the package `sidecarv1` of the Go client; `protos/wire` becomes `sidecar.wire` (messages and types). The
schemas keep the names under which they are registered, so that reflection and other languages see `sidecar/v1/*.proto`.

Go's plugins are built by Go, at the versions below, into `.tools/bin`; `generate_js.py` makes the JavaScript client's
code. Without Go or Node their code is left as it is, with a word about it; `--check` then ends with status 3 if all
else is up to date.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import generate_js
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
API_TARGET = ROOT / "clients/python/src/sidecar_client/v1"
WIRE_TARGET = ROOT / "sidecar/wire"
GO_MODULE = ROOT / "clients/go"
GO_TARGET = GO_MODULE / "sidecarv1"
GO_PLUGINS = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
}
TOOLS = ROOT / ".tools/bin"
LEFT_OUT = 3  # the status of `--check` where the code of a language could not be checked
_BIN = Path(sys.executable).parent
_WELL_KNOWN = Path(protoc.__file__).parent / "_proto"


def _run(arguments: list[str]) -> None:
    status = protoc.main(["protoc", *arguments])
    if status:
        raise SystemExit(f"protoc ended with status {status}")


def _plugin(name: str) -> str:
    return f"--plugin={name}={_BIN / name}"


def _move_package(name: str, text: str) -> str:
    """Let generated Python import its neighbours from `sidecar_client.v1`; the schemas' own names stay."""
    if name.endswith(".pyi"):
        return re.sub(r"\bsidecar\.v1\b(?!/)", "sidecar_client.v1", text)
    text = re.sub(r"^(from|import) sidecar\.v1\b", r"\1 sidecar_client.v1", text, flags=re.M)
    return re.sub(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')sidecar\.v1", r"\1sidecar_client.v1", text)


def _api(directory: Path) -> dict[str, str]:
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "sidecar/v1").glob("*.proto"))
    _run(
        [
            f"-I{PROTOS}",
            f"-I{_WELL_KNOWN}",
            f"--python_out={directory}",
            f"--grpc_python_out={directory}",
            f"--mypy_out=quiet:{directory}",
            f"--mypy_grpc_out=quiet:{directory}",
            _plugin("protoc-gen-mypy"),
            _plugin("protoc-gen-mypy_grpc"),
            *sources,
        ]
    )
    files = {path.name: path.read_text() for path in sorted((directory / "sidecar/v1").iterdir())}
    empty = {name for name, text in files.items() if name.endswith("_grpc.py") and "Stub" not in text}
    empty |= {f"{name}i" for name in empty}
    return {name: _move_package(name, text) for name, text in files.items() if name not in empty}


def _wire(directory: Path) -> dict[str, str]:
    sources = sorted(path.name for path in (PROTOS / "wire").glob("*.proto"))
    if sources:
        _run(
            [
                f"-I{PROTOS / 'wire'}",
                f"-I{_WELL_KNOWN}",
                f"--python_out={directory}",
                f"--mypy_out=quiet:{directory}",
                _plugin("protoc-gen-mypy"),
                *sources,
            ]
        )
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def _go_plugin(name: str) -> str:
    """The path of a plugin at its pinned version, built where it is missing."""
    module = GO_PLUGINS[name]
    path = TOOLS / f"{name}-{module.rpartition('@')[2]}"
    if not path.exists():
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run(["go", "install", module], env={**os.environ, "GOBIN": directory}, check=True)
            TOOLS.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(directory) / name, path)
    return f"--plugin={name}={path}"


def _go(directory: Path) -> dict[str, str]:
    module = re.search(r"^module (\S+)$", (GO_MODULE / "go.mod").read_text(), re.M)
    assert module is not None, "a go.mod names its module"
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "sidecar/v1").glob("*.proto"))
    package = f"{module[1]}/{GO_TARGET.name}"
    options = ",".join(["paths=source_relative", *(f"M{source}={package}" for source in sources)])
    _run(
        [
            f"-I{PROTOS}",
            f"-I{_WELL_KNOWN}",
            f"--go_out={options}:{directory}",
            f"--go-grpc_out={options}:{directory}",
            *map(_go_plugin, GO_PLUGINS),
            *sources,
        ]
    )
    return {path.name: path.read_text() for path in sorted((directory / "sidecar/v1").iterdir())}


def _generated(target: Path) -> list[Path]:
    if target == generate_js.TARGET:
        return [*target.rglob("*.ts")]
    return [*target.glob("*_pb2*.py*"), *target.glob("*.pb.go")]


def stale(target: Path, wanted: dict[str, str]) -> list[str]:
    """Names in `target` that are missing, differ, or should not be there."""
    present = {str(path.relative_to(target)): path.read_text() for path in _generated(target)}
    return sorted(name for name in present.keys() | wanted.keys() if present.get(name) != wanted.get(name))


def generate() -> dict[Path, dict[str, str]]:
    """All generated files: target directory -> name -> text."""
    with tempfile.TemporaryDirectory() as api, tempfile.TemporaryDirectory() as wire:
        files = {API_TARGET: _api(Path(api)), WIRE_TARGET: _wire(Path(wire))}
    if shutil.which("go") is not None:
        with tempfile.TemporaryDirectory() as go:
            files[GO_TARGET] = _go(Path(go))
    if generate_js.available():
        with tempfile.TemporaryDirectory() as js:
            files[generate_js.TARGET] = generate_js.generate(_run, PROTOS, Path(js))
    return files


def main(arguments: list[str]) -> int:
    old: list[str] = []
    generated = generate()
    for target, files in generated.items():
        names = stale(target, files)
        old += [str((target / name).relative_to(ROOT)) for name in names]
        if "--check" in arguments:
            continue
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name in files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_text(files[name])
            else:
                (target / name).unlink()
    verb = "stale" if "--check" in arguments else "written"
    sys.stdout.write("".join(f"{verb}: {name}\n" for name in old))
    tools = {"Go": GO_TARGET, "Node": generate_js.TARGET}
    missing = [tool for tool, target in tools.items() if target not in generated]
    for tool in missing:
        sys.stderr.write(f"{tool} is not installed: its code was neither made nor checked\n")
    if "--check" not in arguments:
        return 0
    return 1 if old else LEFT_OUT if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
