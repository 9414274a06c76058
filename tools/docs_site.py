"""Make the documentation site in .cache/site/html from the repository's Markdown: `make site`.

The pages are copied first, for the generator wants them in a folder of their own. There README.md becomes index.md, and
links to what is no page lead to the repository. The generator runs in strict mode: a link or an anchor that leads
nowhere ends it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.links import links, pages

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".cache" / "site"
REPOSITORY = "https://github.com/p2p-sidecar/sidecar/blob/main"
_LEFT_OUT = ("tests", "bench")  # for those who work on the sidecar: they have the repository


def staged_name(page: Path) -> Path:
    """Where a page stands in the site."""
    return page.with_name("index.md") if page.name == "README.md" else page


def target_in_site(page: Path, target: str, shown: set[Path]) -> str:
    """The target of a link on a page, in the site; `shown` are the pages and images that the site has."""
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return target
    meant = Path(os.path.normpath(page.parent / path))
    if meant not in shown:
        return f"{REPOSITORY}/{meant.as_posix()}{mark}{anchor}"
    return os.path.relpath(staged_name(meant), page.parent) + mark + anchor


def staged(root: Path = ROOT) -> dict[Path, str]:
    """The text of each page of the site, by its place there."""
    there = [page for page in pages(root) if page.parts[0] not in _LEFT_OUT]
    images = [image.relative_to(root) for image in (root / "docs/images").iterdir()]
    shown = {*there, *images}
    made = {}
    for page in there:
        lines = (root / page).read_text().splitlines()
        for link in sorted(links("\n".join(lines)), reverse=True, key=lambda link: (link.line, link.start)):
            line = lines[link.line - 1]
            new = target_in_site(page, link.target, shown)
            lines[link.line - 1] = line[: link.start] + new + line[link.end :]
        made[staged_name(page)] = "\n".join(lines) + "\n"
    return made


def stage(place: Path) -> None:
    """Write all that the generator reads into a folder, which is emptied first."""
    shutil.rmtree(place, ignore_errors=True)
    for page, text in staged().items():
        (place / "pages" / page).parent.mkdir(parents=True, exist_ok=True)
        (place / "pages" / page).write_text(text)
    shutil.copytree(ROOT / "docs/images", place / "pages/docs/images")
    shutil.copy(ROOT / "tools/docs_site.toml", place / "zensical.toml")


def main() -> None:
    """Stage and generate, with the generator that is named."""
    stage(PLACE)
    done = subprocess.run([sys.argv[1], "build", "--strict", "--clean"], cwd=PLACE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    sys.stdout.write(f"{PLACE / 'html/index.html'}\n")


if __name__ == "__main__":
    main()
