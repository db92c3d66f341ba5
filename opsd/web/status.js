// <system-status data-polling-interval="5000">: the whole status at a glance, live.
//
// It owns the feed for as long as it is in the page and the session is open. Figures that are too old are marked as
// stale; a screen reader hears only changes of the traffic mode and of the telemetry.

import { getJson } from "./api.js";
import * as clock from "./clock.js";
import { make, reconcile, setAttribute, setText } from "./dom.js";
import { EventList } from "./event_list.js";
import * as format from "./format.js";
import { lamps, traffic, troubles, UNKNOWN, updates } from "./lamps.js";
import { announce, concernsEvents, concernsSources } from "./news.js";
import { Panel } from "./panel.js";
import { Poller } from "./poller.js";
import { thresholds } from "./session.js";
import { StatusFeed } from "./status_feed.js";
import { GROUPS } from "./tiles.js";
import { report } from "./verdict.js";

const DEFAULT_INTERVAL = 5000;
const LEAST_INTERVAL = 250;
// How often the sources are asked for; and at once when the status says that something has changed.
const REFRESH_SOURCES = 2000;
// How often it is looked whether the figures are too old.
const LOOK = 500;

class SystemStatus extends Panel {
  #feed;
  #events;
  /** The newest status; null before the first. */
  #newest = null;
  /** How each source is, as it was told last; null before that. */
  #sources = null;
  #asking = new Poller(
    {
      ask: () => getJson("/api/dev/workers"),
      take: ({ sources }) => this.#showSources(sources),
      // What was told last is shown on; that nothing comes is said by the feed.
      fail: () => {},
    },
    REFRESH_SOURCES,
  );
  #timer = 0;
  #look = () => this.#age();
  #mode = makeLamp("Traffic", "mode");
  #updates = makeLamp("Updates", "feed");
  #tiles = [];

  built() {
    const { hero, groups, events, noEvents, charts } = this.parts;
    hero.prepend(this.#mode);
    hero.append(this.#updates);
    groups.append(...GROUPS.map((group) => this.#makeGroup(group)));
    this.#events = new EventList(events, noEvents, (found) => charts.mark(found));
    this.#feed = new StatusFeed(Math.max(LEAST_INTERVAL, Number(this.dataset.pollingInterval) || DEFAULT_INTERVAL));
    this.#feed.addEventListener("status", ({ detail }) => this.#show(detail));
    this.#feed.addEventListener("state", () => this.#changed());
    setAttribute(this, "data-freshness", "none");
  }

  start() {
    this.#feed.start();
    this.#asking.start();
    this.#events.start();
    this.#timer = setInterval(this.#look, LOOK);
    document.addEventListener("visibilitychange", this.#look);
  }

  stop() {
    this.#feed.stop();
    this.#asking.stop();
    this.#events.stop();
    clearInterval(this.#timer);
    document.removeEventListener("visibilitychange", this.#look);
    this.#newest = this.#sources = null;
    this.#age();
  }

  #makeGroup({ title, tiles }) {
    const group = make("group");
    const [heading, list] = group.children;
    setText(heading, title);
    setAttribute(group, "aria-label", title);
    for (const tile of tiles) {
      const root = makeTile(tile);
      this.#tiles.push({ root, tile });
      list.append(root);
    }
    return group;
  }

  #show(status) {
    const before = this.#newest;
    this.#newest = status;
    clock.hear(status.timestamp);
    for (const { root, tile } of this.#tiles) updateTile(root, tile, status);
    this.parts.charts.show(status);
    this.parts.clock.hidden = clock.offset() === 0;
    setText(this.parts.clock, clockWords(clock.offset()));
    this.#showLamps();
    const said = before === null ? "" : announce(before, status);
    if (said) setText(this.parts.announced, said);
    if (before === null || concernsSources(before, status)) this.#asking.now();
    if (before !== null && concernsEvents(before, status)) this.#events.now();
    this.#age();
  }

  #traffic() {
    return traffic(this.#newest, this.#sources, thresholds());
  }

  #showLamps() {
    if (this.#newest === null) return;
    updateLamp(this.#mode, this.#traffic());
    const shown = lamps(this.#newest, this.#sources);
    reconcile(this.parts.lamps, shown, ({ key }) => key, ({ key, label }) => makeLamp(label, `lamp-${key}`), updateLamp);
  }

  #showSources(sources) {
    this.#sources = sources;
    this.#showLamps();
    this.#age();
  }

  #changed() {
    if (this.#feed.state === "offline") setText(this.parts.announced, "No connection to the server.");
    // What happened while nothing came.
    else if (this.#newest !== null) this.#events.now();
    this.#age();
  }

  /** Say in words how the figures come and how old they are. */
  #age() {
    const { state, error, receivedAt, interval, patience } = this.#feed;
    const age = receivedAt ? performance.now() - receivedAt : 0;
    const stale = age > patience;
    updateLamp(this.#updates, updates({ state, error, interval, staleFor: stale ? age : 0 }));
    this.#verdict(stale);
    setAttribute(this, "data-feed", state);
    setAttribute(this, "data-freshness", stale ? "stale" : receivedAt ? "fresh" : "none");
  }

  /** What is wrong, for the page's one line. */
  #verdict(stale) {
    const { state, error } = this.#feed;
    const found = [];
    if (this.#newest !== null) {
      found.push(...troubles([{ label: "Traffic", ...this.#traffic() }, ...lamps(this.#newest, this.#sources)]));
    }
    // First of all, since nothing else can be relied on then.
    if (error) found.unshift({ level: "bad", text: "No connection" });
    else if (stale) found.unshift({ level: "bad", text: "Figures are stale" });
    report("status", this.#newest === null && state === "connecting" ? null : found);
  }
}

function clockWords(ahead) {
  const side = ahead > 0 ? "behind" : "ahead of";
  const far = format.duration(Math.round(Math.abs(ahead) / 1000));
  return `This browser's clock is ${far} ${side} the server's. The times on this page are the server's.`;
}

/** A state in colour, shape and words. */
function makeLamp(label, part) {
  const lamp = make("lamp");
  lamp.dataset.part = part;
  setText(lamp.querySelector(".lamp-label"), label);
  updateLamp(lamp, UNKNOWN);
  return lamp;
}

function updateLamp(lamp, { level, word, detail }) {
  setAttribute(lamp, "data-level", level);
  setText(lamp.querySelector(".lamp-word"), word);
  setText(lamp.querySelector(".lamp-detail"), detail);
}

function makeTile({ key, title, hint, inWords = false }) {
  const tile = make("tile");
  tile.dataset.tile = key;
  tile.classList.toggle("words", inWords);
  setText(tile.querySelector("dt"), title);
  setText(tile.querySelector(".hint"), hint);
  return tile;
}

function updateTile(root, { read, level }, status) {
  const { value, unit } = read(status);
  setText(root.querySelector(".value"), value);
  setText(root.querySelector(".unit"), unit);
  setAttribute(root, "data-level", level?.(status, thresholds()) ?? null);
}

customElements.define("system-status", SystemStatus);
