// <system-status data-polling-interval="5000">: the whole status at a glance, live.
//
// It owns the feed for as long as it is in the page and the session is open. Figures that are too old are marked as
// stale; a screen reader hears only changes of the traffic mode and of the telemetry.

import { getJson } from "./api.js";
import * as clock from "./clock.js";
import { h, reconcile, setAttribute, setText } from "./dom.js";
import * as events from "./events.js";
import * as figures from "./figures.js";
import * as format from "./format.js";
import { lamps, MODES, traffic, troubles, UNKNOWN } from "./lamps.js";
import { StatusFeed } from "./live.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";
import { report } from "./verdict.js";

const DEFAULT_INTERVAL = 5000;
const LEAST_INTERVAL = 250;
const STALE = 3000;
const CHANGES = 100;
// What has happened, when nothing in the figures says that something has.
const REFRESH_EVENTS = 10_000;
// How often the sources are asked for; and at once when the status says that something has changed.
const REFRESH_SOURCES = 2000;

// Above the first the traffic is degraded, above the second isolated.
const DEGRADED = 0.1;
const ISOLATED = 0.5;

// What each tile shows: key, title, value and unit, the small line below, and how bad it is.
const GROUPS = [
  {
    title: "Sessions",
    tiles: [
      ["connections", "WebSocket connections", (status) => format.count(figures.connections(status)), "over all daemons"],
      ["workers", "Active workers", (status) => format.count(figures.workers(status)), "serving processes"],
      ["api", "API requests", ({ vector }) => format.count(vector.sessions.apiSessions), "in flight"],
      ["tmux", "tmux sessions", ({ vector }) => format.count(vector.sessions.tmux), "on this machine"],
    ],
  },
  {
    title: "Directions",
    tiles: [
      [
        "rps",
        "Requests",
        ({ vector }) => format.rate(vector.directions.requestFlow.requestsPerSecond),
        "last minute",
      ],
      ["latency", "Average latency", (status) => format.milliseconds(figures.latency(status)), "last minute"],
      ["routes", "Active routes", ({ vector }) => routes(vector.directions.requestFlow), "of daemons that answer"],
      ["region", "Region", ({ vector }) => plain(vector.directions.primaryRegion), "primary"],
    ],
  },
  {
    title: "Operations",
    tiles: [
      ["errors", "Error rate", (status) => format.percent(figures.errorRate(status)), "last 5 minutes", errorLevel],
      ["memory", "Memory", (status) => format.bytes(figures.memory(status)), "resident, all daemons"],
      ["cpu", "CPU time", (status) => plain(format.cpu(figures.cpu(status))), "used, all daemons"],
      ["uptime", "Uptime", (status) => plain(format.duration(figures.uptime(status))), "of the longest-running"],
    ],
  },
];

const plain = (value) => ({ value, unit: "" });

const routes = ({ activeRoutes, totalRoutes }) => ({
  value: format.count(activeRoutes).value,
  unit: `of ${format.count(totalRoutes).value}`,
});

function errorLevel(status) {
  const errorRate = figures.errorRate(status);
  if (errorRate > ISOLATED) return "bad";
  return errorRate >= DEGRADED ? "warn" : "";
}

