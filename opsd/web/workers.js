// <worker-snapshot-panel>: every serving process of the daemons, each with a snapshot of its inside to download.

import { getFile, getJson } from "./api.js";
import { isOff, make, partsOf, reconcile, setAttribute, setOff, setText } from "./dom.js";
import { save } from "./download.js";
import * as format from "./format.js";
import { Panel } from "./panel.js";
import { Poller } from "./poller.js";
import { askToStart } from "./tmux_start.js";
import { report } from "./verdict.js";

const REFRESH = 2000;

// A worker has 5 s for its snapshot, and a large one takes a while on the way.
const SNAPSHOT = 30_000;

// What the server says where a worker, or its daemon, can't be reached.
const UNREACHABLE = new Set([502, 503, 504]);

// How a worker's cells read, by their part of the row.
const CELLS = Object.entries({
  id: ({ id }) => String(id),
  daemon: ({ daemon, source }) => String(daemon ?? source ?? ""),
  state: (worker) => stateOf(worker).word,
  process: ({ pid }) => String(pid ?? format.DASH),
  uptime: ({ uptime }) => format.duration(uptime),
  connections: ({ connections }) => format.count(connections).value,
  memory: ({ rss }) => format.text(format.bytes(rss)),
  cpu: ({ cpu }) => format.cpu(Number.isFinite(cpu) ? cpu * 1000 : NaN),
  errors: ({ errors }) => format.count(errors).value,
});

function stateOf({ ready, redis }) {
  if (redis && redis !== "online") return { level: "warn", word: `Redis ${redis}` };
  return ready === false ? { level: "warn", word: "not ready" } : { level: "ok", word: "ready" };
}

class WorkerSnapshotPanel extends Panel {
  #unreachable = false;
  /** Since when the login is this one, and the daemons are these, by `performance.now()`: what was asked before is over. */
  #begun = Infinity;
  #changed = 0;
  #poller = new Poller(
    {
      ask: () => getJson("/api/dev/workers"),
      take: (answer) => this.#show(answer),
      fail: ({ message }) => this.#fail(message),
    },
    REFRESH,
  );

  built() {
    this.parts.start.addEventListener("click", () => this.#start());
  }

  placed(signal) {
    document.addEventListener("tmux-changed", () => this.#change(), { signal });
  }

  start() {
    this.#begun = performance.now();
    this.#poller.start();
  }

  stop() {
    this.#begun = Infinity;
    this.#poller.stop();
    report("workers", null);
  }

  /** The daemons are others now. */
  #change() {
    this.#changed = performance.now();
    this.#unreachable = false;
    this.#poller.now();
  }

  #fail(why) {
    report("workers", null);
    setText(this.parts.state, `The workers can't be asked for: ${why}.`);
    setAttribute(this.parts.table, "data-freshness", "stale");
  }

  #show({ telemetryStatus, workers }) {
    const { state, start, table, workers: rows } = this.parts;
    const none = workers.length === 0;
    if (telemetryStatus === "offline") setText(state, "Telemetry is offline: no daemon answers.");
    else if (none) setText(state, "Telemetry answers, but has no workers.");
    else setText(state, `${format.plural(workers.length, "worker")} ${workers.length === 1 ? "reports" : "report"}.`);
    start.hidden = telemetryStatus !== "offline" && !this.#unreachable;
    table.hidden = none;
    setAttribute(table, "data-freshness", null);
    reconcile(rows, workers, ({ id }) => id, (worker) => this.#makeRow(worker), updateRow);
    const unwell = workers.filter((worker) => stateOf(worker).level !== "ok");
    report(
      "workers",
      unwell.map((worker) => ({ level: "warn", text: `${worker.id}: ${stateOf(worker).word}` })),
    );
  }

  #makeRow({ id }) {
    const row = make("worker");
    const { download, error } = partsOf(row);
    offer(download, id, "Download");
    download.addEventListener("click", () => this.#getSnapshot(id, download, error));
    return row;
  }

  /** What goes wrong is said beside the button, which then tries again. */
  async #getSnapshot(id, button, error) {
    if (isOff(button)) return;
    const asked = performance.now();
    setOff(button, true);
    setText(error, "");
    try {
      const { blob, name } = await getFile(`/api/workers/snapshot/${encodeURIComponent(id)}`, SNAPSHOT);
      if (asked < this.#begun) return;
      save(blob, name);
      offer(button, id, "Download");
      this.#unreachable = false;
    } catch (failure) {
      if (asked < this.#begun) return;
      const wait = failure.retryAfter === null ? "" : `; try again in ${format.duration(failure.retryAfter)}`;
      setText(error, `No snapshot: ${failure.message}${wait}.`);
      offer(button, id, "Try again");
      if (UNREACHABLE.has(failure.status) && asked >= this.#changed) this.#unreachable = true;
    } finally {
      setOff(button, false);
      this.#poller.now();
    }
  }

  async #start() {
    setText(this.parts.error, "");
    try {
      await askToStart("");
    } catch (failure) {
      setText(this.parts.error, `That did not work: ${failure.message}.`);
    }
  }
}

function offer(button, id, what) {
  setText(button, what);
  setAttribute(button, "aria-label", what === "Download" ? `Download a snapshot of ${id}` : `${what}: a snapshot of ${id}`);
}

function updateRow(row, worker) {
  const parts = partsOf(row);
  for (const [part, read] of CELLS) setText(parts[part], read(worker));
  setAttribute(parts.state, "data-level", stateOf(worker).level);
}

customElements.define("worker-snapshot-panel", WorkerSnapshotPanel);
