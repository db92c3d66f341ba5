// The page's entry: registers the elements, asks the server who may see them, and shows either them or the login form.
//
// An element is a Panel (panel.js), made of the template of its name in index.html and styled by the sheet of its name:
//   status.js     figures, lamps: what they say in tiles.js, lamps.js, news.js, figures.js; event_list.js, events.js
//   charts.js     chart.js on plot.js (uPlot) and series.js
//   run.js        run_address.js, run_log.js (log_line.js, log_search.js, kept.js, run_line.js), checklist.js, viewers.js
//   workers.js    snapshots go through download.js
//   tmux.js       its words in tmux_text.js; tmux_start.js, ask.js
//   login.js
// Below them: session.js and api.js (requests), socket.js (the WebSocket of status_feed.js and run_socket.js), poller.js,
// backoff.js, clock.js, format.js, dom.js, verdict.js. What is pure says so, and knows no document.

import "./charts.js";
import "./login.js";
import "./run.js";
import "./status.js";
import "./tmux.js";
import "./workers.js";
import { session } from "./session.js";

const dashboard = document.getElementById("dashboard");
const asking = document.getElementById("asking");
const login = document.querySelector("login-form");
const logout = document.getElementById("logout");
const links = document.getElementById("links");

function show() {
  const entered = session.open && !login.hidden;
  asking.hidden = session.known;
  dashboard.hidden = links.hidden = !session.open;
  login.hidden = session.open || !session.known;
  logout.hidden = !(session.open && session.tokenRequired);
  if (!login.hidden) login.focusField();
  // The field that had the focus is gone.
  if (entered) document.getElementById("content").focus();
}

async function logOut() {
  try {
    await session.logOut();
  } catch ({ message }) {
    login.say(`The server may not have ended the session: ${message}.`);
  }
}

session.addEventListener("change", show);
logout.addEventListener("click", logOut);
session.begin();
