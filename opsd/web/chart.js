// One small chart of the last hour: a title, the newest value or that under the cursor, and the line.

import * as clock from "./clock.js";
import { make, partsOf, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { makePlot, markAtCursor, updatePlot } from "./plot.js";
import { columnsOf, withGaps, withNewest } from "./series.js";

const HOUR = 3600;
// The axis is never shorter: one point is no line.
const LEAST_SECONDS = 60;
// A status that came longer ago (in milliseconds) says nothing of now.
const LIVE = 15_000;
// So near to a mark (in pixels) the cursor means it.
const NEAR = 6;

export class Chart {
  root = make("chart");

  #figure;
  #parts = partsOf(this.root);
  #plot = null;
  #recorded = [[], [], [], []];
  /** The newest status's value (null if it is not known) and its time, and when it came; null before the first. */
  #end = null;
  #data = [[], [], [], []];
  #marks = [];

  constructor(figure) {
    this.#figure = figure;
    setText(this.#parts.title, figure.title);
    this.#describe();
  }

  /** What is recorded. */
  give(times, points) {
    this.#recorded = columnsOf(times, points, this.#figure.key);
    this.#join();
  }

  /** What has happened: `{at, level, title}` each. */
  mark(marks) {
    this.#marks = marks;
    this.#describe();
  }

  /** The newest status. */
  end(at, status) {
    if (this.#figure.newest === null) return;
    const value = this.#figure.newest(status);
    this.#end = { at, value: Number.isFinite(value) ? value : null, heard: performance.now() };
    this.#join();
  }

  draw() {
    const { stage } = this.#parts;
    if (Math.floor(stage.clientWidth) === 0) return;
    if (this.#plot !== null) updatePlot(this.#plot, stage, this.#data);
    else {
      this.#plot = makePlot(stage, this.#data, {
        ...this.#figure,
        range: () => this.#range(),
        marks: () => this.#marks,
        pointed: (index) => this.#read(index),
      });
    }
  }

  /** Until it is drawn again. */
  clear() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #join() {
    this.#data = withGaps(this.#isLive() ? withNewest(this.#recorded, this.#end.at, this.#end.value) : this.#recorded);
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
    return [Math.max(first, end - HOUR), end];
  }

  #say(value) {
    return format.text(this.#figure.show(value ?? NaN));
  }

  /** Show the value under the cursor, or the newest. */
  #read(index) {
    const { value: shown, when } = this.#parts;
    const [times, values, , highest] = this.#data;
    const pointed = index !== null && index !== undefined;
    const value = pointed ? values[index] : this.#newest();
    setText(shown, this.#say(value));
    const peak = pointed && highest[index] > value ? `, up to ${this.#say(highest[index])}` : "";
    const mark = pointed ? markAtCursor(this.#plot, this.#marks, NEAR) : undefined;
    const at = mark?.at ?? (pointed ? times[index] : null);
    const time = at === null ? "" : format.time(new Date(at * 1000));
    setText(when, `${time}${mark ? ` ${mark.title}` : ""}${peak}`);
    setAttribute(when, "data-level", mark?.level ?? null);
  }

  #describe() {
    const [, known, lowest, highest] = this.#data.map((values) => values.filter((value) => value !== null));
    const summary = known.length
      ? `now ${this.#say(this.#newest())}, lowest ${this.#say(Math.min(...lowest))}, highest ${this.#say(Math.max(...highest))}`
      : "no figures yet";
    const [start, end] = this.#range();
    const marks = this.#marks.filter(({ at }) => at >= start && at <= end).length;
    const happened = marks ? `, ${format.plural(marks, "event")}` : "";
    setAttribute(this.#parts.stage, "aria-label", `${this.#figure.title} in the last hour: ${summary}${happened}`);
  }
}
