// A row of the log for a line, as `readLine` gives it, and the time at which it came.

import { make } from "./dom.js";
import * as format from "./format.js";

export function makeRow({ text, percent, task, level, job, at }) {
  const row = make("log-line");
  const [time, name, event, line, progress] = row.children;
  time.textContent = format.time(at);
  line.textContent = task ? `${task}: ${text}` : text;
  if (level) row.dataset.level = level;
  if (job === null) name.remove();
  else {
    row.dataset.event = job.event;
    name.textContent = job.short;
    name.title = job.id;
    event.textContent = job.event;
  }
  if (job === null || job.event === "STATUS") event.remove();
  if (percent === null) progress.remove();
  else {
    const [bar, words] = progress.children;
    bar.value = percent;
    bar.ariaLabel = task || "Progress";
    words.textContent = `${Math.round(percent)} %`;
  }
  return row;
}
