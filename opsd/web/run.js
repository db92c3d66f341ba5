// <run-viewer>: a run's status lines and its checklist, live, as a user of the platform gets them.
//
// The address `#run=<runid>:<channel>` opens one at once, and follows what is typed.

import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { RunLog } from "./run_log.js";
import { RunSocket } from "./run_socket.js";
import { isChannel, isRun, itemTitle, makeHash, parseHash, readLine } from "./run_text.js";
import { session } from "./session.js";
import { ViewerCount } from "./viewers.js";

const USUAL_PORTS = { statusWsUrl: 9002, preflightWsUrl: 9001 };

class RunViewer extends HTMLElement {
  #parts = null;
  #end = null;
  #sockets = [];
  #log = new RunLog((line) => this.#progress(line));
  #viewers = null;

  connectedCallback() {
    this.#parts ??= this.#build();
    this.#end = new AbortController();
    const { signal } = this.#end;
    window.addEventListener("hashchange", () => this.#openFromAddress(), { signal });
    session.whileOpen(
      () => this.#openFromAddress(),
      () => this.#close(),
      signal,
    );
  }

  disconnectedCallback() {
    this.#end?.abort();
    this.#log.rest();
  }

  #build() {
    const field = (id, label, hint) => {
      const input = h("input", {
        id,
        autocomplete: "off",
        spellcheck: false,
        required: true,
        "aria-describedby": "run-error",
      });
      setAttribute(input, "autocapitalize", "none");
      setAttribute(input, "placeholder", hint);
      return [input, h("div", { class: "field" }, h("label", { htmlFor: id }, label), input)];
    };
    const [run, runField] = field("run-id", "Run id", "batch;;name;;_base");
    const [channel, channelField] = field("run-channel", "Channel", "wepp");
    const error = h("p", { id: "run-error", class: "form-error", role: "alert" });
    const close = h(
      "button",
      { type: "button", class: "quiet", disabled: true, onclick: () => this.#leave() },
      "Close",
    );
    const form = h(
      "form",
      { class: "row run-form", noValidate: true, "aria-label": "Open a run", onsubmit: (event) => this.#submit(event) },
      runField,
      channelField,
      h("button", { type: "submit", class: "primary" }, "Open"),
      close,
    );
    const statusState = h("p", { class: "link-state", "data-part": "status-state" });
    const checkState = h("p", { class: "link-state", "data-part": "checklist-state" });
    const bar = h("progress", { max: 100, value: 0, "aria-labelledby": "run-progress-text" });
    const barText = h("p", { id: "run-progress-text" });
    const progress = h("div", { class: "run-progress", hidden: true }, barText, bar);
    const { tools, list, foot } = this.#log;
    const viewers = h("p", { class: "muted", "data-part": "viewers" });
    this.#viewers = new ViewerCount(viewers);
    const items = h("tbody");
    const locks = h("p", { class: "locks" });
    const modified = h("p", { class: "muted" });
    const view = h(
      "div",
      { class: "run-view", hidden: true },
      h("section", { class: "run-lines", "aria-label": "Status" }, statusState, progress, tools, list, foot, viewers),
      h(
        "section",
        { class: "run-checklist", "aria-label": "Checklist" },
        checkState,
        h(
          "table",
          { class: "checklist" },
          h("caption", { class: "hidden" }, "Checklist"),
          h(
            "thead",
            { class: "hidden" },
            h("tr", {}, h("th", { scope: "col" }, "Step"), h("th", { scope: "col" }, "State")),
          ),
          items,
        ),
        locks,
        modified,
      ),
    );
    const empty = h(
      "p",
      { class: "muted run-empty" },
      "Type a run id and a channel to watch its lines and its checklist live.",
    );
    this.replaceChildren(form, error, empty, view);
    return {
      run,
      channel,
      error,
      close,
      statusState,
      checkState,
      bar,
      barText,
      progress,
      items,
      locks,
      modified,
      view,
      empty,
    };
  }

  #openFromAddress() {
    const asked = parseHash(location.hash);
    if (asked === null) return;
    this.#parts.run.value = asked.run;
    this.#parts.channel.value = asked.channel;
    this.#open(asked);
  }

  #submit(event) {
    event.preventDefault();
    const asked = { run: this.#parts.run.value.trim(), channel: this.#parts.channel.value.trim() };
    if (this.#open(asked)) history.replaceState(null, "", makeHash(asked));
  }

  #leave() {
    this.#close();
    history.replaceState(null, "", location.pathname);
    this.#parts.run.focus();
  }

  #open({ run, channel }) {
    const parts = this.#parts;
    setAttribute(parts.run, "aria-invalid", isRun(run) ? null : "true");
    setAttribute(parts.channel, "aria-invalid", isChannel(channel) ? null : "true");
    if (!isRun(run)) {
      setText(parts.error, "A run id has letters, digits and . _ ; - only, 256 at most.");
      parts.run.focus();
      return false;
    }
    if (!isChannel(channel)) {
      setText(parts.error, "A channel has letters, digits and . _ - only, 256 at most.");
      parts.channel.focus();
      return false;
    }
    setText(parts.error, "");
    this.#close();
    this.#clear(`${run}-${channel}`);
    parts.close.disabled = false;
    parts.empty.hidden = true;
    parts.view.hidden = false;
    const [runPart, channelPart] = [encodeURIComponent(run), encodeURIComponent(channel)];
    const status = `${daemonUrl("statusWsUrl")}/${runPart}:${channelPart}?gap=1`;
    const socket = this.#listen(status, "statusd", parts.statusState, (frame) => this.#status(frame));
    socket.addEventListener("back", ({ detail }) => this.#wasAway(detail));
    this.#viewers.start(run, channel);
    this.#listen(`${daemonUrl("preflightWsUrl")}/${runPart}`, "preflightd", parts.checkState, (frame) =>
      this.#checklist(frame),
    );
    return true;
  }

