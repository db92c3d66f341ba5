// <worker-snapshot-panel>: every serving process of the daemons, each with a snapshot of its inside to download.

import { getFile, getJson } from "./api.js";
import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";
import { askToStart } from "./tmux.js";
import { report } from "./verdict.js";

const REFRESH = 2000;

// A worker has 5 s for its snapshot, and a large one takes a while on the way.
const SNAPSHOT = 30_000;

// The browser has begun to read the file long before.
const SAVED = 10_000;

// What the server says where a worker, or its daemon, can't be reached.
const UNREACHABLE = new Set([502, 503, 504]);

// Title, class, and how a worker's cell reads.
const COLUMNS = [
  ["Worker", "name", ({ id }) => String(id)],
  ["Daemon", "", ({ daemon, source }) => String(daemon ?? source ?? "")],
  ["State", "", (worker) => workerState(worker).word],
  ["Process", "number", ({ pid }) => String(pid ?? format.DASH)],
  ["Uptime", "number", ({ uptime }) => format.duration(uptime)],
  ["Connections", "number", ({ connections }) => format.count(connections).value],
  ["Memory", "number", ({ rss }) => format.text(format.bytes(rss))],
  ["CPU", "number", ({ cpu }) => format.cpu(Number.isFinite(cpu) ? cpu * 1000 : NaN)],
  ["Errors", "number", ({ errors }) => format.count(errors).value],
];
const STATE = 2;

function workerState({ ready, redis }) {
  if (ready === false) return { level: "warn", word: redis && redis !== "online" ? `Redis ${redis}` : "not ready" };
  if (redis !== undefined && redis !== "online") return { level: "warn", word: `Redis ${redis}` };
  return { level: "ok", word: "ready" };
}

class WorkerSnapshotPanel extends HTMLElement {
  #parts = null;
  #end = null;
  #unreachable = false;
  #poller = new Poller(() => this.#refresh(), REFRESH);

  connectedCallback() {
    this.#parts ??= this.#build();
    this.#end = new AbortController();
    const { signal } = this.#end;
    document.addEventListener(
      "tmux-changed",
      () => {
        this.#unreachable = false;
        this.#poller.now();
      },
      { signal },
    );
    session.whileOpen(
      () => this.#poller.start(),
      () => {
        this.#poller.stop();
        report("workers", null);
      },
      signal,
    );
  }

  disconnectedCallback() {
    this.#end?.abort();
  }

  #build() {
    const note = h("p", { class: "state", "data-part": "state" }, "Asking…");
    const trouble = h("p", { class: "form-error", role: "alert" });
    const start = h(
      "button",
      { type: "button", class: "primary", hidden: true, onclick: () => this.#start() },
      "Start them in tmux",
    );
    const body = h("tbody", { role: "rowgroup" });
    const table = h(
      "table",
      { role: "table", class: "workers", hidden: true },
      h("caption", { class: "hidden" }, "Serving processes"),
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          ...COLUMNS.map(([title, kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, title)),
          h("th", { role: "columnheader", scope: "col" }, "Snapshot"),
        ),
      ),
      body,
    );
    this.replaceChildren(h("div", { class: "row" }, note, start), trouble, table);
    return { note, trouble, start, table, body };
  }

  async #refresh() {
    try {
      this.#show(await getJson("/api/dev/workers"));
    } catch (error) {
      report("workers", null);
      setText(this.#parts.note, `The workers can't be asked for: ${error.message}.`);
      setAttribute(this.#parts.table, "data-freshness", "stale");
    }
  }

  #show({ telemetryStatus, workers }) {
    const { note, start, table, body } = this.#parts;
    const none = workers.length === 0;
    if (telemetryStatus === "offline") setText(note, "Telemetry is offline: no daemon answers.");
    else if (none) setText(note, "Telemetry answers, but has no workers.");
    else setText(note, `${format.plural(workers.length, "worker")} ${workers.length === 1 ? "reports" : "report"}.`);
    start.hidden = telemetryStatus !== "offline" && !this.#unreachable;
    table.hidden = none;
    setAttribute(table, "data-freshness", null);
    reconcile(body, workers, ({ id }) => id, (worker) => this.#makeRow(worker), updateRow);
    const unwell = workers.filter((worker) => workerState(worker).level !== "ok");
    report(
      "workers",
      unwell.map((worker) => ({ level: "warn", text: `${worker.id}: ${workerState(worker).word}` })),
    );
  }

  #makeRow({ id }) {
    const cells = COLUMNS.map(([title, kind], index) =>
      index === 0
        ? h("th", { role: "rowheader", scope: "row", class: kind })
        : h("td", { role: "cell", class: kind, "data-title": title }),
    );
    const button = h("button", { type: "button", onclick: () => this.#getSnapshot(id, button, said) });
    const said = h("p", { class: "snapshot-error", role: "alert" });
    offer(button, id, "Download");
    return h("tr", { role: "row" }, ...cells, h("td", { role: "cell", class: "get" }, button, said));
  }

  /** What goes wrong is said beside the button, which then tries again. */
  async #getSnapshot(id, button, said) {
    if (button.getAttribute("aria-disabled") === "true") return;
    setAttribute(button, "aria-disabled", "true");
    setText(said, "");
    try {
      save(await getFile(`/api/workers/snapshot/${encodeURIComponent(id)}`, SNAPSHOT));
      offer(button, id, "Download");
      this.#unreachable = false;
    } catch (error) {
      const wait = error.retryAfter === null ? "" : `; try again in ${format.duration(error.retryAfter)}`;
      setText(said, `No snapshot: ${error.message}${wait}.`);
      offer(button, id, "Try again");
      if (UNREACHABLE.has(error.status)) this.#unreachable = true;
    } finally {
      setAttribute(button, "aria-disabled", null);
      this.#poller.now();
    }
  }

  async #start() {
    setText(this.#parts.trouble, "");
    try {
      await askToStart("");
    } catch (error) {
      setText(this.#parts.trouble, `That did not work: ${error.message}.`);
    }
  }
}

function offer(button, id, what) {
  setText(button, what);
  setAttribute(button, "aria-label", what === "Download" ? `Download a snapshot of ${id}` : `${what}: a snapshot of ${id}`);
}

/** Give a file to the browser as a download. */
function save({ name, blob }) {
  const href = URL.createObjectURL(blob);
  h("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), SAVED);
}

function updateRow(row, worker) {
  COLUMNS.forEach(([, , read], index) => setText(row.children[index], read(worker)));
  setAttribute(row.children[STATE], "data-level", workerState(worker).level);
}

customElements.define("worker-snapshot-panel", WorkerSnapshotPanel);
