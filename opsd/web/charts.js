// <hour-charts>: the last hour of four figures, one small chart each, with a cursor that they share.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { getJson } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Poller } from "./retry.js";
import { session } from "./session.js";

const MINUTES = 60;
const POINTS = 300;
const REFRESH = 10_000;
const HEIGHT = 132;

// A pause longer than this many usual distances between points is a gap in the line, not a slope.
const GAP = 4;

const FIGURES = [
  { key: "connections", title: "Connections", show: format.count, least: 4 },
  { key: "messagesPerSecond", title: "Messages", show: format.rate, least: 1 },
  { key: "latency", title: "Latency", show: format.milliseconds, least: 1 },
  { key: "errorRate", title: "Error rate", show: format.percent, least: 0.02 },
];

class HourCharts extends HTMLElement {
  #charts = [];
  #note = h("p", { class: "muted chart-note", hidden: true });
  #end = null;
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

  async #refresh() {
    try {
      const { points } = await getJson(`/api/dev/status/history?minutes=${MINUTES}&points=${POINTS}`);
      const times = points.map(({ time }) => Date.parse(time) / 1000);
      for (const chart of this.#charts) chart.give(times, points);
      setText(this.#note, points.length ? "" : "Nothing is recorded yet: the first points come within seconds.");
    } catch (error) {
      setText(this.#note, `The history can't be shown: ${error.message}.`);
    }
    this.#note.hidden = this.#note.textContent === "";
    this.#draw();
  }

  #draw(anew = false) {
    for (const chart of this.#charts) chart.draw(anew);
  }
}

class Chart {
  #figure;
  #plot = null;
  #data = [[], []];
  #value = h("span", { class: "chart-value" }, "–");
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
    const values = points.map((point) => (Number.isFinite(point[this.#figure.key]) ? point[this.#figure.key] : null));
    this.#data = withGaps(times, values);
    this.#describe();
    this.#read(null);
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
        x: { time: true, range: () => [Date.now() / 1000 - MINUTES * 60, Date.now() / 1000] },
        y: { range: (_, __, highest) => [0, Math.max(least, (highest ?? 0) * 1.1)] },
      },
      axes: [
        {
          ...axis,
          space: 64,
          size: 24,
          grid: { show: false },
          values: (_, ticks) => ticks.map((at) => format.time(new Date(at * 1000), { seconds: false })),
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
      ],
      hooks: { setCursor: [(plot) => this.#read(plot.cursor.idx)] },
    };
  }

  /** Show the value under the cursor, or the newest. */
  #read(index) {
    const [times, values] = this.#data;
    const at = index ?? times.length - 1;
    const value = values[at];
    setText(this.#value, value === undefined || value === null ? "–" : format.text(this.#figure.show(value)));
    setText(this.#when, index === null || index === undefined ? "" : format.time(new Date(times[at] * 1000)));
  }

  #describe() {
    const known = this.#data[1].filter((value) => value !== null);
    const say = (value) => format.text(this.#figure.show(value));
    const summary = known.length
      ? `now ${say(known.at(-1))}, lowest ${say(Math.min(...known))}, highest ${say(Math.max(...known))}`
      : "no figures yet";
    setAttribute(this.#stage, "aria-label", `${this.#figure.title} in the last hour: ${summary}`);
  }
}

/** A tick's figure without the zeros that a measured one has. */
function short(figure) {
  return format.text({ ...figure, value: figure.value.replace(/\.(\d*?)0+$/, (_, kept) => (kept ? `.${kept}` : "")) });
}

function withGaps(times, values) {
  const steps = times
    .slice(1)
    .map((time, index) => time - times[index])
    .sort((one, other) => one - other);
  const usual = steps[Math.floor(steps.length / 2)] ?? 0;
  const [x, y] = [[], []];
  times.forEach((time, index) => {
    if (index && time - times[index - 1] > usual * GAP) {
      x.push(times[index - 1] + usual);
      y.push(null);
    }
    x.push(time);
    y.push(values[index]);
  });
  return [x, y];
}

customElements.define("hour-charts", HourCharts);
