// What the page's own elements have in common: each is made of the template of its name, and works while it is in the
// page and the session is open.

import { copyOf, partsOf } from "./dom.js";
import { session } from "./session.js";

export class Panel extends HTMLElement {
  /** The elements of its template by their `data-part`; null before it is first put into the page. */
  parts = null;
  #end = null;

  connectedCallback() {
    if (this.parts === null) {
      const content = copyOf(this.localName);
      this.parts = partsOf(content);
      this.replaceChildren(content);
      this.built();
    }
    this.#end = new AbortController();
    this.placed(this.#end.signal);
    session.whileOpen(
      () => this.start(),
      () => this.stop(),
      this.#end.signal,
    );
  }

  disconnectedCallback() {
    this.#end.abort();
    this.taken();
  }

  /** Its parts are there: once. */
  built() {}

  /** It was put into the page; `signal` aborts when it is taken away. */
  placed(signal) {}

  /** It was taken from the page. */
  taken() {}

  start() {}

  stop() {}
}
