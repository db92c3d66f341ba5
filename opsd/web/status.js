// <system-status data-polling-interval="5000">: the whole status at a glance, live.
//
// It owns the feed for as long as it is in the page and the session is open. Figures that are too old are marked as
// stale; a screen reader hears only changes of the traffic mode and of the telemetry.

import { getJson } from "./api.js";
import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { StatusFeed } from "./live.js";
import { session } from "./session.js";
import { report } from "./verdict.js";

const DEFAULT_INTERVAL = 5000;
const LEAST_INTERVAL = 250;
const STALE = 3000;
const CHANGES = 20;

// Above the first the traffic is degraded, above the second isolated.
const DEGRADED = 0.1;
const ISOLATED = 0.5;

const MODES = {
  normal: { level: "ok", word: "Normal", detail: "Fewer than 1 in 10 answers fail." },
  degraded: { level: "warn", word: "Degraded", detail: "Between 1 in 10 and half of all answers fail." },
  isolated: { level: "bad", word: "Isolated", detail: "More than half of all answers fail." },
};
const TELEMETRY = {
  healthy: { level: "ok", word: "Healthy", detail: "Workers report." },
  degraded: { level: "warn", word: "Degraded", detail: "The telemetry answers, but no worker reports." },
  offline: { level: "bad", word: "Offline", detail: "No telemetry answers." },
};
const UNKNOWN = { level: "none", word: "Unknown", detail: "Nothing has come yet." };

// What each tile shows: key, title, value and unit, the small line below, and how bad it is.
const GROUPS = [
  {
    title: "Sessions",
    tiles: [
      [
        "connections",
        "WebSocket connections",
        ({ sessions: s }) => format.count(s.websocketConnections),
        "over all daemons",
      ],
      ["workers", "Active workers", ({ sessions: s }) => format.count(s.activeWorkers), "serving processes"],
      ["api", "API requests", ({ sessions: s }) => format.count(s.apiSessions), "in flight"],
      ["tmux", "tmux sessions", ({ sessions: s }) => format.count(s.tmux), "on this machine"],
    ],
  },
  {
    title: "Directions",
    tiles: [
      ["rps", "Requests", ({ directions: d }) => format.rate(d.requestFlow.requestsPerSecond), "last minute"],
      [
        "latency",
        "Average latency",
        ({ directions: d }) => format.milliseconds(d.requestFlow.avgLatency),
        "last minute",
      ],
      ["routes", "Active routes", ({ directions: d }) => routes(d.requestFlow), "of daemons that answer"],
      ["region", "Region", ({ directions: d }) => ({ value: d.primaryRegion, unit: "" }), "primary"],
    ],
  },
  {
    title: "Operations",
    tiles: [
      ["errors", "Error rate", ({ others: o }) => format.percent(o.errorRate), "last 5 minutes", errorLevel],
      ["memory", "Memory", ({ others: o }) => format.bytes(o.memory), "resident, all daemons"],
      ["cpu", "CPU time", ({ others: o }) => ({ value: format.cpu(o.cpu), unit: "" }), "used, all daemons"],
      [
        "uptime",
        "Uptime",
        ({ others: o }) => ({ value: format.duration(o.uptime), unit: "" }),
        "of the longest-running",
      ],
    ],
  },
];

const routes = ({ activeRoutes, totalRoutes }) => ({
  value: format.count(activeRoutes).value,
  unit: `of ${format.count(totalRoutes).value}`,
});

function errorLevel({ others: { errorRate } }) {
  if (errorRate > ISOLATED) return "bad";
  return errorRate >= DEGRADED ? "warn" : "";
}

class SystemStatus extends HTMLElement {
  #feed = null;
  #newest = null;
  #end = null;
  #clock = 0;
  #parts = null;

  connectedCallback() {
    this.#parts ??= this.#build();
    this.#end = new AbortController();
    const interval = Number(this.dataset.pollingInterval) || DEFAULT_INTERVAL;
    this.#feed = new StatusFeed(Math.max(LEAST_INTERVAL, interval));
    this.#feed.addEventListener("status", ({ detail }) => this.#show(detail));
    this.#feed.addEventListener("state", () => this.#changed());
    document.addEventListener("visibilitychange", () => this.#age(), { signal: this.#end.signal });
    session.whileOpen(
      () => this.#start(),
      () => this.#stop(),
      this.#end.signal,
    );
  }

  disconnectedCallback() {
    this.#end?.abort();
  }

  #start() {
    this.#feed.start();
    this.#clock = setInterval(() => this.#age(), 500);
    this.#loadChanges();
  }

