// The playground: sends the form and shows the stream. Model output is only ever set as text.
"use strict";
(() => {
  const form = document.getElementById("prompt");
  if (!form) return;
  const part = (id) => document.getElementById(id);
  const [send, stop, curl] = ["send", "stop", "curl"].map(part);
  const [state, fault, text, raw, facts] = ["state", "fault", "text", "raw", "facts"].map(part);
  const [thinking, thinkingText, events] = ["thinking", "thinking-text", "events"].map(part);
  const LARGEST_RAW = 1 << 20;
  let running = null;

  // What an event of each dialect adds: {text, thinking, usage, fault, done}
  const READERS = {
    chat(data) {
      const delta = data.choices?.[0]?.delta ?? {};
      return {
        text: delta.content, thinking: delta.reasoning_content, usage: data.usage,
        fault: data.error?.message,
      };
    },
    messages(data) {
      const delta = data.delta ?? {};
      return {
        text: delta.text, thinking: delta.thinking, usage: data.message?.usage ?? data.usage,
        fault: data.error?.message, done: data.type === "message_stop",
      };
    },
    responses(data) {
      const of = (type) => (data.type === type ? data.delta : undefined);
      const response = data.response ?? {};
      return {
        text: of("response.output_text.delta"),
        thinking: of("response.reasoning_text.delta") ?? of("response.reasoning_summary_text.delta"),
        usage: response.usage,
        fault: response.error?.message ?? (data.type === "error" ? data.message ?? data.error?.message : undefined),
        done: data.type === "response.completed" || data.type === "response.incomplete",
      };
    },
  };

  function fact(name, value, code) {
    const known = [...facts.children].find((one) => one.dataset.name === name);
    const term = document.createElement("dt");
    term.textContent = name;
    term.dataset.name = name;
    const about = document.createElement("dd");
    const inner = code ? about.appendChild(document.createElement("code")) : about;
    inner.textContent = value;
    if (known) {
      known.nextSibling.replaceWith(about);
      known.replaceWith(term);
    } else {
      facts.append(term, about);
    }
  }

  function fail(message) {
    fault.textContent = message;
    fault.hidden = false;
  }

  function reset() {
    for (const element of [text, raw, thinkingText, facts, fault]) element.textContent = "";
    fault.hidden = thinking.hidden = events.hidden = true;
  }

  function show(line, reader) {
    if (line.startsWith(": x-credits-used ")) fact("Cost", line.slice(17) + " credits");
    if (!line.startsWith("data:")) return false;
    const given = line.slice(5).trim();
    if (given === "[DONE]") return true;
    const found = reader(JSON.parse(given));
    if (found.thinking) {
      thinking.hidden = false;
      thinkingText.append(found.thinking);
    }
    if (found.text) text.append(found.text);
    if (found.usage) {
      for (const [name, value] of Object.entries(found.usage)) {
        if (Number.isInteger(value)) fact(name, value.toLocaleString());
      }
    }
    if (found.fault) fail(found.fault);
    return Boolean(found.done);
  }

  async function stream(response, reader) {
    const source = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", size = 0, done = false;
    events.hidden = false;
    for (;;) {
      const read = await source.read();
      if (read.done) break;
      size += read.value.length;
      if (size <= LARGEST_RAW) raw.append(read.value);
      const lines = (rest + read.value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) done = show(line, reader) || done;
    }
    if (size > LARGEST_RAW) raw.append("\n… more is not shown");
    if (rest) done = show(rest, reader) || done;
    if (!done && fault.hidden) fail("The stream broke off.");
  }

  async function refusal(response) {
    const content = await response.text();
    try {
      const said = JSON.parse(content);
      events.hidden = false;
      raw.textContent = JSON.stringify(said, null, 2);
      return said.error?.message ?? content;
    } catch {
      return new DOMParser().parseFromString(content, "text/html").body.textContent.trim();
    }
  }

  function ask(path, accept, signal) {
    return fetch(path, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { accept, "hx-request": "true" },
      signal,
    });
  }

  function signedOut(response) {
    const path = response.headers.get("hx-redirect");
    if (path) location.assign(path);
    return Boolean(path);
  }

  async function run() {
    running = new AbortController();
    const { signal } = running;
    const reader = READERS[form.elements.dialect.value];
    reset();
    send.disabled = true;
    stop.hidden = false;
    state.textContent = "Waiting for the answer";
    try {
      const response = await ask(form.action, "text/event-stream", signal);
      if (signedOut(response)) return;
      const served = response.headers.get("x-model-used");
      if (served) fact("Model", served);
      fact("Request", response.headers.get("x-request-id") ?? "", true);
      if (response.ok) {
        state.textContent = "The answer is coming";
        await stream(response, reader);
      } else {
        fail(await refusal(response));
      }
      state.textContent = fault.hidden ? "Complete" : "Failed";
    } catch (error) {
      if (signal.aborted) {
        state.textContent = "Stopped";
      } else {
        fail(error instanceof SyntaxError ? "The stream cannot be read." : "The gateway does not answer.");
        state.textContent = "Failed";
        running.abort();
      }
    } finally {
      running = null;
      send.disabled = false;
      stop.hidden = true;
    }
  }

  async function copyCurl() {
    const response = await ask(form.dataset.curl, "text/plain").catch(() => null);
    if (response === null) return fail("The gateway does not answer.");
    if (signedOut(response)) return;
    if (!response.ok) return fail(await refusal(response));
    await navigator.clipboard.writeText(await response.text());
    state.textContent = "The curl line is copied.";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter === curl) {
      copyCurl().catch(() => fail("The browser did not let it be copied."));
    } else if (!running) {
      run();
    }
  });
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(send);
  });
})();
