// <worker-snapshot-panel>: every serving process of the daemons, each with a snapshot of its inside to download.

import { getJson } from "./api.js";
import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";
import { askToStart } from "./tmux.js";
import { report } from "./verdict.js";

const REFRESH = 2000;

// Title, class, and how a worker's cell reads.
const COLUMNS = [
  ["Worker", "name", ({ id }) => String(id)],
  ["Daemon", "", ({ daemon, source }) => String(daemon ?? source ?? "")],
  ["State", "", (worker) => workerState(worker).word],
  ["Process", "number", ({ pid }) => String(pid ?? "–")],
  ["Uptime", "number", ({ uptime }) => format.duration(uptime)],
  ["Connections", "number", ({ connections }) => format.count(connections).value],
  ["Memory", "number", ({ rss }) => format.text(format.bytes(rss))],
  ["CPU", "number", ({ cpu }) => format.cpu(cpu * 1000)],
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
    start.hidden = telemetryStatus !== "offline";
    table.hidden = none;
    setAttribute(table, "data-freshness", null);
    reconcile(body, workers, ({ id }) => id, makeRow, updateRow);
    const unwell = workers.filter((worker) => workerState(worker).level !== "ok");
    report(
      "workers",
      unwell.map((worker) => ({ level: "warn", text: `${worker.id}: ${workerState(worker).word}` })),
    );
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

function makeRow({ id }) {
  return h(
    "tr",
    { role: "row" },
    ...COLUMNS.map(([title, kind], index) =>
      index === 0
        ? h("th", { role: "rowheader", scope: "row", class: kind })
        : h("td", { role: "cell", class: kind, "data-title": title }),
    ),
    h(
      "td",
      { role: "cell", class: "get" },
      h(
        "a",
        {
          href: `/api/workers/snapshot/${encodeURIComponent(id)}`,
          download: "",
          "aria-label": `Download a snapshot of ${id}`,
        },
        "Download",
      ),
    ),
  );
}

function updateRow(row, worker) {
  COLUMNS.forEach(([, , read], index) => setText(row.children[index], read(worker)));
  setAttribute(row.children[STATE], "data-level", workerState(worker).level);
}

customElements.define("worker-snapshot-panel", WorkerSnapshotPanel);
