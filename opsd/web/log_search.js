// What the reader looks for in a run's lines: the rows that have it are marked, and gone through.

import { setText } from "./dom.js";

export class LogSearch {
  #parts;
  #log;
  #needle = "";
  #current = null;

  /** Of `parts` it has `find`, `found`, `previous` and `next`; `log` gives `rows()`, `firstInView()` and `reveal(row)`. */
  constructor(parts, log) {
    this.#parts = parts;
    this.#log = log;
    parts.previous.addEventListener("click", () => this.#step(-1));
    parts.next.addEventListener("click", () => this.#step(1));
    parts.find.addEventListener("input", () => this.#begin());
    parts.find.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#step(event.shiftKey ? -1 : 1);
    });
  }

  /** Look for nothing. */
  clear() {
    this.#parts.find.value = "";
    this.#begin();
  }

  /** Look at these as well: `{line, row}` each. */
  add(made) {
    if (!this.#needle) return;
    for (const one of made) this.#mark(one);
    this.#count();
  }

  #begin() {
    this.#needle = this.#parts.find.value.trim().toLowerCase();
    this.#choose(null);
    for (const one of this.#log.rows()) this.#mark(one);
    this.#count();
  }

  #mark({ line, row }) {
    const { raw, text } = line;
    row.toggleAttribute("data-found", this.#needle !== "" && `${raw}\n${text}`.toLowerCase().includes(this.#needle));
  }

  #matches() {
    return this.#log.rows().filter(({ row }) => row.hasAttribute("data-found"));
  }

  #count() {
    const matches = this.#matches();
    const at = matches.indexOf(this.#current);
    const said = at < 0 ? `${matches.length} found` : `${at + 1} of ${matches.length}`;
    setText(this.#parts.found, this.#needle ? said : "");
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
    const top = this.#log.firstInView()?.row.offsetTop ?? 0;
    const below = Math.max(0, matches.findIndex(({ row }) => row.offsetTop >= top));
    const start = by > 0 ? below : below - 1;
    this.#choose(matches.at((at < 0 ? start : at + by) % matches.length));
    this.#log.reveal(this.#current.row);
    this.#count();
  }
}
