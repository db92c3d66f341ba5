// <login-form>: trades the token for the cookie that lets this page in.

import { setText } from "./dom.js";
import { Panel } from "./panel.js";
import { session } from "./session.js";

class LoginForm extends Panel {
  built() {
    this.parts.form.addEventListener("submit", (event) => this.#submit(event));
  }

  focusField() {
    this.parts.field.focus();
  }

  /** What went wrong before it came. */
  say(text) {
    setText(this.parts.error, text);
  }

  async #submit(event) {
    event.preventDefault();
    const { field, error, button } = this.parts;
    button.disabled = true;
    setText(error, "");
    try {
      await session.logIn(field.value);
      field.value = "";
    } catch (failure) {
      setText(error, failure.status === 401 ? "That is not the token." : `Not logged in: ${failure.message}.`);
      field.select();
    } finally {
      button.disabled = false;
    }
  }
}

customElements.define("login-form", LoginForm);
