// <hour-charts>: the last hour of four figures, one small chart each, with a cursor that they share.
//
// What is recorded is asked for; `show` adds the newest status, so that a chart ends in what its tile says. The axis is
// the server's time, and begins with the recording when that is younger than an hour.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { getJson } from "./api.js";
import * as clock from "./clock.js";
import { h, setAttribute, setText } from "./dom.js";
import * as events from "./events.js";
import * as figures from "./figures.js";
import * as format from "./format.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";

const MINUTES = 60;
// The axis is never shorter: one point is no line.
const LEAST_SECONDS = 60;
const POINTS = 300;
const REFRESH = 10_000;
// Statuses may come many times a second; a chart need not move as often.
const REDRAW = 1000;
// A status that came longer ago (in milliseconds) says nothing of now.
const LIVE = 15_000;
const HEIGHT = 132;
// So near to a mark (in pixels) the cursor means it.
const NEAR = 6;

// A pause longer than this many usual distances between points is a gap in the line, not a slope.
const GAP = 4;

const FIGURES = [
  {
    key: "connections",
    title: "Connections",
    show: format.count,
    least: 4,
    newest: figures.connections,
  },
  // The status does not have it.
  { key: "messagesPerSecond", title: "Messages", show: format.rate, least: 1, newest: null },
  {
    key: "latency",
    title: "Latency",
    show: format.milliseconds,
    least: 1,
    newest: figures.latency,
  },
  { key: "errorRate", title: "Error rate", show: format.percent, least: 0.02, newest: figures.errorRate },
];

class HourCharts extends HTMLElement {
  #charts = [];
  #note = h("p", { class: "muted chart-note", hidden: true });
  #end = null;
  /** Seconds since 1970 of the first point that is known; null while there is none. */
  #first = null;
  #drawn = 0;
  #poller = new Poller(() => this.#refresh(), REFRESH);