class SystemStatus extends HTMLElement {
  #feed = null;
  #newest = null;
  #end = null;
  #clock = 0;
  #parts = null;
  #events = new Poller(() => this.#loadEvents(), REFRESH_EVENTS);
  /** How each source is, as it was told last; null before that. */
  #sources = null;
  #asking = new Poller(() => this.#askSources(), REFRESH_SOURCES);

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
    this.#asking.start();
    this.#clock = setInterval(() => this.#age(), 500);
    this.#events.start();
  }

  #stop() {
    this.#feed.stop();
    this.#events.stop();
    this.#asking.stop();
    clearInterval(this.#clock);
    report("status", null);
  }

  #build() {
    const mode = lamp("Traffic", "mode");
    const feed = lamp("Updates", "feed");
    const lampList = h("div", { class: "lamps" });
    const off = h("p", { class: "sources", "data-part": "clock", hidden: true });
    const charts = h("hour-charts");
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
      h("summary", {}, "Events"),
      changesNote,
      changes,
    );
    this.replaceChildren(
      h("div", { class: "hero" }, mode.root, lampList, feed.root),
      off,
      announced,
      h("div", { class: "groups" }, ...groups),
      h("section", { class: "hour", "aria-label": "Last hour" }, h("h3", {}, "Last hour"), charts),
      history,
    );
    setAttribute(this, "data-freshness", "none");
    return { mode, lampList, feed, off, charts, announced, changes, changesNote, tiles };
  }

  #show(status) {
    const before = this.#newest;
    this.#newest = status;
    clock.hear(status.timestamp);
    for (const tile of this.#parts.tiles.values()) tile.show(status);
    this.#parts.charts.show(status);
    this.#parts.off.hidden = clock.offset() === 0;
    setText(this.#parts.off, clockWords(clock.offset()));
    this.#showLamps();
    if (before !== null) this.#announce(before, status);
    if (before === null || gist(before) !== gist(status)) this.#asking.now();
    if (before !== null && conditions(before) !== conditions(status)) this.#events.now();
    this.#age();
  }

  #showLamps() {
    if (this.#newest === null) return;
    this.#parts.mode.show(traffic(this.#newest, this.#sources));
    reconcile(
      this.#parts.lampList,
      lamps(this.#newest, this.#sources),
      ({ key }) => key,
      ({ key, label }) => Object.assign(lamp(label, `lamp-${key}`).root, { className: "lamp small" }),
      showLamp,
    );
  }

  async #askSources() {
    try {
      this.#sources = (await getJson("/api/dev/workers")).sources;
    } catch {
      // What was told last is shown on; that nothing comes is said by the feed.
      return;
    }
    this.#showLamps();
    this.#age();
  }

  #announce(before, status) {
    const news = [];
    const { trafficMode } = status.vector.directions;
    if (before.vector.directions.trafficMode !== trafficMode) {
      news.push(`Traffic is ${(MODES[trafficMode] ?? UNKNOWN).word.toLowerCase()}.`);
    }
    const [old, away] = [before, status].map(({ meta }) => meta.unavailable ?? []);
    news.push(...away.filter((name) => !old.includes(name)).map((name) => `${name} is down.`));
    news.push(...old.filter((name) => !away.includes(name)).map((name) => `${name} is back.`));
    if (before.meta.telemetryStatus !== status.meta.telemetryStatus) {
      news.push(`Telemetry is ${status.meta.telemetryStatus}.`);
    }
    if (!news.length) return;
    setText(this.#parts.announced, news.join(" "));
  }

  #changed() {
    if (this.#feed.state === "offline") setText(this.#parts.announced, "No connection to the server.");
    // What happened while nothing came.
    else if (this.#newest !== null) this.#events.now();
    this.#age();
  }

  /** What is wrong, for the page's one line. */
  #verdict(stale) {
    const { state, error } = this.#feed;
    const found = [];
    if (this.#newest !== null) {
      const mode = traffic(this.#newest, this.#sources);
      found.push(...troubles([{ label: "Traffic", ...mode }, ...lamps(this.#newest, this.#sources)]));
    }
    // First of all, since nothing else can be relied on then.
    if (error) found.unshift({ level: "bad", text: "No connection" });
    else if (stale) found.unshift({ level: "bad", text: "Figures are stale" });
    report("status", this.#newest === null && state === "connecting" ? null : found);
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

  async #loadEvents() {
    const { changes, changesNote, charts } = this.#parts;
    try {
      const found = (await getJson(`/api/dev/events?limit=${CHANGES}`)).events;
      changesNote.hidden = found.length > 0;
      setText(changesNote, "None yet.");
      reconcile(changes, found, events.keyOf, eventRow, () => {});
      charts.mark(found);
    } catch (error) {
      changesNote.hidden = false;
      setText(changesNote, `They can't be shown: ${error.message}.`);
    }
  }
}

/** What of a status says that the sources are to be asked again. */
const gist = ({ vector, meta }) => JSON.stringify([meta.telemetryStatus, meta.unavailable, vector.sessions.activeWorkers]);

/** What events tell of, as far as a status has it. */
const conditions = (status) => `${status.vector.directions.trafficMode} ${gist(status)}`;

function clockWords(ahead) {
  const side = ahead > 0 ? "behind" : "ahead of";
  const far = format.duration(Math.round(Math.abs(ahead) / 1000));
  return `This browser's clock is ${far} ${side} the server's. The times on this page are the server's.`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function showLamp(root, { level, word, detail }) {
  setAttribute(root, "data-level", level);
  setText(root.querySelector(".lamp-word"), word);
  setText(root.querySelector(".lamp-detail"), detail);
}

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
  return { root, show: (state) => showLamp(root, state) };
}

class Tile {
  #read;
  #value = h("span", { class: "value" }, format.DASH);
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

  show(status) {
    const { value, unit } = this.#read.value(status);
    setText(this.#value, value);
    setText(this.#unit, unit ? ` ${unit}` : "");
    setAttribute(this.root, "data-level", this.#read.level?.(status) || null);
  }
}

function eventRow(event) {
  const { time, to } = event;
  return h(
    "li",
    {},
    h("time", { dateTime: time }, format.dateTime(new Date(time))),
    h("strong", {}, events.subjectOf(event)),
    h("span", { class: "tag", "data-level": events.levelOf(event) }, String(to)),
    h("span", { class: "muted" }, events.detailOf(event)),
  );
}

customElements.define("system-status", SystemStatus);
