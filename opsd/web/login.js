// <login-form>: trades the token for the cookie that lets this page in.

import { h, setText } from "./dom.js";
import { session } from "./session.js";

class LoginForm extends HTMLElement {
  #field = h("input", {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
    spellcheck: false,
    "aria-describedby": "token-error",
  });
  #button = h("button", { type: "submit", class: "primary" }, "Log in");
  #error = h("p", { id: "token-error", class: "form-error", role: "alert" });

  connectedCallback() {
    if (this.firstChild) return;
    this.append(
      h(
        "form",
        { class: "panel login", "aria-labelledby": "login-title", onsubmit: (event) => this.#submit(event) },
        h("h2", { id: "login-title" }, "Log in"),
        h("p", { class: "muted" }, "This server asks for its token (OPS_TOKEN)."),
        // For password managers, which file a password under a name.
        h("input", { type: "text", autocomplete: "username", value: "operator", hidden: true, "aria-hidden": "true" }),
        h("label", { htmlFor: "token" }, "Token"),
        this.#field,
        this.#error,
        this.#button,
      ),
    );
  }

  focusField() {
    this.#field.focus();
  }

  async #submit(event) {
    event.preventDefault();
    this.#button.disabled = true;
    setText(this.#error, "");
    try {
      await session.logIn(this.#field.value);
      this.#field.value = "";
    } catch (error) {
      setText(this.#error, error.status === 401 ? "That is not the token." : `Not logged in: ${error.message}.`);
      this.#field.select();
    } finally {
      this.#button.disabled = false;
    }
  }
}

customElements.define("login-form", LoginForm);
