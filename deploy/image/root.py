"""Lay out the root of the image: the interpreter, the venv, and the libraries that they load; no shell.

Run in the build stage by its python3: `python3 root.py VENV OUT`. What must be there is asked of the dynamic linker, so
that it works with Debian's Python as with that of the official images.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Parts of the standard library that a server without windows, tests and installers never imports.
LEFT_OUT = {
    *(
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "turtle.py",
        "lib2to3",
        "ensurepip",
        "venv",
        "pydoc_data",
        "pydoc.py",
    ),
    *(
        "site-packages",
        "dist-packages",
        "__pycache__",
        "distutils",
        "curses",
        "dbm",
        "xmlrpc",
        "LICENSE.txt",
    ),
}
# Its extensions that would bring libraries along: databases, terminals, NIS, sound.
EXTENSIONS_LEFT_OUT = {
    "_dbm",
    "_gdbm",
    "readline",
    "_curses",
    "_curses_panel",
    "nis",
    "_tkinter",
    "ossaudiodev",
    "audioop",
}
# The same in installed packages: their tests, and sources of what is compiled.
LEFT_OUT_OF_PACKAGES = (
    "SelfTest",
    "tests",
    "__pycache__",
    "*.pyx",
    "*.pxd",
    "*.pyi",
    "*.c",
    "*.h",
    "*.proto",
    "_virtualenv.*",
    ".lock",
    ".gitignore",
    "CACHEDIR.TAG",
)
USER = 65532  # "nonroot", as in the distroless images


def main(venv: Path, out: Path) -> None:
    """Fill `out`."""
    for link in ("bin", "lib", "lib64"):
        if (Path("/") / link).is_symlink():  # Debian's merged /usr
            target = os.readlink(Path("/") / link)
            (out / target).mkdir(parents=True, exist_ok=True)
            (out / link).symlink_to(target)
    python = Path(sys.executable).resolve()
    copy(python, out)
    named = Path(sys.executable)
    while named.is_symlink():
        put_link(named, out)
        named = named.parent / os.readlink(named)
    stdlib = Path(sysconfig.get_path("stdlib"))

    def unneeded(directory: str, names: list[str]) -> set[str]:
        if Path(directory).name == "lib-dynload":
            return {name for name in names if name.split(".")[0] in EXTENSIONS_LEFT_OUT or name.startswith("_test")}
        left_out = {name for name in names if name in ("__pycache__", "tests") or name.startswith("config-")}
        return left_out | (LEFT_OUT & set(names) if Path(directory) == stdlib else set())

    shutil.copytree(stdlib, inside(stdlib, out), symlinks=True, ignore=unneeded)
    shutil.copytree(venv, inside(venv, out), symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT_OF_PACKAGES))
    for script in (inside(venv, out) / "bin").iterdir():
        if script.name not in ("sidecar", "python", "python3") and not script.name.startswith("python3."):
            script.unlink()
    places = {}
    for library in libraries([python, *out.rglob("*.so"), *out.rglob("*.so.*")]):
        copy(library, out)
        places[str(library.parent)] = None
    # Where the linker looks: the official images have their libpython in /usr/local/lib.
    (out / "etc").mkdir(exist_ok=True)
    (out / "etc/ld.so.conf").write_text("".join(f"{place}\n" for place in places))
    for file in ("/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf"):
        copy(Path(file).resolve() if Path(file).exists() else Path(file), out, Path(file))
    (out / "etc/passwd").write_text(f"nonroot:x:{USER}:{USER}:sidecar:/var/lib/sidecar:/nonexistent\n")
    (out / "etc/group").write_text(f"nonroot:x:{USER}:\n")
    subprocess.run(["ldconfig", "-r", str(out)], check=True)
    # Compiled once here, for the root is read-only; unchecked, so that no source is looked at in the start.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for tree in (stdlib, venv):
        place = inside(tree, out)
        compileall.compile_dir(place, stripdir=str(out), quiet=2, workers=0, invalidation_mode=unchecked)
    for directory, mode in (
        ("var/lib/sidecar", 0o700),
        ("run/sidecar", 0o750),
        ("etc/sidecar", 0o755),
        ("tmp", 0o1777),
    ):
        (out / directory).mkdir(parents=True, exist_ok=True)
        (out / directory).chmod(mode)
    for directory in ("var/lib/sidecar", "run/sidecar"):
        os.chown(out / directory, USER, USER)


def inside(path: Path, out: Path) -> Path:
    """Where a path of this system goes in the image."""
    return out / path.relative_to("/")


def copy(source: Path, out: Path, to: Path | None = None) -> None:
    """Copy a file into `out`, at the same place; one that is missing in the build stage is not needed."""
    place = inside(to or source, out)
    if source.exists() and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, place)


def put_link(link: Path, out: Path) -> None:
    """Copy a symbolic link, as it is."""
    place = inside(link, out)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.readlink(link))


def libraries(files: list[Path]) -> Iterator[Path]:
    """Every shared library that the files need, each at the path where the linker looks for it."""
    listed = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False).stdout
    missing = set(re.findall(r"^\s+(\S+) => not found", listed, re.MULTILINE))
    if missing:
        raise SystemExit(f"libraries are missing: {', '.join(sorted(missing))}")
    found = set(re.findall(r"(?:=>\s*|^\s+)(/\S+) \(0x", listed, re.MULTILINE))
    # Loaded by name when a thread is cancelled: the linker does not list it.
    found |= {str(path) for path in Path("/").glob("lib/*-linux-gnu/libgcc_s.so.1")}
    for name in sorted(found):
        path = Path(name)
        if not path.is_relative_to(files[-1].anchor) or path.exists():
            yield path.parent.resolve() / path.name


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
