"""Builds what is published, into one folder: wheels and sdists of both Python packages, and the npm package.

Go has no such file: a module is the repository at a tag, which this names.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def version() -> str:
    """The one version that everything here has."""
    found = re.search(r'^__version__ = "(.*)"$', (ROOT / "sidecar/__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def build(target: Path) -> list[Path]:
    """Build everything into `target`; what it made. Raises CalledProcessError, FileNotFoundError (no npm)."""
    target.mkdir(parents=True, exist_ok=True)
    before = set(target.iterdir())
    uv = Path(sys.executable).with_name("uv")
    for source in (ROOT, ROOT / "clients/python"):
        words = ("build", "-q", "--no-build-isolation", "--no-create-gitignore", "--python", sys.executable)
        subprocess.run([uv, *words, "--out-dir", target, source], cwd=ROOT, check=True)
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is needed for the JavaScript package: install Node 20 or later")
    subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", target],
        cwd=ROOT / "clients/js",
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return sorted(set(target.iterdir()) - before)


def main() -> None:
    """Build into an empty folder and say what there is."""
    parser = argparse.ArgumentParser(description="Build the packages of all languages.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="where to (default: dist)")
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for path in build(folder.resolve()):
            print(f"{path.stat().st_size:>9} bytes  {path}")
    except FileNotFoundError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"exit status {error.returncode}: {' '.join(map(str, error.cmd))}")
    print(f"The Go module has no file. Tag this commit: git tag v{version()} && git tag clients/go/v{version()}")


if __name__ == "__main__":
    main()
