// <hour-charts>: the last hour of four figures, one small chart each, with a cursor that they share.
//
// What is recorded is asked for; `show` adds the newest status, so that a chart ends in what its tile says. The axis is
// the server's time, and begins with the recording when that is younger than an hour.

import { getJson } from "./api.js";
import { Chart } from "./chart.js";
import * as clock from "./clock.js";
import { setText } from "./dom.js";
import * as events from "./events.js";
import * as figures from "./figures.js";
import * as format from "./format.js";
import { Panel } from "./panel.js";
import { Poller } from "./poller.js";

const MINUTES = 60;
const POINTS = 300;
const REFRESH = 10_000;
// Statuses may come many times a second; a chart need not move as often.
const REDRAW = 1000;

const FIGURES = [
  { key: "connections", title: "Connections", show: format.count, least: 4, newest: figures.connections },
  // The status does not have it.
  { key: "messagesPerSecond", title: "Messages", show: format.rate, least: 1, newest: null },
  { key: "latency", title: "Latency", show: format.milliseconds, least: 1, newest: figures.latency },
  { key: "errorRate", title: "Error rate", show: format.percent, least: 0.02, newest: figures.errorRate },
];

class HourCharts extends Panel {
  #charts = FIGURES.map((figure) => new Chart(figure));
  /** Seconds since 1970 of the first point that is known; null while there is none. */
  #first = null;
  #drawn = 0;
  /** How far back was asked for last. */
  #minutes = MINUTES;
  #poller = new Poller(
    {
      ask: () => this.#ask(),
      take: ({ points }) => this.#take(points),
      fail: ({ message }) => this.#say(`The history can't be shown: ${message.replace(/^no history: /, "")}.`),
    },
    REFRESH,
  );
  #resized = new ResizeObserver(() => this.#draw());

  built() {
    this.parts.charts.append(...this.#charts.map(({ root }) => root));
  }

  placed(signal) {
    this.#resized.observe(this);
    // The canvas does not follow the style sheet by itself.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawAnew(), { signal });
  }

  taken() {
    this.#resized.disconnect();
    for (const chart of this.#charts) chart.clear();
  }

  start() {
    this.#poller.start();
  }

  stop() {
    this.#poller.stop();
  }

  /** Let the charts end in this status. */
  show(status) {
    const at = clock.now() / 1000;
    for (const chart of this.#charts) chart.end(at, status);
    if (performance.now() - this.#drawn >= REDRAW) this.#draw();
  }

  /** Let the charts show when these events were. */
  mark(found) {
    const marks = found.map((event) => ({
      at: Date.parse(event.time) / 1000,
      level: events.levelOf(event),
      title: events.titleOf(event),
    }));
    for (const chart of this.#charts) chart.mark(marks);
    this.#draw();
  }

  #ask() {
    this.#minutes = this.#known();
    return getJson(`/api/dev/status/history?minutes=${this.#minutes}&points=${POINTS}`);
  }

  #take(points) {
    const times = points.map(({ time }) => Date.parse(time) / 1000);
    this.#first = times[0] ?? null;
    for (const chart of this.#charts) chart.give(times, points);
    this.#say(this.#told());
    // The few points of a young recording are to be had one by one.
    if (this.#known() <= this.#minutes / 2) this.#poller.now();
  }

  #say(words) {
    const { note } = this.parts;
    setText(note, words);
    note.hidden = words === "";
    this.#draw();
  }

  /** The minutes for as far back as anything is known: over a shorter time the points are closer. */
  #known() {
    if (this.#first === null) return MINUTES;
    return Math.min(MINUTES, Math.max(1, Math.ceil((clock.now() / 1000 - this.#first) / 60) + 1));
  }

  #told() {
    if (this.#first === null) return "Nothing is recorded yet: the first points come within seconds.";
    if (clock.now() / 1000 - this.#first > (MINUTES - 1) * 60) return "";
    return `Recorded since ${format.time(new Date(this.#first * 1000))}.`;
  }

  #draw() {
    this.#drawn = performance.now();
    for (const chart of this.#charts) chart.draw();
  }

  #drawAnew() {
    for (const chart of this.#charts) chart.clear();
    this.#draw();
  }
}

customElements.define("hour-charts", HourCharts);
