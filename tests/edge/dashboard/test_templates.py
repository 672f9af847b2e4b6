"""Templates and scripts keep to the content security policy, and escape everything."""

import ast
import re
from pathlib import Path

import pytest
from jinja2 import nodes

from edge.dashboard import static_files
from edge.dashboard.templating import environment

ROOT = Path(static_files.__file__).parent
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted(path for path in (ROOT / "static").glob("*.js"))
SHEETS = sorted((ROOT / "static").glob("*.css"))
MODULES = sorted(ROOT.rglob("*.py"))
MARKUP_ALLOWED: frozenset[str] = frozenset()
"""Modules that may make markup of their own: none yet. Add one after a review."""

TAG = re.compile(r"<([a-zA-Z][\w-]*)((?:\"[^\"]*\"|'[^']*'|[^>\"'])*)>")
ATTRIBUTE = re.compile(r"([\w:@.-]+)(?:\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"'>]+))?")
JINJA = re.compile(r"\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}", re.DOTALL)


def tags(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Each tag with its attributes. Jinja is taken out, so that quotes inside it do not count."""
    text = JINJA.sub(lambda found: "X" if found[0].startswith("{{") else " ", path.read_text())
    return [
        (name.lower(), {key.lower(): value.strip("\"'") for key, value in ATTRIBUTE.findall(rest)})
        for name, rest in TAG.findall(text)
    ]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_template_has_nothing_that_the_policy_blocks(path: Path) -> None:
    for tag, attributes in tags(path):
        assert tag not in ("style", "object", "embed", "iframe", "base"), tag
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not [name for name in attributes if name.startswith("hx-on")], tag
        for name in ("hx-vals", "hx-headers", "hx-confirm", "hx-get", "hx-post"):
            assert not attributes.get(name, "").lower().startswith(("js:", "javascript:"))
        assert "[" not in attributes.get("hx-trigger", "")
        for name in ("href", "src", "action", "hx-get", "hx-post"):
            target = attributes.get(name, "")
            assert not re.match(r"(?i)javascript:|https?:|//", target), f"{tag} {name}={target}"
        if tag == "script":
            assert "src" in attributes or attributes.get("type") == "application/json"


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_template_turns_no_escaping_off(path: Path) -> None:
    tree = environment().parse(path.read_text())
    assert not [node for node in tree.find_all(nodes.Filter) if node.name in ("safe", "xmlattr")]
    assert not list(tree.find_all((nodes.ScopedEvalContextModifier, nodes.EvalContextModifier)))
    assert "Markup" not in path.read_text()


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_attribute_values_stand_in_quotes(path: Path) -> None:
    """Autoescape does not help where an attribute has none."""
    text = re.sub(r"\{%.*?%\}|\{#.*?#\}", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"\{\{.*?\}\}", "VALUE", text, flags=re.DOTALL)
    for _, rest in TAG.findall(text):
        assert "=VALUE" not in re.sub(r"\"[^\"]*\"|'[^']*'", "Q", rest), rest


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_form_posts_or_gets(path: Path) -> None:
    for tag, attributes in tags(path):
        if tag == "form":
            assert attributes.get("method") in ("post", "get"), f"{path.name}: {attributes}"
        if tag == "button" and attributes.get("type") is None:
            assert "data-copy" not in attributes, "a copy button would send its form"


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_labels_and_headers_of_tables_are_there(path: Path) -> None:
    found = tags(path)
    for tag, attributes in found:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row", "colgroup", "rowgroup"), path.name
    count = [tag for tag, _ in found].count
    assert count("table") == count("caption")


@pytest.mark.parametrize("path", SHEETS, ids=named)
def test_rule_that_cuts_or_scrolls_is_the_containing_block(path: Path) -> None:
    """Otherwise it does not cut its absolute descendants, which then widen the page."""
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", path.read_text())
    cutting = [
        rule for rule in rules if re.search(r"overflow(-[xy])?: *(auto|scroll|hidden)", rule[1])
    ]
    assert cutting
    for selector, declarations in cutting:
        assert re.search(r"position: *(relative|absolute|sticky)", declarations), selector.strip()


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_script_writes_no_markup_and_evaluates_nothing(path: Path) -> None:
    text = path.read_text()
    for word in (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("),
        *(".style.", 'setAttribute("style', "setAttribute('style", "createContextualFragment"),
    ):
        assert word not in text, word


def test_modules_make_no_markup() -> None:
    makers = {"Markup", "markupsafe", "mark_safe"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", None) or getattr(node, "attr", None)
            names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            used = makers.intersection([name or "", *names, getattr(node, "module", "") or ""])
            assert not used or named(path) in MARKUP_ALLOWED, f"{named(path)}: {used}"


def test_everything_is_escaped() -> None:
    template = environment().from_string('<p title="{{ x }}">{{ x }}</p>')
    text = template.render(x="\"'><script>&")
    assert (
        text == '<p title="&#34;&#39;&gt;&lt;script&gt;&amp;">&#34;&#39;&gt;&lt;script&gt;&amp;</p>'
    )
