// The page's entry: registers the elements, asks the server who may see them, and shows either them or the login form.

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

session.addEventListener("change", show);
logout.addEventListener("click", () => session.logOut());
session.begin();
