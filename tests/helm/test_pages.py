"""The pages about the chart: what they show to copy is rendered, and what they name is there."""

import re

import pytest
import yaml

from edge.config.load import parse
from tests.helm.chart import CHART, ROOT, Rendered, helm

PAGES = {
    "docs/kubernetes.md": (ROOT / "docs/kubernetes.md").read_text(),
    "helm/penstock/README.md": (CHART / "README.md").read_text(),
}


@pytest.mark.parametrize("page", PAGES)
def test_values_to_copy_make_a_configuration_that_is_accepted(page: str) -> None:
    (values,) = re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)
    found = Rendered(helm("template", "penstock", str(CHART), "--values", "-", values=values))
    settings = parse(found.config, env={"ANTHROPIC_API_KEY": "sk-ant-example"})
    assert [model.id for model in settings.models] == ["smart"]
    assert found.container["image"].startswith("registry.example.com/penstock:")
    assert found.container["envFrom"] == [{"secretRef": {"name": "penstock"}}]


def test_pages_name_values_that_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    tables = {name for name, value in values.items() if isinstance(value, dict)} - {"config"}
    for name in re.findall(r"`((?:\w+\.)+\w+)[:`]", PAGES["docs/kubernetes.md"]):
        first, *rest = name.split(".")
        if first in tables:
            found = values[first]
            for part in rest:
                assert isinstance(found, dict), name
                assert part in found or not found, name
                found = found.get(part, {})


@pytest.mark.parametrize("page", [*PAGES, "README.md"])
def test_three_lines_install_the_chart(page: str) -> None:
    secret, install, create, *_ = re.findall(
        r"^(?:kubectl|helm) .*$", (ROOT / page).read_text(), re.MULTILINE
    )
    assert secret.startswith("kubectl create secret generic penstock --from-literal=")
    assert install == "helm install penstock helm/penstock --values values.yaml"
    assert create.startswith("kubectl exec deploy/penstock -- penstock keys create --name laptop")


def test_bundled_stores_are_those_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name, service in (("redis", "redis"), ("postgresql", "postgres")):
        assert values[name]["image"] == f"docker.io/library/{services[service]['image']}"


def test_links_of_the_chart_s_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGES["helm/penstock/README.md"]):
        assert (CHART / target).exists(), target