  connectedCallback() {
    this.#end = new AbortController();
    const { signal } = this.#end;
    this.#charts = FIGURES.map((figure) => new Chart(figure));
    this.replaceChildren(this.#note, h("div", { class: "charts" }, ...this.#charts.map(({ root }) => root)));
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(this);
    signal.addEventListener("abort", () => resized.disconnect());
    // The canvas does not follow the style sheet by itself.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw(true), { signal });
    session.whileOpen(
      () => this.#poller.start(),
      () => this.#poller.stop(),
      signal,
    );
  }

  disconnectedCallback() {
    this.#end?.abort();
    for (const chart of this.#charts) chart.destroy();
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

  async #refresh() {
    const minutes = this.#minutes();
    try {
      const { points } = await getJson(`/api/dev/status/history?minutes=${minutes}&points=${POINTS}`);
      const times = points.map(({ time }) => Date.parse(time) / 1000);
      this.#first = times[0] ?? null;
      for (const chart of this.#charts) chart.give(times, points);
      setText(this.#note, this.#told());
      // The few points of a young recording are to be had one by one.
      if (this.#minutes() <= minutes / 2) this.#poller.now();
    } catch (error) {
      setText(this.#note, `The history can't be shown: ${error.message.replace(/^no history: /, "")}.`);
    }
    this.#note.hidden = this.#note.textContent === "";
    this.#draw();
  }

  /** As far back as anything is known: over a shorter time the points are closer. */
  #minutes() {
    if (this.#first === null) return MINUTES;
    return Math.min(MINUTES, Math.max(1, Math.ceil((clock.now() / 1000 - this.#first) / 60) + 1));
  }

  #told() {
    if (this.#first === null) return "Nothing is recorded yet: the first points come within seconds.";
    if (clock.now() / 1000 - this.#first > (MINUTES - 1) * 60) return "";
    return `Recorded since ${format.time(new Date(this.#first * 1000))}.`;
  }

  #draw(anew = false) {
    this.#drawn = performance.now();
    for (const chart of this.#charts) chart.draw(anew);
  }
}

class Chart {
  #figure;
  #plot = null;
  /** Times, and for each the mean, the lowest and the highest. */
  #recorded = [[], [], [], []];
  /** The newest status's value (null if it is not known) and its time, and when it came; null before the first. */
  #end = null;
  #data = [[], [], [], []];
  #marks = [];
  #value = h("span", { class: "chart-value" }, format.DASH);
  #when = h("span", { class: "chart-when" }, "");
  #stage = h("div", { class: "chart-stage", role: "img" });

  constructor(figure) {
    this.#figure = figure;
    this.root = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("span", { class: "chart-title" }, figure.title), this.#when, this.#value),
      this.#stage,
    );
    this.#describe();
  }

  give(times, points) {
    const { key } = this.#figure;
    const columns = [(point) => point[key], (point) => point.min?.[key], (point) => point.max?.[key]].map((read) =>
      points.map((point) => [read(point), point[key]].find(Number.isFinite) ?? null),
    );
    this.#recorded = [times, ...columns];
    this.#join();
  }

  mark(marks) {
    this.#marks = marks;
    this.#describe();
  }

  end(at, status) {
    if (this.#figure.newest === null) return;
    const value = this.#figure.newest(status);
    this.#end = { at, value: Number.isFinite(value) ? value : null, heard: performance.now() };
    this.#join();
  }

  #join() {
    let [times, ...columns] = this.#recorded;
    if (this.#isLive()) {
      // What is recorded has its times from Redis, whose clock may be a little ahead.
      const at = Math.max(this.#end.at, (times.at(-1) ?? 0) + 0.001);
      times = [...times, at];
      columns = columns.map((values) => [...values, this.#end.value]);
    }
    this.#data = withGaps(times, columns);
    this.#describe();
    this.#read(this.#plot?.cursor.idx);
  }

  #isLive() {
    return this.#end !== null && performance.now() - this.#end.heard < LIVE;
  }

  /** That of the newest status, else the last that was recorded; null if it is not known. */
  #newest() {
    return this.#isLive() ? this.#end.value : this.#data[1].findLast((value) => value !== null) ?? null;
  }

  /** From where to where the axis goes. */
  #range() {
    const [times] = this.#data;
    const end = Math.max(clock.now() / 1000, times.at(-1) ?? 0);
    const first = Math.min(times[0] ?? end, end - LEAST_SECONDS);
    return [Math.max(first, end - MINUTES * 60), end];
  }

  draw(anew) {
    const width = Math.floor(this.#stage.clientWidth);
    if (width === 0) return;
    if (anew) this.destroy();
    if (this.#plot === null) this.#plot = new uPlot(this.#options(width), this.#data, this.#stage);
    else {
      if (this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
      this.#plot.setData(this.#data);
    }
  }

  destroy() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #options(width) {
    const style = getComputedStyle(this.#stage);
    const colour = (name) => style.getPropertyValue(name).trim();
    const { show, least } = this.#figure;
    const axis = {
      stroke: colour("--muted"),
      font: `11px ${style.fontFamily}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    return {
      width,
      height: HEIGHT,
      padding: [10, 18, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "hour" }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
      scales: {
        x: { time: true, range: () => this.#range() },
        y: { range: (_, __, highest) => [0, Math.max(least, (highest ?? 0) * 1.1)] },
      },
      axes: [
        {
          ...axis,
          space: 64,
          size: 24,
          grid: { show: false },
          values: (_, ticks, __, ___, step) =>
            ticks.map((at) => format.time(new Date(at * 1000), { seconds: step < 60 })),
        },
        { ...axis, space: 34, size: 56, gap: 6, values: (_, ticks) => ticks.map((tick) => short(show(tick))) },
      ],
      series: [
        {},
        {
          stroke: colour("--series"),
          fill: colour("--series-fill"),
          width: 1.5,
          spanGaps: false,
          points: { size: 4 },
        },
        { stroke: null, points: { show: false } },
        { stroke: null, points: { show: false } },
      ],
      // From the lowest to the highest of each point: what its mean hides.
      bands: [{ series: [3, 2], fill: colour("--series-fill") }],
      hooks: {
        // Over all else: what is filled below a line would change their colours.
        draw: [(plot) => this.#drawMarks(plot, colour)],
        setCursor: [(plot) => this.#read(plot.cursor.idx)],
      },
    };
  }

  #drawMarks(plot, colour) {
    const { ctx, bbox } = plot;
    const width = Math.max(1, Math.round(devicePixelRatio));
    ctx.save();
    for (const { at, level } of this.#inView(plot)) {
      ctx.fillStyle = colour(`--${level}`);
      const x = Math.round(plot.valToPos(at, "x", true));
      ctx.fillRect(x, bbox.top, width, bbox.height);
      // A flag, so that a mark is not taken for a line of the grid.
      ctx.fillRect(x - 2 * width, bbox.top, 5 * width, 5 * width);
    }
    ctx.restore();
  }

  #inView({ scales }) {
    return this.#marks.filter(({ at }) => at >= scales.x.min && at <= scales.x.max);
  }

  /** The event that is so near to the cursor that it is meant; undefined if none is. */
  #pointedMark() {
    const { left } = this.#plot.cursor;
    const apart = ({ at }) => Math.abs(this.#plot.valToPos(at, "x") - left);
    return this.#inView(this.#plot)
      .filter((mark) => apart(mark) <= NEAR)
      .sort((one, other) => apart(one) - apart(other))[0];
  }

  /** Show the value under the cursor, or the newest. */
  #read(index) {
    const [times, values, , highest] = this.#data;
    const pointed = index !== null && index !== undefined;
    const value = pointed ? values[index] : this.#newest();
    setText(this.#value, format.text(this.#figure.show(value ?? NaN)));
    const peak = pointed && highest[index] > value ? `, up to ${format.text(this.#figure.show(highest[index]))}` : "";
    const mark = pointed ? this.#pointedMark() : undefined;
    const at = mark?.at ?? (pointed ? times[index] : null);
    const when = at === null ? "" : format.time(new Date(at * 1000));
    setText(this.#when, `${when}${mark ? ` ${mark.title}` : ""}${peak}`);
    setAttribute(this.#when, "data-level", mark?.level ?? null);
  }

  #describe() {
    const [, known, lowest, highest] = this.#data.map((values) => values.filter((value) => value !== null));
    const say = (value) => format.text(this.#figure.show(value ?? NaN));
    const summary = known.length
      ? `now ${say(this.#newest())}, lowest ${say(Math.min(...lowest))}, highest ${say(Math.max(...highest))}`
      : "no figures yet";
    const [start, end] = this.#range();
    const marks = this.#marks.filter(({ at }) => at >= start && at <= end).length;
    const happened = marks ? `, ${format.plural(marks, "event")}` : "";
    setAttribute(this.#stage, "aria-label", `${this.#figure.title} in the last hour: ${summary}${happened}`);
  }
}

/** A tick's figure without the zeros that a measured one has. */
function short(figure) {
  return format.text({ ...figure, value: figure.value.replace(/\.(\d*?)0+$/, (_, kept) => (kept ? `.${kept}` : "")) });
}

function withGaps(times, columns) {
  const steps = times
    .slice(1)
    .map((time, index) => time - times[index])
    .sort((one, other) => one - other);
  const usual = steps[Math.floor(steps.length / 2)] ?? 0;
  const x = [];
  const filled = columns.map(() => []);
  times.forEach((time, index) => {
    if (index && time - times[index - 1] > usual * GAP) {
      x.push(times[index - 1] + usual);
      for (const values of filled) values.push(null);
    }
    x.push(time);
    filled.forEach((values, column) => values.push(columns[column][index]));
  });
  return [x, ...filled];
}

customElements.define("hour-charts", HourCharts);
