// How many clients follow the run that is open: asked of the daemons by the server, shown while the run is open.

import { getJson } from "./api.js";
import { setText } from "./dom.js";
import * as format from "./format.js";
import { Poller } from "./poller.js";

const REFRESH = 5000;

/** Keeps an element's text; nothing is asked between `stop` and `start`. */
export class ViewerCount {
  #element;
  #query = "";
  #poller = new Poller(
    {
      ask: () => getJson(`/api/dev/viewers?${this.#query}`),
      take: ({ log, checklist }) =>
        this.#say(`Clients: ${words(log)} of the log, ${words(checklist)} of the checklist, this page among them.`),
      fail: ({ message }) => this.#say(`Clients: ${format.DASH} (${message})`),
    },
    REFRESH,
  );

  constructor(element) {
    this.#element = element;
  }

  start(run, channel) {
    this.stop();
    this.#query = new URLSearchParams({ run, channel }).toString();
    this.#poller.start();
  }

  stop() {
    this.#poller.stop();
    this.#say("");
  }

  #say(text) {
    setText(this.#element, text);
  }
}

/** A number; at least that where not all could be asked. */
function words({ clients, unavailable }) {
  if (clients === null) return format.DASH;
  return `${unavailable.length > 0 ? "at least " : ""}${format.count(clients).value}`;
}
