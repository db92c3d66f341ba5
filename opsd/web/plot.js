// How uPlot draws one of the page's charts: its axes, its line between the lowest and the highest, and marks over all.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import * as format from "./format.js";

const HEIGHT = 132;
const COLOURS = ["muted", "line", "series", "series-fill", "ok", "warn", "bad"];

/**
 * A plot in `stage`. `show` makes a figure of a value, `least` is the lowest end of the axis of values; `range()` says
 * from where to where that of times goes, `marks()` what is marked; `pointed(index)` is told where the cursor is.
 */
export function makePlot(stage, data, { show, least, range, marks, pointed }) {
  const colours = coloursOf(stage);
  const axis = {
    stroke: colours.muted,
    font: `11px ${getComputedStyle(stage).fontFamily}`,
    grid: { stroke: colours.line, width: 1 },
    ticks: { show: false },
  };
  const hours = (_, ticks, __, ___, step) =>
    ticks.map((at) => format.time(new Date(at * 1000), { seconds: step < 60 }));
  const values = (_, ticks) => ticks.map((tick) => short(show(tick)));
  const options = {
    width: Math.floor(stage.clientWidth),
    height: HEIGHT,
    padding: [10, 18, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "hour" }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
    scales: {
      x: { time: true, range },
      y: { range: (_, __, highest) => [0, Math.max(least, (highest ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, space: 64, size: 24, grid: { show: false }, values: hours },
      { ...axis, space: 34, size: 56, gap: 6, values },
    ],
    series: [
      {},
      { stroke: colours.series, fill: colours["series-fill"], width: 1.5, spanGaps: false, points: { size: 4 } },
      { stroke: null, points: { show: false } },
      { stroke: null, points: { show: false } },
    ],
    // From the lowest to the highest of each point: what its mean hides.
    bands: [{ series: [3, 2], fill: colours["series-fill"] }],
    hooks: {
      // Over all else: what is filled below a line would change their colours.
      draw: [(plot) => drawMarks(plot, inView(plot, marks()), colours)],
      setCursor: [({ cursor }) => pointed(cursor.idx)],
    },
  };
  return new uPlot(options, data, stage);
}

/** Show these columns, in the width that there is now. */
export function updatePlot(plot, stage, data) {
  const width = Math.floor(stage.clientWidth);
  if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
  plot.setData(data);
}

/** The mark within so many pixels of the cursor, the nearest of them; undefined if there is none. */
export function markAtCursor(plot, marks, near) {
  const apart = ({ at }) => Math.abs(plot.valToPos(at, "x") - plot.cursor.left);
  return inView(plot, marks)
    .filter((mark) => apart(mark) <= near)
    .sort((one, other) => apart(one) - apart(other))[0];
}

const inView = ({ scales }, marks) => marks.filter(({ at }) => at >= scales.x.min && at <= scales.x.max);

function drawMarks({ ctx, bbox, valToPos }, marks, colours) {
  const width = Math.max(1, Math.round(devicePixelRatio));
  ctx.save();
  for (const { at, level } of marks) {
    ctx.fillStyle = colours[level];
    const x = Math.round(valToPos(at, "x", true));
    ctx.fillRect(x, bbox.top, width, bbox.height);
    // A flag, so that a mark is not taken for a line of the grid.
    ctx.fillRect(x - 2 * width, bbox.top, 5 * width, 5 * width);
  }
  ctx.restore();
}

/** The style sheet's colours as a canvas takes them, which knows neither variables nor `light-dark()`. */
function coloursOf(stage) {
  const probe = document.createElement("span");
  stage.append(probe);
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  };
  const colours = Object.fromEntries(COLOURS.map(read));
  probe.remove();
  return colours;
}

/** A tick's figure without the zeros that a measured one has. */
function short(figure) {
  return format.text({ ...figure, value: figure.value.replace(/\.(\d*?)0+$/, (_, kept) => (kept ? `.${kept}` : "")) });
}