  #stop() {
    this.#feed.stop();
    clearInterval(this.#clock);
    report("status", null);
  }

  #build() {
    const mode = lamp("Traffic", "mode");
    const telemetry = lamp("Telemetry", "telemetry");
    const feed = lamp("Updates", "feed");
    const sources = h("p", { class: "sources", "data-part": "sources", hidden: true });
    const announced = h("p", { class: "hidden", role: "status", "aria-live": "polite" });
    const changes = h("ol", { class: "changes" });
    const changesNote = h("p", { class: "muted" }, "None yet.");
    const tiles = new Map();
    const groups = GROUPS.map(({ title, tiles: own }) =>
      h(
        "section",
        { class: "group", "aria-label": title },
        h("h3", {}, title),
        h(
          "dl",
          { class: "tiles" },
          ...own.map(([key, label, value, hint, level]) => {
            const tile = new Tile(key, label, hint, { value, level });
            tiles.set(key, tile);
            return tile.root;
          }),
        ),
      ),
    );
    const history = h(
      "details",
      { class: "history" },
      h("summary", {}, "Changes of mode and telemetry"),
      changesNote,
      changes,
    );
    this.replaceChildren(
      h("div", { class: "hero" }, mode.root, telemetry.root, feed.root),
      sources,
      announced,
      h("div", { class: "groups" }, ...groups),
      h("section", { class: "hour", "aria-label": "Last hour" }, h("h3", {}, "Last hour"), h("hour-charts")),
      history,
    );
    setAttribute(this, "data-freshness", "none");
    return { mode, telemetry, feed, sources, announced, changes, changesNote, tiles };
  }

  #show(status) {
    const { vector, meta } = status;
    const before = this.#newest;
    this.#newest = status;
    const mode = MODES[vector.directions.trafficMode] ?? UNKNOWN;
    const unavailable = meta.unavailable ?? [];
    const telemetry = telemetryState(meta.telemetryStatus, unavailable.length);
    this.#parts.mode.show(mode);
    this.#parts.telemetry.show(telemetry);
    for (const tile of this.#parts.tiles.values()) tile.show(vector);
    this.#parts.sources.hidden = unavailable.length === 0;
    setText(
      this.#parts.sources,
      unavailable.length ? `No answer from ${unavailable.join(", ")}: counted as 0 in every figure.` : "",
    );
    if (before !== null) this.#announce(before, status, mode, telemetry);
    this.#age();
  }

  #announce(before, status, mode, telemetry) {
    const news = [];
    if (before.vector.directions.trafficMode !== status.vector.directions.trafficMode) {
      news.push(`Traffic is ${mode.word.toLowerCase()}.`);
    }
    if (before.meta.telemetryStatus !== status.meta.telemetryStatus) {
      news.push(`Telemetry is ${telemetry.word.toLowerCase()}.`);
    }
    if (!news.length) return;
    setText(this.#parts.announced, news.join(" "));
    this.#loadChanges();
  }

  #changed() {
    if (this.#feed.state === "offline") setText(this.#parts.announced, "No connection to the server.");
    // What happened while nothing came.
    else if (this.#newest !== null) this.#loadChanges();
    this.#age();
  }

  /** What is wrong, for the page's one line. */
  #verdict(stale) {
    const { state, error } = this.#feed;
    const troubles = [];
    if (this.#newest !== null) {
      const { vector, meta } = this.#newest;
      const { trafficMode } = vector.directions;
      const unavailable = meta.unavailable ?? [];
      if (trafficMode !== "normal") {
        troubles.push({ level: MODES[trafficMode]?.level ?? "warn", text: `Traffic ${trafficMode}` });
      }
      if (meta.telemetryStatus !== "healthy") {
        troubles.push({
          level: TELEMETRY[meta.telemetryStatus]?.level ?? "warn",
          text: `Telemetry ${meta.telemetryStatus}`,
        });
      }
      if (unavailable.length) troubles.push({ level: "warn", text: `No answer from ${unavailable.join(", ")}` });
    }
    // First of all, since nothing else can be relied on then.
    if (error) troubles.unshift({ level: "bad", text: "No connection" });
    else if (stale) troubles.unshift({ level: "bad", text: "Figures are stale" });
    report("status", this.#newest === null && state === "connecting" ? null : troubles);
  }

  /** Say in words how the figures come and how old they are. */
  #age() {
    const { state, error, receivedAt, interval } = this.#feed;
    const age = receivedAt ? performance.now() - receivedAt : 0;
    const limit = state === "polling" ? Math.max(STALE, 3 * interval) : STALE;
    const stale = receivedAt > 0 && age > limit;
    const every = `Asking every ${format.decimal(interval / 1000)} s; the live connection is tried again.`;
    const told = {
      connecting: { level: "none", word: "Connecting", detail: "Nothing has come yet." },
      live: { level: "ok", word: "Live", detail: "Pushed at every change." },
      polling: { level: "warn", word: "Polling", detail: every },
      offline: { level: "bad", word: "No connection", detail: `${capital(error)}; tried again.` },
    }[state];
    const old = `Stale for ${format.duration(age / 1000)}`;
    this.#parts.feed.show(
      stale
        ? { level: state === "live" ? "warn" : told.level, word: told.word, detail: `${old}. ${told.detail}` }
        : told,
    );
    this.#verdict(stale);
    setAttribute(this, "data-feed", state);
    setAttribute(this, "data-freshness", stale ? "stale" : receivedAt ? "fresh" : "none");
  }

  async #loadChanges() {
    try {
      const { events } = await getJson(`/api/dev/events?limit=${CHANGES}`);
      this.#parts.changesNote.hidden = events.length > 0;
      reconcile(
        this.#parts.changes,
        events,
        ({ time, kind }) => `${time} ${kind}`,
        change,
        () => {},
      );
    } catch (error) {
      this.#parts.changesNote.hidden = false;
      setText(this.#parts.changesNote, `They can't be shown: ${error.message}.`);
    }
  }
}

