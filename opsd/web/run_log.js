// A run's lines as they come: the newest of them, followed while the end is in view, held while paused, searched, and
// saved as text.
//
// What the reader looks at stays where it is: whoever has scrolled up is not taken to the end, and lines that go at the
// top move nothing.

import * as clock from "./clock.js";
import { h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Kept } from "./kept.js";

const KEPT = 2000;
const CHARACTERS = 16_000_000;
// So close to its end (in pixels) the log follows what comes.
const NEAR_END = 40;

export class RunLog {
  /** For the page: what is pressed, the lines, and what is said of them. */
  tools;
  list = h("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Status lines", tabIndex: 0 });
  foot;

  #onProgress;
  /** `{line, row}`, the oldest first; and lines that are not drawn yet. */
  #shown = new Kept(KEPT, CHARACTERS, ({ line }) => line.raw.length);
  #waiting = new Kept(KEPT, CHARACTERS, ({ raw }) => raw.length);
  /** Messages that came, those of them that went, lines that went past the end of who has scrolled up, and a percentage that is not shown yet. */
  #seen = 0;
  #gone = 0;
  #below = 0;
  #progress = null;
  #paused = false;
  /** Whether its end was in view when the reader scrolled last: then it stays there. */
  #follows = true;
  #drawing = 0;
  #name = "";

  #needle = "";
  #current = null;

  #find = h("input", { type: "search", id: "run-find", autocomplete: "off", spellcheck: false });
  #found = h("span", { class: "muted", role: "status", "data-part": "found" });
  #pause = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => this.#toggle() }, "Pause");
  #counted = h("p", { class: "muted", "data-part": "counted" });
  #toEnd = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#jump() });

  /** `onProgress` is called with a line that carries a percentage, the newest of those that came since the last call. */
  constructor(onProgress) {
    this.#onProgress = onProgress;
    const button = (label, words, onclick) =>
      h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick }, words);
    this.tools = h(
      "div",
      { class: "row log-tools" },
      h("label", { htmlFor: "run-find" }, "Find"),
      this.#find,
      button("Previous match", "↑", () => this.#step(-1)),
      button("Next match", "↓", () => this.#step(1)),
      this.#found,
      h("span", { class: "space" }),
      this.#pause,
      h("button", { type: "button", class: "quiet", onclick: () => this.#save() }, "Save as text"),
    );
    this.foot = h("div", { class: "row log-foot" }, this.#counted, this.#toEnd);
    this.#find.addEventListener("input", () => this.#search());
    this.#find.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#step(event.shiftKey ? -1 : 1);
    });
    this.list.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // What stands beside it takes its height from it.
    new ResizeObserver(() => this.#hold()).observe(this.list);
  }

  /** Begin anew; `name` is the saved file's. */
  clear(name) {
    this.#name = name;
    this.#shown.take();
    this.#waiting.take();
    this.#seen = this.#gone = this.#below = 0;
    this.#progress = this.#current = null;
    this.#set(false);
    this.list.replaceChildren();
    this.#find.value = "";
    this.#search();
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
    const { list } = this;
    const follow = this.#follows;
    const anchor = follow ? null : this.#firstInView();
    const before = anchor?.row.offsetTop;
    // The bar takes its height from the log: first.
    if (this.#progress !== null) this.#onProgress(this.#progress);
    this.#progress = null;
    if (!this.#paused) this.#append(this.#waiting.take(), follow);
    if (follow) this.#hold();
    else if (anchor?.row.isConnected) list.scrollTop += anchor.row.offsetTop - before;
    this.#tell();
  }

  #append(lines, follow) {
    const made = lines.map((line) => ({ line, row: lineRow(line) }));
    this.list.append(...made.map(({ row }) => row));
    const gone = this.#shown.push(...made);
    for (const { row } of gone) row.remove();
    this.#miss(gone.map(({ line }) => line));
    if (!follow) this.#below += made.length;
    if (!this.#needle) return;
    made.forEach((one) => this.#matchRow(one));
    this.#count();
  }

  #miss(lines) {
    this.#gone += lines.filter(({ own }) => !own).length;
  }

  #tell() {
    const { length } = this.#waiting.items;
    const come = this.#seen ? format.plural(this.#seen, "line") : "No lines yet.";
    const bounded = this.#gone ? `, the last ${format.count(this.#seen - this.#gone).value} are kept` : "";
    const held = length ? `, ${format.plural(length, "line")} held` : "";
    setText(this.#counted, `${come}${bounded}${this.#paused ? ` · paused${held}` : ""}`);
    this.#scrolled();
  }

  // -- where the reader is ----------------------------------------------------------------------------------------------

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.list;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #hold() {
    if (this.#follows) this.list.scrollTop = this.list.scrollHeight;
  }

  /** The first line of which something is seen. */
  #firstInView() {
    const top = this.list.getBoundingClientRect().top;
    const { items } = this.#shown;
    let [low, high] = [0, items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[middle].row.getBoundingClientRect().bottom > top) high = middle;
      else low = middle + 1;
    }
    return items[low] ?? null;
  }

  #scrolled() {
    const end = this.#atEnd();
    this.#follows = end;
    if (end) this.#below = 0;
    // The focus would be lost with the button.
    if (end && document.activeElement === this.#toEnd) this.list.focus({ preventScroll: true });
    this.#toEnd.hidden = end;
    setText(this.#toEnd, this.#below ? `To the end: ${format.plural(this.#below, "new line")}` : "To the end");
  }

  #jump() {
    this.list.scrollTop = this.list.scrollHeight;
    this.#scrolled();
  }

  #toggle() {
    this.#set(!this.#paused);
    this.#draw();
  }

  #set(paused) {
    this.#paused = paused;
    setAttribute(this.#pause, "aria-pressed", String(paused));
  }

  // -- what the reader looks for ----------------------------------------------------------------------------------------

  #search() {
    this.#needle = this.#find.value.trim().toLowerCase();
    this.#choose(null);
    this.#shown.items.forEach((one) => this.#matchRow(one));
    this.#count();
  }

  #matchRow({ line, row }) {
    const { raw, text } = line;
    row.toggleAttribute("data-found", this.#needle !== "" && `${raw}\n${text}`.toLowerCase().includes(this.#needle));
  }

  #matches() {
    return this.#shown.items.filter(({ row }) => row.hasAttribute("data-found"));
  }

  #count() {
    const matches = this.#matches();
    const at = matches.indexOf(this.#current);
    if (!this.#needle) setText(this.#found, "");
    else setText(this.#found, at < 0 ? `${matches.length} found` : `${at + 1} of ${matches.length}`);
  }

  #choose(one) {
    this.#current?.row.removeAttribute("data-current");
    this.#current = one;
    one?.row.setAttribute("data-current", "");
  }

  /** To the next match or the one before, round and round; the first time to the next one in view or below it. */
  #step(by) {
    const matches = this.#matches();
    if (!matches.length) return;
    const at = matches.indexOf(this.#current);
    const top = this.#firstInView()?.row.offsetTop ?? 0;
    const below = Math.max(0, matches.findIndex(({ row }) => row.offsetTop >= top));
    const start = by > 0 ? below : below - 1;
    const chosen = matches.at((at < 0 ? start : at + by) % matches.length);
    this.#choose(chosen);
    const { list } = this;
    list.scrollTop += chosen.row.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 2;
    // And the log itself.
    chosen.row.scrollIntoView({ block: "nearest" });
    this.#count();
    this.#scrolled();
  }

  // -- what the reader takes along --------------------------------------------------------------------------------------

  /** All that is kept, also what is held: a line a message, its time before it, as it was published. */
  #save() {
    const lines = [...this.#shown.items.map(({ line }) => line), ...this.#waiting.items];
    const text = lines.map(({ at, raw }) => `${at.toISOString()} ${raw}\n`).join("");
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    const name = `${this.#name}-${new Date(clock.now()).toISOString().replace(/[:.]/g, "")}.txt`;
    h("a", { href: address, download: name.replace(/[^\w.-]/g, "_") }).click();
    // The download has taken it up by then.
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
}

function lineRow({ text, percent, task, level, job, at }) {
  const row = h("div", { class: "log-line" }, h("time", {}, format.time(at)));
  if (job) {
    row.dataset.event = job.event;
    row.append(h("span", { class: "job", title: job.id }, job.short));
    if (job.event !== "STATUS") row.append(h("strong", { class: "job-event" }, job.event));
  }
  row.append(h("span", { class: "line" }, task ? `${task}: ${text}` : text));
  if (level) row.dataset.level = level;
  if (percent !== null) {
    row.append(
      h(
        "span",
        { class: "line-progress" },
        h("progress", { max: 100, value: percent, "aria-label": task || "Progress" }),
        h("span", {}, `${Math.round(percent)} %`),
      ),
    );
  }
  return row;
}
