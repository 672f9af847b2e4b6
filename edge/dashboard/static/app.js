// What every page of the dashboard does with a script; each page works without it.
"use strict";
(() => {
  const root = document.documentElement;
  const utc = root.dataset.times === "utc";

  // Messages for screen readers
  function announce(text) {
    const place = document.getElementById("announce");
    if (place) {
      place.textContent = "";
      setTimeout(() => { place.textContent = text; }, 50);
    }
  }

  // Copy buttons: data-copy is the id of the element whose text is copied.
  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const text = source.value ?? source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      if (!document.execCommand("copy")) {
        announce("Not copied: select the text and copy it.");
        return;
      }
      selection.removeAllRanges();
    }
    const before = button.textContent;
    button.textContent = "Copied";
    announce("Copied");
    setTimeout(() => { button.textContent = before; }, 2000);
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) copy(button);
  });

  // Times: in the zone of the browser, unless UTC is chosen.
  const exact = new Intl.DateTimeFormat(undefined, {
    dateStyle: "medium", timeStyle: "medium", ...(utc ? { timeZone: "UTC" } : {}),
  });
  const zoned = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
    second: "2-digit", timeZoneName: "short", ...(utc ? { timeZone: "UTC" } : {}),
  });
  function left(until) {
    let rest = Math.max(0, Math.round((until - Date.now()) / 1000));
    if (!rest) return "now";
    const found = [];
    for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
      const number = Math.floor(rest / length);
      rest -= number * length;
      if (number || found.length) found.push([number, unit]);
      if (found.length === 2) break;
    }
    return "in " + found.filter(([number]) => number).map((one) => one.join(" ")).join(" ");
  }
  function show(element) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) return;
    if (element.dataset.form === "countdown") {
      const text = left(at.getTime());
      if (element.textContent !== text) element.textContent = text;
    } else if (!element.dataset.shown) {
      element.dataset.shown = "1";
      element.title = element.textContent.trim();
      if (element.dataset.form === "zoned") element.textContent = zoned.format(at);
      else element.textContent = utc ? exact.format(at) + " UTC" : exact.format(at);
    }
  }
  function showAll() {
    document.querySelectorAll("time[datetime]").forEach(show);
  }
  showAll();
  setInterval(() => {
    if (!document.hidden) document.querySelectorAll("time[data-form=countdown]").forEach(show);
  }, 1000);
  new MutationObserver(showAll).observe(document.body, { childList: true, subtree: true });

  // On a phone the navigation is one row, which scrolls to the page that is open.
  const here = document.querySelector(".nav [aria-current]");
  if (here) {
    const row = here.closest(".nav");
    row.scrollLeft = here.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
  }

  // No polling while no one sees the page.
  document.addEventListener("htmx:before:request", (event) => {
    const cause = event.detail.ctx.sourceEvent;
    if (document.hidden && cause && cause.type === "every") event.preventDefault();
  });

  // A form that changes something is sent once, also by a double click.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    const again = () => { delete form.dataset.sent; };
    setTimeout(again, 10000);
    addEventListener("pageshow", again, { once: true });
  });
})();