/** Healthy is calm only while every source answers. */
function telemetryState(status, unavailable) {
  const state = TELEMETRY[status] ?? UNKNOWN;
  if (state.level !== "ok" || !unavailable) return state;
  return { ...state, level: "warn", detail: `${format.plural(unavailable, "source does", "sources do")} not answer.` };
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A state in colour, shape and words. */
function lamp(label, part) {
  const word = h("strong", { class: "lamp-word" }, UNKNOWN.word);
  const detail = h("span", { class: "lamp-detail" }, UNKNOWN.detail);
  const shape = h("span", { class: "lamp-shape", "aria-hidden": "true" });
  const root = h(
    "div",
    { class: "lamp", "data-part": part, "data-level": "none" },
    shape,
    h("p", {}, h("span", { class: "lamp-label" }, label), " ", word, " ", detail),
  );
  return {
    root,
    show(state) {
      setAttribute(root, "data-level", state.level);
      setText(word, state.word);
      setText(detail, state.detail);
    },
  };
}

class Tile {
  #read;
  #value = h("span", { class: "value" }, "–");
  #unit = h("span", { class: "unit" });

  constructor(key, label, hint, read) {
    this.#read = read;
    this.root = h(
      "div",
      { class: "tile", "data-tile": key },
      h("dt", {}, label),
      h("dd", {}, h("span", { class: "figure" }, this.#value, this.#unit), h("span", { class: "hint" }, hint)),
    );
  }

  show(vector) {
    const { value, unit } = this.#read.value(vector);
    setText(this.#value, value);
    setText(this.#unit, unit ? ` ${unit}` : "");
    setAttribute(this.root, "data-level", this.#read.level?.(vector) || null);
  }
}

function change({ time, kind, from, to, errorRate }) {
  const rate = Number.isFinite(errorRate) ? `, error rate ${format.text(format.percent(errorRate))}` : "";
  const level = (kind === "mode" ? MODES : TELEMETRY)[to]?.level ?? "none";
  return h(
    "li",
    {},
    h("time", { dateTime: time }, format.dateTime(new Date(time))),
    h("span", { class: "tag", "data-level": level }, String(to)),
    h("span", {}, `${kind === "mode" ? "Traffic" : "Telemetry"} was ${from}${kind === "mode" ? rate : ""}`),
  );
}

customElements.define("system-status", SystemStatus);
