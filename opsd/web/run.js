// <run-viewer>: a run's status lines and its checklist, live, as a user of the platform gets them.
//
// The address `#run=<runid>:<channel>` opens one at once, and follows what is typed.

import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { RunSocket } from "./run_socket.js";
import { isChannel, isRun, itemTitle, makeHash, parseHash, readLine } from "./run_text.js";
import { session } from "./session.js";

const KEPT = 500;
// So close to its end (in pixels) the log follows what comes.
const NEAR_END = 40;

const USUAL_PORTS = { statusWsUrl: 9002, preflightWsUrl: 9001 };

class RunViewer extends HTMLElement {
  #parts = null;
  #end = null;
  #sockets = [];
  #waiting = [];
  #drawing = 0;
  #seen = 0;

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
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
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
    const log = h("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Status lines", tabIndex: 0 });
    const counted = h("p", { class: "muted" });
    const items = h("tbody");
    const locks = h("p", { class: "locks" });
    const modified = h("p", { class: "muted" });
    const view = h(
      "div",
      { class: "run-view", hidden: true },
      h("section", { class: "run-lines", "aria-label": "Status" }, statusState, progress, log, counted),
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
      log,
      counted,
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
    this.#clear();
    parts.close.disabled = false;
    parts.empty.hidden = true;
    parts.view.hidden = false;
    const [runPart, channelPart] = [encodeURIComponent(run), encodeURIComponent(channel)];
    this.#listen(`${daemonUrl("statusWsUrl")}/${runPart}:${channelPart}?gap=1`, "statusd", parts.statusState, (frame) =>
      this.#status(frame),
    );
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
  }

  #close() {
    for (const socket of this.#sockets) socket.stop();
    this.#sockets = [];
    this.#parts.close.disabled = true;
  }

  #clear() {
    const { log, items, locks, modified, progress, counted } = this.#parts;
    this.#waiting = [];
    this.#seen = 0;
    log.replaceChildren();
    items.replaceChildren();
    progress.hidden = true;
    for (const element of [locks, modified, counted]) setText(element, "");
  }

  // -- lines ----------------------------------------------------------------------------------------------------------

  #status(frame) {
    if (frame?.type === "gap") {
      const text = `Redis could not be heard for ${format.duration(Number(frame.seconds))}: lines may be missing here.`;
      this.#add({ text, percent: null, task: "", level: "warn" });
    } else if (frame?.type === "status" && typeof frame.data === "string") {
      this.#seen += 1;
      this.#add(readLine(frame.data));
    }
  }

  #add(line) {
    this.#waiting.push({ ...line, at: new Date() });
    // Nothing is drawn while the page is hidden: only what would still be shown is kept.
    if (this.#waiting.length > KEPT) this.#waiting.shift();
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = 0;
    const { log, counted } = this.#parts;
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    const lines = this.#waiting.splice(0);
    const last = lines.findLast(({ percent }) => percent !== null);
    // The bar takes its height from the log: first.
    if (last !== undefined) this.#progress(last);
    log.append(...lines.map(lineRow));
    while (log.childElementCount > KEPT) log.firstElementChild.remove();
    if (follow) log.scrollTop = log.scrollHeight;
    setText(counted, `${format.plural(this.#seen, "line")}${this.#seen > KEPT ? `, the last ${KEPT} are shown` : ""}`);
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

function lineRow({ text, percent, task, level, at }) {
  const row = h(
    "div",
    { class: "log-line" },
    h("time", {}, format.time(at)),
    h("span", { class: "line" }, task ? `${task}: ${text}` : text),
  );
  if (level) row.dataset.level = level;
  if (percent !== null) {
    row.append(
      h(
        "span",
        { class: "line-progress" },
        h("progress", { max: 100, value: percent, "aria-label": task || "Progress" }),
        h("span", {}, `${Math.round(percent)} %`),
      ),
    );
  }
  return row;
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
