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

function show() {
  asking.hidden = session.known;
  dashboard.hidden = !session.open;
  login.hidden = session.open || !session.known;
  logout.hidden = !(session.open && session.tokenRequired);
  if (!login.hidden) login.focusField();
}

session.addEventListener("change", show);
logout.addEventListener("click", () => session.logOut());
session.begin();
