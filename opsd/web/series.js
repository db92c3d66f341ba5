// What was recorded and what is newest, as columns for a chart: times, and for each the mean, the lowest and the
// highest. Pure.

// A pause longer than this many usual distances between points is a gap in the line, not a slope.
const GAP = 4;

/** The columns of recorded points for one of their figures. */
export function columnsOf(times, points, key) {
  const reads = [(point) => point[key], (point) => point.min?.[key], (point) => point.max?.[key]];
  const column = (read) => points.map((point) => [read(point), point[key]].find(Number.isFinite) ?? null);
  return [times, ...reads.map(column)];
}

/** The columns and one more value, null if it is not known. */
export function withNewest([times, ...columns], at, value) {
  // What is recorded has its times from Redis, whose clock may be a little ahead.
  const last = Math.max(at, (times.at(-1) ?? 0) + 0.001);
  return [[...times, last], ...columns.map((values) => [...values, value])];
}

/** The columns with nothing where nothing was recorded. */
export function withGaps([times, ...columns]) {
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
