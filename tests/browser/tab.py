"""A page in Chromium, watched for everything that a page of ours must never do."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request

from tests.clients.programs import PACKAGES

SHOTS = Path(os.environ.get("PENSTOCK_TEST_SHOTS", Path(__file__).parent / "shots"))
"""Folder of the screenshots."""

AXE = (PACKAGES / "axe-core" / "axe.min.js").read_text("utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

_RUN_AXE = """async tags => {
  const found = await axe.run(document, {runOnly: {type: "tag", values: tags}});
  return found.violations.flatMap(rule => rule.nodes.map(
    node => `${rule.id}: ${node.html.slice(0, 160)} (${node.failureSummary})`));
}"""

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", event => penstockViolation(
  `${event.violatedDirective} ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`));
"""

_WIDER = """() => {
  const page = document.documentElement;
  const room = page.clientWidth;
  if (page.scrollWidth <= room) return [];
  const end = node => {
    const box = node.getBoundingClientRect();
    return Math.max(box.right, box.left + (visible(node) ? node.scrollWidth : 0));
  };
  const visible = node => getComputedStyle(node).overflowX === "visible";
  // Only its containing block cuts an absolute element off, and what is around that.
  const around = node => getComputedStyle(node).position === "absolute"
    ? node.offsetParent : node.parentElement;
  const hidden = node => node && node !== page && (!visible(node) || hidden(around(node)));
  return [...document.body.querySelectorAll("*")]
    .filter(node => end(node) > room + 1 && !hidden(around(node)))
    .map(node => `${node.outerHTML.split(">")[0]}> ends at ${end(node)} px`)
    .concat(`the page is ${page.scrollWidth} px wide, its window ${room} px`).slice(-6);
}"""


class Watch:
    """Everything wrong in the pages of one context.

    Errors in the console, errors of scripts, violations of the content security policy, and
    requests to another host than `base`.
    """

    def __init__(self, context: BrowserContext, base: str) -> None:
        self._context = context
        self._host = urlsplit(base).netloc
        self._seen: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        context.expose_binding("penstockViolation", self._on_violation)
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", lambda event: self._seen.append(f"error of a script: {event.error}"))
        context.on("request", self._on_request)

    def expect(self, pattern: str) -> None:
        """Let pass what matches a regular expression, such as the console's line for a 403."""
        self._expected.append(re.compile(pattern))

    @property
    def faults(self) -> list[str]:
        """What was seen, without what was expected."""
        return [
            fault
            for fault in self._seen
            if not any(pattern.search(fault) for pattern in self._expected)
        ]

    def close(self) -> None:
        """Close the context, after what its pages have already reported is here."""
        for page in self._context.pages:
            with suppress(Error):  # a page that is just being replaced
                page.evaluate("0")  # comes back after every event before it
        self._context.close()

    def _on_violation(self, source: Any, what: str) -> None:
        self._seen.append(f"content security policy: {what}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._seen.append(f"console: {message.text} at {message.location['url']}")

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.netloc != self._host:
            self._seen.append(f"a request to another host: {request.url}")


def shot(page: Page, name: str) -> Path:
    """Save a screenshot of the whole page. name: its file, without `.png`."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    file = SHOTS / f"{name}.png"
    page.screenshot(path=file, full_page=True, animations="disabled")
    return file


def violations(page: Page) -> list[str]:
    """What axe finds wrong with the page by the rules of WCAG 2.2 AA."""
    try:
        page.evaluate(f"if (!window.axe) {{ {AXE} }}")
    except Error as error:
        raise AssertionError(f"axe cannot be loaded: {error}") from error
    found: list[str] = page.evaluate(_RUN_AXE, RULES)
    return found


def wider_than_the_window(page: Page) -> list[str]:
    """The elements that make the page scroll sideways; none should."""
    found: list[str] = page.evaluate(_WIDER)
    return found


_FOCUSABLE = """() => {
  const shown = node => node.checkVisibility({visibilityProperty: true}) && !node.disabled
    && node.tabIndex >= 0 && node.type !== "hidden";
  const groups = new Set();
  return [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex]")]
    .filter(shown)
    .filter(node => {  // of radio buttons the Tab key reaches one
      if (node.type !== "radio") return true;
      const first = !groups.has(node.name);
      groups.add(node.name);
      return first;
    })
    .map((node, at) => { node.dataset.stop = at; return node.outerHTML.slice(0, 120); });
}"""

_STOP = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const group = node.type === "radio"
    ? document.querySelector(`input[type=radio][name="${node.name}"][data-stop]`) : node;
  return [group.dataset.stop ?? "", ring];
}"""


def keyboard_faults(page: Page) -> list[str]:
    """Controls that the Tab key does not reach, or where the focus cannot be seen, and forms that
    Enter does not send."""
    controls: list[str] = page.evaluate(_FOCUSABLE)
    reached: dict[int, bool] = {}
    page.evaluate("document.activeElement.blur()")
    for _ in range(2 * len(controls) + 10):
        if len(reached) == len(controls):
            break
        page.keyboard.press("Tab")
        at, ring = page.evaluate(_STOP)
        if at:
            reached[int(at)] = ring
    found = [f"not reached: {text}" for at, text in enumerate(controls) if at not in reached]
    found += [f"no focus ring: {controls[at]}" for at, ring in reached.items() if not ring]
    found += page.evaluate(
        "[...document.forms].filter(form => !form.querySelector("
        "'button:not([type=button]), input[type=submit]'))"
        ".map(form => `no button sends: ${form.action}`)"
    )
    return found
