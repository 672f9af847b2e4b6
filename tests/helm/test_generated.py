"""What of the chart is made from the program and from values.yaml is current."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from edge.config.fields import walk_settings
from edge.config.model import Configuration
from tests.helm.chart import CHART, ROOT
from tests.helm.generated import generated, manifests, restart_paths, secret_paths
from tests.helm.values_file import values_of
from tests.helm.values_schema import MAY_BE_NULL, SHAPES, values_schema

VALUES = values_of((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("path", list(generated()), ids=lambda path: path.name)
def test_generated_file_is_current(path: Path) -> None:
    assert path.read_text() == generated()[path], "run `make chart`"


@pytest.mark.parametrize("path", list(manifests()), ids=lambda path: path.name)
def test_kept_manifests_are_current(path: Path) -> None:
    assert path.read_text() == manifests()[path], "run `make chart` and read the difference"


def test_every_value_has_a_comment() -> None:
    assert not [value.name for value in VALUES if value.leaf and not value.description]


def test_every_shape_is_of_a_value() -> None:
    assert set(SHAPES) | MAY_BE_NULL <= {value.name for value in VALUES}


def test_every_table_of_the_schema_is_closed() -> None:
    """Maps without known keys say what they hold."""
    schema = values_schema(VALUES)
    assert schema["additionalProperties"] is False
    for name, value in schema["properties"].items():
        if "properties" in value:
            assert value["additionalProperties"] is False, name


def test_schema_has_draft_7_keywords_only() -> None:
    """Helm 3 and 4 read draft-07. `$defs` is where references point, and no keyword there."""
    later = {"prefixItems", "unevaluatedProperties", "dependentRequired", "dependentSchemas"}

    def walk(one: object) -> None:
        if isinstance(one, dict):
            assert later.isdisjoint(one)
            for inner in one.values():
                walk(inner)
        elif isinstance(one, list):
            for inner in one:
                walk(inner)

    walk(values_schema(VALUES))


def test_schema_of_the_configuration_is_the_program_s_own() -> None:
    ours = json.loads((ROOT / "config/schema.json").read_text())
    theirs = json.loads((CHART / "values.schema.json").read_text())
    tables = dict(theirs["$defs"])
    top = tables.pop("Configuration")
    assert tables == ours["$defs"]
    assert top == {key: part for key, part in ours.items() if key not in ("$schema", "$defs")}


def test_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])
    assert chart["description"] == project["description"]


def test_restart_paths_are_the_settings_that_cannot_be_reloaded() -> None:
    fixed = {path for path, field in walk_settings(Configuration) if not field.reloadable}
    assert set(restart_paths()) == fixed
    assert all(path.count(".") == 1 and "[" not in path for path in fixed), "the chart reads tables"


def test_secret_paths_have_the_credentials() -> None:
    assert {
        *("upstreams[].api_key", "auth.admin_token", "dashboard.oidc.client_secret"),
        *("dashboard.admin_password", "store.objects_secret_key", "alerts.secret"),
        "upstreams[].headers.{}",
    } <= set(secret_paths())
