// <tmux-control-panel>: the tmux sessions of the server's machine, and the daemons' own session to start and to stop.

import { getJson, postJson } from "./api.js";
import { ask } from "./ask.js";
import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";

const REFRESH = 3000;
const COPIED = 4000;

// The daemons in the session are given time to drain.
const SLOW = 30_000;

/** Ask, then start the session; resolves to the new state, null when the answer was no. Raises ApiError. */
export async function askToStart(name) {
  const yes = await ask({
    title: "Start the tmux session?",
    detail: `${name ? `The session “${name}”` : "It"} runs this platform's daemons, one window each, as they are configured.`,
    yes: "Start",
  });
  if (!yes) return null;
  const status = await postJson("/api/dev/tmux/start", undefined, SLOW);
  document.dispatchEvent(new CustomEvent("tmux-changed"));
  return status;
}

class TmuxControlPanel extends HTMLElement {
  #parts = null;
  #end = null;
  #status = null;
  #busy = false;
  #poller = new Poller(() => this.#refresh(), REFRESH);

  connectedCallback() {
    this.#parts ??= this.#build();
    this.#end = new AbortController();
    const { signal } = this.#end;
    document.addEventListener("tmux-changed", () => this.#poller.now(), { signal });
    session.whileOpen(
      () => this.#poller.start(),
      () => this.#poller.stop(),
      signal,
    );
  }

  disconnectedCallback() {
    this.#end?.abort();
  }

  #build() {
    const state = h("p", { class: "state", "data-part": "state" }, "Asking…");
    const trouble = h("p", { class: "form-error", role: "alert" });
    const start = h(
      "button",
      { type: "button", class: "primary", "aria-disabled": "true", onclick: () => this.#start() },
      "Start",
    );
    const stop = h(
      "button",
      { type: "button", class: "danger", "aria-disabled": "true", onclick: () => this.#stop() },
      "Stop",
    );
    const command = h("code", { class: "command", tabIndex: 0, "aria-label": "Command to attach" });
    const copied = h("span", { class: "muted", role: "status" });
    const copy = h("button", { type: "button", class: "quiet", onclick: () => this.#copy() }, "Copy");
    const attach = h(
      "div",
      { class: "row attach", hidden: true },
      h("span", { class: "muted" }, "Attach with"),
      command,
      copy,
      copied,
    );
    const sessions = h("ul", { class: "sessions" });
    const none = h("p", { class: "muted", hidden: true }, "None.");
    const allSessions = h(
      "section",
      { class: "part", hidden: true },
      h("h3", {}, "Sessions on this machine"),
      none,
      sessions,
    );
    const panes = h("div", { class: "panes" });
    const allPanes = h("section", { class: "part", hidden: true }, h("h3", {}, "Panes and their last lines"), panes);
    this.replaceChildren(h("div", { class: "row" }, state, start, stop), trouble, attach, allSessions, allPanes);
    return { state, trouble, start, stop, attach, command, copied, none, sessions, allSessions, panes, allPanes };
  }

  async #refresh() {
    try {
      this.#show(await getJson("/api/dev/tmux/status"));
      if (!this.#busy) setText(this.#parts.trouble, "");
    } catch (error) {
      setText(this.#parts.state, `tmux can't be asked: ${error.message}.`);
    }
  }

  #show(status) {
    const parts = this.#parts;
    this.#status = status;
    const { available, running, sessionName } = status;
    const busy = this.#busy || status.changing === true;
    if (!available) setText(parts.state, `No tmux here: ${status.reason || "it is not installed"}.`);
    else if (status.reason) setText(parts.state, `tmux says: ${status.reason}.`);
    else if (status.changing) setText(parts.state, `“${sessionName}” is being started or stopped…`);
    else setText(parts.state, running ? `“${sessionName}” is running.` : `“${sessionName}” is not running.`);
    parts.start.hidden = parts.stop.hidden = !available;
    // Not `disabled`, which would take the focus from who has just pressed it.
    setAttribute(parts.start, "aria-disabled", String(busy || running));
    setAttribute(parts.stop, "aria-disabled", String(busy || !running));
    parts.attach.hidden = !running;
    setText(parts.command, status.attach);
    parts.allSessions.hidden = !available;
    parts.none.hidden = status.sessions.length > 0;
    parts.allPanes.hidden = status.panes.length === 0;
    reconcile(parts.sessions, status.sessions, ({ name }) => name, sessionRow, updateSession);
    reconcile(parts.panes, status.panes, ({ window, index }) => `${window} ${index}`, paneRow, updatePane);
  }

  #start() {
    return this.#act(this.#parts.start, () => askToStart(this.#sessionName()));
  }

  #stop() {
    return this.#act(this.#parts.stop, async () => {
      const yes = await ask({
        title: "Stop the tmux session?",
        detail: `“${this.#sessionName()}” and the daemons in it end. Their clients are told to come back later.`,
        yes: "Stop",
        danger: true,
      });
      return yes ? postJson("/api/dev/tmux/stop", undefined, SLOW) : null;
    });
  }

  async #act(button, action) {
    if (button.getAttribute("aria-disabled") === "true") return;
    this.#busy = true;
    setText(this.#parts.trouble, "");
    try {
      const status = await action();
      if (status !== null) setText(this.#parts.trouble, "");
    } catch (error) {
      setText(this.#parts.trouble, `That did not work: ${error.message}.`);
    } finally {
      this.#busy = false;
      this.#poller.now();
    }
  }

  #sessionName() {
    return this.#status?.sessionName ?? "";
  }

  async #copy() {
    const { command, copied } = this.#parts;
    try {
      await navigator.clipboard.writeText(command.textContent);
      setText(copied, "Copied.");
    } catch {
      // No clipboard without a secure context or a permission: the text is selected for the user's own keys.
      getSelection().selectAllChildren(command);
      command.focus();
      setText(copied, "Selected: copy it with Ctrl+C.");
    }
    setTimeout(() => setText(copied, ""), COPIED);
  }
}

function sessionRow() {
  return h("li", {}, h("strong"), " ", h("span", { class: "muted" }));
}

function updateSession(row, { name, windows, attached, created }) {
  const [title, note] = row.children;
  const since = created ? `, since ${format.dateTime(new Date(created))}` : "";
  setText(title, name);
  setText(note, `${format.plural(windows, "window")}${attached ? ", attached" : ""}${since}`);
}

function paneRow() {
  return h(
    "details",
    { class: "pane" },
    h("summary", {}, h("strong"), " ", h("span", { class: "muted" })),
    h("pre", { tabIndex: 0, "aria-label": "Last lines" }),
  );
}

function updatePane(row, { window, index, command, dead, exitCode, lines }) {
  const [summary, last] = row.children;
  const [title, note] = summary.children;
  setText(title, String(window));
  setText(
    note,
    dead ? `pane ${index}, ended${exitCode === null ? "" : ` with ${exitCode}`}` : `pane ${index}, ${command}`,
  );
  setAttribute(note, "data-level", dead ? "bad" : null);
  setText(last, lines.join("\n") || "(nothing yet)");
}

customElements.define("tmux-control-panel", TmuxControlPanel);
