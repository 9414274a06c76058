"""Whether objects are what a custom resource's definition allows, strictly: fields that it does not name are refused.

`python custom.py FOLDER < objects.yaml`, with the definitions' files in FOLDER; run by the Python of `make tools`,
which has jsonschema. Says what is wrong and ends with 1, or ends with 0.
"""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without room for fields that it does not name, as an API server with strict validation takes it."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


def schemas(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Each version's schema, by apiVersion and kind."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            found[key] = strict(version["schema"]["openAPIV3Schema"])
    return found


def main(folder: Path) -> int:
    known = schemas(folder)
    wrong = 0
    for document in yaml.safe_load_all(sys.stdin):
        for error in jsonschema.Draft7Validator(known[document["apiVersion"], document["kind"]]).iter_errors(document):
            wrong += 1
            print(f"{document['kind']} {'.'.join(map(str, error.absolute_path))}: {error.message}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
