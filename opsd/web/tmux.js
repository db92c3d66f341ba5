// <tmux-control-panel>: the tmux sessions of the server's machine, and the daemons' own session to start and to stop.

import { getJson, postJson } from "./api.js";
import { ask } from "./ask.js";
import { isOff, make, reconcile, setAttribute, setOff, setText } from "./dom.js";
import { Panel } from "./panel.js";
import { Poller } from "./poller.js";
import { askToStart, SLOW } from "./tmux_start.js";
import { daemonsOf, endedOf, names, paneWords, sessionWords, stateWords, stopWords } from "./tmux_text.js";
import { report } from "./verdict.js";

const REFRESH = 3000;

class TmuxControlPanel extends Panel {
  #status = null;
  /** From a press of Start or Stop until what came of it is known. */
  #busy = false;
  #poller = new Poller(
    {
      ask: () => getJson("/api/dev/tmux/status"),
      take: (status) => this.#show(status),
      fail: ({ message }) => this.#fail(message),
    },
    REFRESH,
  );

  built() {
    const { start, stop, attach, copy, copied } = this.parts;
    start.addEventListener("click", () => this.#act(start, () => askToStart(this.#status.sessionName)));
    stop.addEventListener("click", () => this.#act(stop, () => this.#askToStop()));
    copy.addEventListener("click", () => this.#copy());
    // What was said of it is no news for who has gone on.
    attach.addEventListener("focusout", ({ relatedTarget }) => {
      if (!attach.contains(relatedTarget)) setText(copied, "");
    });
  }

  placed(signal) {
    document.addEventListener("tmux-changed", () => this.#poller.now(), { signal });
  }

  start() {
    setText(this.parts.error, "");
    this.#poller.start();
  }

  stop() {
    this.#poller.stop();
    report("tmux", null);
  }

  #fail(why) {
    setText(this.parts.state, `tmux can't be asked: ${why}.`);
    setAttribute(this.parts.state, "data-level", null);
    report("tmux", null);
  }

  #show(status) {
    const { state, start, stop, attach, command, allSessions, noSessions, sessions, allPanes, panes } = this.parts;
    const { available, running } = status;
    this.#status = status;
    setText(state, stateWords(status));
    const ended = endedOf(status);
    setAttribute(state, "data-level", ended.length ? "bad" : null);
    // That nothing is wrong here is no news of the platform.
    report("tmux", ended.length ? [{ level: "warn", text: `Ended in tmux: ${names(ended)}` }] : null);
    const busy = this.#busy || status.changing === true;
    start.hidden = stop.hidden = allSessions.hidden = !available;
    setOff(start, busy || running);
    setOff(stop, busy || !running);
    attach.hidden = !running;
    setText(command, status.attach);
    noSessions.hidden = status.sessions.length > 0;
    reconcile(sessions, status.sessions, ({ name }) => name, () => make("tmux-session"), updateSession);
    allPanes.hidden = status.panes.length === 0;
    reconcile(panes, status.panes, ({ window, index }) => `${window} ${index}`, () => make("tmux-pane"), updatePane);
  }

  async #act(button, action) {
    const { error } = this.parts;
    // It is shown to be off only with the next status.
    if (this.#busy || isOff(button)) return;
    this.#busy = true;
    setText(error, "");
    try {
      await action();
    } catch (failure) {
      setText(error, `That did not work: ${failure.message}.`);
    } finally {
      this.#busy = false;
      this.#poller.now();
    }
  }

  async #askToStop() {
    const detail = stopWords(this.#status.sessionName, await this.#connections());
    const yes = await ask({ title: "Stop the tmux session?", detail, yes: "Stop", danger: true });
    if (yes) await postJson("/api/dev/tmux/stop", undefined, SLOW);
  }

  /** How many clients are connected to the daemons in the session; null if that can't be told. */
  async #connections() {
    const daemons = new Set(daemonsOf(this.#status).filter(({ dead }) => !dead).map(({ window }) => window));
    try {
      const { workers } = await getJson("/api/dev/workers");
      const theirs = workers.filter(({ source }) => daemons.has(source));
      return theirs.reduce((sum, worker) => sum + worker.connections, 0);
    } catch {
      return null;
    }
  }

  async #copy() {
    const { command, copied } = this.parts;
    try {
      await navigator.clipboard.writeText(command.textContent);
      setText(copied, "Copied.");
    } catch {
      // No clipboard without a secure context or a permission: the text is selected for the user's own keys.
      getSelection().selectAllChildren(command);
      command.focus();
      setText(copied, "Selected: copy it with Ctrl+C.");
    }
  }
}

function updateSession(row, session) {
  const [title, note] = row.children;
  setText(title, session.name);
  setText(note, sessionWords(session));
}

function updatePane(row, pane) {
  const [summary, last] = row.children;
  const [title, note] = summary.children;
  setText(title, String(pane.window));
  setText(note, paneWords(pane));
  setAttribute(note, "data-level", pane.dead ? "bad" : null);
  setText(last, pane.lines.join("\n") || "(nothing yet)");
}

customElements.define("tmux-control-panel", TmuxControlPanel);
