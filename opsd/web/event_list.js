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
  #poller = new Poller(
    {
      ask: () => getJson(`/api/dev/events?limit=${MOST}`),
      take: ({ events: found }) => this.#show(found),
      fail: ({ message }) => this.#say(`They can't be shown: ${message}.`),
    },
    REFRESH,
  );

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

  #show(found) {
    this.#say(found.length > 0 ? "" : "None yet.");
    reconcile(this.#list, found, events.keyOf, row, () => {});
    this.#onEvents(found);
  }

  #say(words) {
    this.#note.hidden = words === "";
    setText(this.#note, words);
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
