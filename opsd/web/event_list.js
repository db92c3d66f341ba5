// The list of what has happened, asked for now and then, and at once when something in the figures says so.

import { getJson } from "./api.js";
import { make, reconcile, setText } from "./dom.js";
import * as events from "./events.js";
import * as format from "./format.js";
import { Poller } from "./poller.js";

const MOST = 100;
const REFRESH = 10_000;

export class EventList {
  #list;
  #note;
  #onEvents;
  #poller = new Poller(() => this.#refresh(), REFRESH);

  /** `note` says so when there is nothing in the list; `onEvents` is told of the events. */
  constructor(list, note, onEvents) {
    this.#list = list;
    this.#note = note;
    this.#onEvents = onEvents;
  }

  start() {
    this.#poller.start();
  }

  stop() {
    this.#poller.stop();
  }

  now() {
    this.#poller.now();
  }

  async #refresh() {
    try {
      const found = (await getJson(`/api/dev/events?limit=${MOST}`)).events;
      this.#note.hidden = found.length > 0;
      setText(this.#note, "None yet.");
      reconcile(this.#list, found, events.keyOf, row, () => {});
      this.#onEvents(found);
    } catch (error) {
      this.#note.hidden = false;
      setText(this.#note, `They can't be shown: ${error.message}.`);
    }
  }
}

function row(event) {
  const item = make("event");
  const [time, subject, state, detail] = item.children;
  time.dateTime = event.time;
  time.textContent = format.dateTime(new Date(event.time));
  subject.textContent = events.subjectOf(event);
  state.textContent = String(event.to);
  state.dataset.level = events.levelOf(event);
  detail.textContent = events.detailOf(event);
  return item;
}
