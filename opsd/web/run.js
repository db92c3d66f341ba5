// <run-viewer>: a run's status lines and its checklist, live, as a user of the platform gets them.
//
// The address `#run=<runid>:<channel>` opens one at once, and follows what is typed.

import { Checklist } from "./checklist.js";
import { setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Panel } from "./panel.js";
import { isChannel, isRun, makeHash, parseHash } from "./run_address.js";
import { readLine } from "./run_line.js";
import { RunLog } from "./run_log.js";
import { RunSocket } from "./run_socket.js";
import { session } from "./session.js";
import { ViewerCount } from "./viewers.js";

class RunViewer extends Panel {
  #sockets = [];
  #log;
  #checklist;
  #viewers;

  built() {
    const { form, close, viewers } = this.parts;
    this.#log = new RunLog(this.parts, (line) => this.#progress(line));
    this.#checklist = new Checklist(this.parts);
    this.#viewers = new ViewerCount(viewers);
    form.addEventListener("submit", (event) => this.#submit(event));
    close.addEventListener("click", () => this.#leave());
  }

  placed(signal) {
    window.addEventListener("hashchange", () => this.#follow(), { signal });
  }

  taken() {
    this.#log.rest();
  }

  start() {
    this.#openFromAddress();
  }

  stop() {
    for (const socket of this.#sockets) socket.stop();
    this.#sockets = [];
    this.#viewers.stop();
    this.parts.close.disabled = true;
  }

  /** Without a login there is nothing to follow: the login opens what the address says then. */
  #follow() {
    if (session.open) this.#openFromAddress();
  }

  #openFromAddress() {
    const asked = parseHash(location.hash);
    if (asked === null) return;
    this.parts.run.value = asked.run;
    this.parts.channel.value = asked.channel;
    this.#open(asked);
  }

  #submit(event) {
    event.preventDefault();
    const asked = { run: this.parts.run.value.trim(), channel: this.parts.channel.value.trim() };
    if (this.#open(asked)) history.replaceState(null, "", makeHash(asked));
  }

  #leave() {
    this.stop();
    history.replaceState(null, "", location.pathname);
    this.parts.run.focus();
  }

  /** Returns whether such a run can be. */
  #open({ run, channel }) {
    const { error, close, empty, view, progress, statusState, checklistState } = this.parts;
    const wrong = this.#wrong(run, channel);
    setText(error, wrong?.said ?? "");
    wrong?.field.focus();
    if (wrong !== null) return false;
    this.stop();
    this.#log.clear(`${run}-${channel}`);
    this.#checklist.clear();
    progress.hidden = empty.hidden = true;
    view.hidden = close.disabled = false;
    const { statusWsUrl, preflightWsUrl } = session.config;
    const [runPart, channelPart] = [run, channel].map(encodeURIComponent);
    const lines = this.#listen("statusd", `${statusWsUrl}/${runPart}:${channelPart}?gap=1`, statusState);
    lines.addEventListener("frame", ({ detail }) => this.#line(detail));
    lines.addEventListener("back", ({ detail }) => this.#wasAway(detail));
    const checklist = this.#listen("preflightd", `${preflightWsUrl}/${runPart}`, checklistState);
    checklist.addEventListener("frame", ({ detail }) => this.#checklist.show(detail));
    for (const socket of this.#sockets) socket.start();
    this.#viewers.start(run, channel);
    return true;
  }

  /** The first field that can't be, and what is said of it; null if both can. */
  #wrong(run, channel) {
    const fields = [
      [this.parts.run, isRun(run), "A run id has letters, digits and . _ ; - only, 256 at most."],
      [this.parts.channel, isChannel(channel), "A channel has letters, digits and . _ - only, 256 at most."],
    ];
    for (const [field, good] of fields) setAttribute(field, "aria-invalid", good ? null : "true");
    const found = fields.find(([, good]) => !good);
    return found === undefined ? null : { field: found[0], said: found[2] };
  }

  /** A conversation that is told of in `place`, to be started. */
  #listen(name, url, place) {
    const socket = new RunSocket(url);
    const show = () => {
      const words = {
        connecting: `Connecting to ${name}…`,
        open: `${name}: connected`,
        waiting: `${name}: ${socket.reason}; trying again`,
        stopped: `${name}: ${socket.reason || "closed"}`,
      };
      setText(place, words[socket.state]);
      setAttribute(place, "data-state", socket.state);
    };
    socket.addEventListener("state", show);
    show();
    this.#sockets.push(socket);
    return socket;
  }

  #line(frame) {
    if (frame?.type === "gap") {
      this.#log.mark(`Redis could not be heard for ${format.absence(Number(frame.seconds))}: lines may be missing here.`);
    } else if (frame?.type === "status" && typeof frame.data === "string") {
      this.#log.add(readLine(frame.data));
    }
  }

  /** A restart, or a page that was too slow: Pub/Sub has no memory of what came meanwhile. */
  #wasAway({ seconds, reason }) {
    this.#log.mark(`Not connected for ${format.absence(seconds)} (${reason}): lines may be missing here.`);
  }

  #progress({ percent, task, text }) {
    const { progress, bar, progressText } = this.parts;
    progress.hidden = false;
    bar.value = percent;
    setText(progressText, `${Math.round(percent)} % · ${task ? `${task}: ` : ""}${text}`);
  }
}

customElements.define("run-viewer", RunViewer);
