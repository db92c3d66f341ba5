// A run's lines as they come: the newest of them, followed while the end is in view, held while paused, searched, and
// saved as text.
//
// What the reader looks at stays where it is: whoever has scrolled up is not taken to the end, and lines that go at the
// top move nothing.

import * as clock from "./clock.js";
import { setAttribute, setText } from "./dom.js";
import { save } from "./download.js";
import * as format from "./format.js";
import { Kept } from "./kept.js";
import { makeRow } from "./log_line.js";
import { LogSearch } from "./log_search.js";

const KEPT = 2000;
const CHARACTERS = 16_000_000;
// So close to its end (in pixels) the log follows what comes.
const NEAR_END = 40;

export class RunLog {
  #parts;
  #onProgress;
  #search;
  /** `{line, row}`, the oldest first; and lines that are not drawn yet. */
  #shown = new Kept(KEPT, CHARACTERS, ({ line }) => line.raw.length);
  #waiting = new Kept(KEPT, CHARACTERS, ({ raw }) => raw.length);
  /** Messages that came. */
  #seen = 0;
  /** Those of them that went. */
  #gone = 0;
  /** Lines that went past the end of who has scrolled up. */
  #below = 0;
  /** The newest line with a percentage that is not shown yet. */
  #progress = null;
  #paused = false;
  /** Whether its end was in view when the reader scrolled last: then it stays there. */
  #follows = true;
  /** How far it was scrolled when that was found. */
  #top = 0;
  #drawing = 0;
  #name = "";

  /**
   * Of `parts` it has `list`, what is pressed above it and what is said below it. `onProgress` is called with a line
   * that carries a percentage, the newest of those that came since the last call.
   */
  constructor(parts, onProgress) {
    this.#parts = parts;
    this.#onProgress = onProgress;
    this.#search = new LogSearch(parts, {
      rows: () => this.#shown.items,
      firstInView: () => this.#firstInView(),
      reveal: (row) => this.#reveal(row),
    });
    parts.pause.addEventListener("click", () => this.#toggle());
    parts.save.addEventListener("click", () => this.#save());
    parts.toEnd.addEventListener("click", () => this.#jump());
    parts.list.addEventListener("scroll", () => this.#moved(), { passive: true });
    // What stands beside it takes its height from it.
    new ResizeObserver(() => this.#moved()).observe(parts.list);
  }

  /** Begin anew; `name` is the saved file's. */
  clear(name) {
    this.#name = name;
    this.#shown.take();
    this.#waiting.take();
    this.#seen = this.#gone = this.#below = 0;
    this.#progress = null;
    this.#set(false);
    this.#parts.list.replaceChildren();
    this.#search.clear();
    this.#tell();
  }

  /** Draw nothing more until the next line. */
  rest() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
  }

  /** A message, as `readLine` gives it. */
  add(line) {
    this.#seen += 1;
    if (line.percent !== null) this.#progress = line;
    this.#push(line);
  }

  /** A line of the page's own, which is no message. */
  mark(text) {
    this.#push({ raw: `-- ${text}`, text, percent: null, task: "", level: "warn", job: null, own: true });
  }

  #push(line) {
    // Nothing is drawn while it is paused or the page is hidden: only what would still be shown is kept.
    this.#miss(this.#waiting.push({ ...line, at: new Date(clock.now()) }));
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = 0;
    const follow = this.#follows;
    const anchor = follow ? null : this.#firstInView();
    const before = anchor?.row.offsetTop;
    // The bar takes its height from the log: first.
    if (this.#progress !== null) this.#onProgress(this.#progress);
    this.#progress = null;
    if (!this.#paused) this.#append(this.#waiting.take(), follow);
    if (follow) this.#hold();
    else if (anchor?.row.isConnected) this.#parts.list.scrollTop += anchor.row.offsetTop - before;
    this.#tell();
  }

  #append(lines, follow) {
    const made = lines.map((line) => ({ line, row: makeRow(line) }));
    this.#parts.list.append(...made.map(({ row }) => row));
    const gone = this.#shown.push(...made);
    for (const { row } of gone) row.remove();
    this.#miss(gone.map(({ line }) => line));
    if (!follow) this.#below += made.length;
    this.#search.add(made);
  }

  #miss(lines) {
    this.#gone += lines.filter(({ own }) => !own).length;
  }

  #tell() {
    const { length } = this.#waiting.items;
    const come = this.#seen ? format.plural(this.#seen, "line") : "No lines yet.";
    const bounded = this.#gone ? `, the last ${format.count(this.#seen - this.#gone).value} are kept` : "";
    const held = length ? `, ${format.plural(length, "line")} held` : "";
    setText(this.#parts.counted, `${come}${bounded}${this.#paused ? ` · paused${held}` : ""}`);
    this.#scrolled();
  }

  // -- where the reader is ----------------------------------------------------------------------------------------------

  #hold() {
    if (this.#follows) this.#parts.list.scrollTop = this.#parts.list.scrollHeight;
  }

  /** The first line of which something is seen. */
  #firstInView() {
    const top = this.#parts.list.getBoundingClientRect().top;
    const { items } = this.#shown;
    let [low, high] = [0, items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[middle].row.getBoundingClientRect().bottom > top) high = middle;
      else low = middle + 1;
    }
    return items[low] ?? null;
  }

  /** Where it is as it was left, only its size is another, and the end stays in view; else the reader has scrolled. */
  #moved() {
    if (this.#parts.list.scrollTop === this.#top) this.#hold();
    this.#scrolled();
  }

  #scrolled() {
    const { list, toEnd } = this.#parts;
    this.#top = list.scrollTop;
    const end = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END;
    this.#follows = end;
    if (end) this.#below = 0;
    // The focus would be lost with the button.
    if (end && document.activeElement === toEnd) list.focus({ preventScroll: true });
    toEnd.hidden = end;
    setText(toEnd, this.#below ? `To the end: ${format.plural(this.#below, "new line")}` : "To the end");
  }

  /** Bring a row to the middle of the log, and the log into view. */
  #reveal(row) {
    const { list } = this.#parts;
    list.scrollTop += row.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 2;
    // At once: the page's gliding ends short of its goal when something else scrolls or grows meanwhile.
    row.scrollIntoView({ block: "nearest", behavior: "instant" });
    this.#scrolled();
  }

  #jump() {
    this.#parts.list.scrollTop = this.#parts.list.scrollHeight;
    this.#scrolled();
  }

  // -- what the reader does ---------------------------------------------------------------------------------------------

  #toggle() {
    this.#set(!this.#paused);
    this.#draw();
  }

  #set(paused) {
    this.#paused = paused;
    setAttribute(this.#parts.pause, "aria-pressed", String(paused));
  }

  /** All that is kept, also what is held: a line a message, its time before it, as it was published. */
  #save() {
    const lines = [...this.#shown.items.map(({ line }) => line), ...this.#waiting.items];
    const text = lines.map(({ at, raw }) => `${at.toISOString()} ${raw}\n`).join("");
    const name = `${this.#name}-${new Date(clock.now()).toISOString().replace(/[:.]/g, "")}.txt`;
    save(new Blob([text], { type: "text/plain;charset=utf-8" }), name.replace(/[^\w.-]/g, "_"));
  }
}
