// <tmux-control-panel>: the tmux sessions of the server's machine, and the daemons' own session to start and to stop.

import { getJson, postJson } from "./api.js";
import { ask } from "./ask.js";
import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";
import { report } from "./verdict.js";

const REFRESH = 3000;
const COPIED = 4000;

const FATE =
  "The daemons close each connection and say why. The platform's pages then try again until the daemons run; " +
  "messages published until then are not sent later.";

// A window of this name only follows what the others say.
const FOLLOWER = "logs";

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
      () => {
        this.#poller.stop();
        report("tmux", null);
      },
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
      setAttribute(this.#parts.state, "data-level", null);
      report("tmux", null);
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
    else setText(parts.state, runningWords(status));
    const ended = daemonsOf(status).filter(({ dead }) => dead);
    setAttribute(parts.state, "data-level", ended.length ? "bad" : null);
    // That nothing is wrong here is no news of the platform.
    report("tmux", ended.length ? [{ level: "warn", text: `Ended in tmux: ${names(ended)}` }] : null);
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
        detail: await this.#consequences(),
        yes: "Stop",
        danger: true,
      });
      return yes ? postJson("/api/dev/tmux/stop", undefined, SLOW) : null;
    });
  }

  /** What becomes of whom when the session is stopped. */
  async #consequences() {
    const told = `“${this.#sessionName()}” and the daemons in it end.`;
    const daemons = new Set(daemonsOf(this.#status).filter(({ dead }) => !dead).map(({ window }) => window));
    let connections;
    try {
      const { workers } = await getJson("/api/dev/workers");
      const theirs = workers.filter(({ source }) => daemons.has(source));
      connections = theirs.reduce((sum, worker) => sum + worker.connections, 0);
    } catch {
      return `${told} How many clients are connected can't be told. ${FATE}`;
    }
    if (connections === 0) return `${told} No client is connected to them.`;
    const are = connections === 1 ? "is" : "are";
    return `${told} ${format.plural(connections, "client")} ${are} connected to them. ${FATE}`;
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

function updatePane(row, pane) {
  const { window, index, command, dead, lines } = pane;
  const [summary, last] = row.children;
  const [title, note] = summary.children;
  setText(title, String(window));
  setText(note, `pane ${index}, ${dead ? endWords(pane) : command}`);
  setAttribute(note, "data-level", dead ? "bad" : null);
  setText(last, lines.join("\n") || "(nothing yet)");
}

/** How a dead pane ended, as far as tmux knows, and the last that it said: the reason, where there is one. */
function endWords({ exitCode, exitSignal, lines }) {
  // A last line may be tmux's own.
  const said = lines.findLast((line) => line && !line.startsWith("Pane is dead"));
  return `${ending(exitCode, exitSignal)}${said ? `: ${said}` : ""}`;
}

function ending(exitCode, exitSignal) {
  if (Number.isFinite(exitCode)) return `ended with ${exitCode}`;
  return Number.isFinite(exitSignal) ? `ended by signal ${exitSignal}` : "ended, nobody knows how";
}

const daemonsOf = ({ panes }) => panes.filter(({ window }) => window !== FOLLOWER);

const names = (panes) => [...new Set(panes.map(({ window }) => window))].join(", ");

function runningWords(status) {
  const { running, sessionName } = status;
  if (!running) return `“${sessionName}” is not running.`;
  const daemons = daemonsOf(status);
  const ended = daemons.filter(({ dead }) => dead);
  if (!ended.length) return `“${sessionName}” is running.`;
  if (ended.length === daemons.length) return `“${sessionName}” is there, but nothing runs in it any more.`;
  return `“${sessionName}” is running, but not all of it: ended ${names(ended)}.`;
}

customElements.define("tmux-control-panel", TmuxControlPanel);