  #listen(url, name, state, take) {
    const socket = new RunSocket(url);
    const show = () => {
      const words = {
        connecting: `Connecting to ${name}…`,
        open: `${name}: connected`,
        waiting: `${name}: ${socket.reason}; trying again`,
        stopped: socket.reason ? `${name}: ${socket.reason}` : `${name}: closed`,
      };
      setText(state, words[socket.state]);
      setAttribute(state, "data-state", socket.state);
    };
    socket.addEventListener("state", show);
    socket.addEventListener("frame", ({ detail }) => take(detail));
    this.#sockets.push(socket);
    show();
    socket.start();
    return socket;
  }

  #close() {
    for (const socket of this.#sockets) socket.stop();
    this.#sockets = [];
    this.#viewers.stop();
    this.#parts.close.disabled = true;
  }

  #clear(name) {
    const { items, locks, modified, progress } = this.#parts;
    this.#log.clear(name);
    items.replaceChildren();
    progress.hidden = true;
    for (const element of [locks, modified]) setText(element, "");
  }

  // -- lines ----------------------------------------------------------------------------------------------------------

  #status(frame) {
    if (frame?.type === "gap") {
      this.#log.mark(`Redis could not be heard for ${format.absence(Number(frame.seconds))}: lines may be missing here.`);
    } else if (frame?.type === "status" && typeof frame.data === "string") {
      this.#log.add(readLine(frame.data));
    }
  }

  /** A restart, or a page that was too slow: Pub/Sub has no memory of what came meanwhile. */
  #wasAway({ seconds, reason }) {
    this.#log.mark(`Not connected for ${format.absence(seconds)} (${reason}): lines may be missing here.`);
  }

  #progress({ percent, task, text }) {
    const { progress, bar, barText } = this.#parts;
    progress.hidden = false;
    bar.value = percent;
    setText(barText, `${Math.round(percent)} % · ${task ? `${task}: ` : ""}${text}`);
  }

  // -- checklist ------------------------------------------------------------------------------------------------------

  #checklist(frame) {
    if (frame?.type !== "preflight" || typeof frame.checklist !== "object") return;
    const { items, locks, modified } = this.#parts;
    reconcile(items, Object.entries(frame.checklist), ([key]) => key, itemRow, updateItem);
    const held = Object.entries(frame.lock_statuses ?? {})
      .filter(([, locked]) => locked === true)
      .map(([name]) => name);
    setText(locks, held.length ? `Locked: ${held.join(", ")}` : "Nothing is locked.");
    setAttribute(locks, "data-level", held.length ? "warn" : null);
    const at = frame.last_modified;
    setText(modified, Number.isFinite(at) ? `Last change ${format.dateTime(new Date(at * 1000))}` : "");
  }
}

function daemonUrl(name) {
  const given = session.config[name];
  if (given) return given.replace(/\/+$/, "");
  return `${location.protocol.replace("http", "ws")}//${location.hostname}:${USUAL_PORTS[name]}`;
}

function itemRow() {
  return h("tr", {}, h("th", { scope: "row" }), h("td"));
}

function updateItem(row, [key, done]) {
  setText(row.children[0], itemTitle(key));
  setText(row.children[1], done === true ? "done" : "open");
  setAttribute(row, "data-done", String(done === true));
}

customElements.define("run-viewer", RunViewer);
