"""Write deploy/kubernetes/*.yaml from the charts: `make manifests`. `rendered(helm)` is what tests compare."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHARTS = ROOT / "deploy" / "helm"
PLACE = ROOT / "deploy" / "kubernetes"
NAMESPACE = "mesh"
_HEAD = "# Made from {chart} by `make manifests`; change that, or the copy that you apply.\n"

# Each file: the release's name and its chart.
FILES = {"bootstrap.yaml": ("sidecar", "sidecar"), "app.yaml": ("example", "example-app")}
_LEFT_OUT = r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by|namespace): .*\n|^# Source: .*\n"


def template(helm: str, release: str, chart: str, *flags: str) -> str:
    """What `helm template` makes of a chart of ours, with the charts that it depends on. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        charts = Path(folder) / "helm"
        shutil.copytree(CHARTS, charts, ignore=shutil.ignore_patterns("charts", "Chart.lock"))  # of a build by hand
        place = charts / chart
        if "dependencies:" in (place / "Chart.yaml").read_text():
            _run(helm, "dependency", "build", str(place))
        return _run(helm, "template", release, str(place), "--namespace", NAMESPACE, *flags)


def rendered(helm: str) -> dict[str, str]:
    """Each file's content: for whatever namespace it is applied to, without what only Helm needs."""
    made = {}
    for name, (release, chart) in FILES.items():
        text = re.sub(_LEFT_OUT, "", template(helm, release, chart, "--skip-tests"), flags=re.M)
        made[name] = _HEAD.format(chart=f"deploy/helm/{chart}") + re.sub(r"\n\n+(?=---)", "\n", text)
    return made


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
    return done.stdout


if __name__ == "__main__":
    PLACE.mkdir(exist_ok=True)
    for name, text in rendered(sys.argv[1]).items():
        (PLACE / name).write_text(text)
