// A run's checklist, its locks and its last change, as preflightd's frames tell them.

import { make, reconcile, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { itemTitle } from "./run_words.js";

export class Checklist {
  #parts;

  /** Of `parts` it fills `items`, `locks` and `modified`. */
  constructor(parts) {
    this.#parts = parts;
  }

  clear() {
    const { items, locks, modified } = this.#parts;
    items.replaceChildren();
    for (const element of [locks, modified]) setText(element, "");
  }

  show(frame) {
    if (frame?.type !== "preflight" || typeof frame.checklist !== "object") return;
    const { items, locks, modified } = this.#parts;
    reconcile(items, Object.entries(frame.checklist), ([key]) => key, () => make("checklist-item"), updateItem);
    const held = Object.entries(frame.lock_statuses ?? {})
      .filter(([, locked]) => locked === true)
      .map(([name]) => name);
    setText(locks, held.length ? `Locked: ${held.join(", ")}` : "Nothing is locked.");
    setAttribute(locks, "data-level", held.length ? "warn" : null);
    const at = frame.last_modified;
    setText(modified, Number.isFinite(at) ? `Last change ${format.dateTime(new Date(at * 1000))}` : "");
  }
}

function updateItem(row, [key, done]) {
  const [title, state] = row.children;
  setText(title, itemTitle(key));
  setText(state, done === true ? "done" : "open");
  setAttribute(row, "data-done", String(done === true));
}
