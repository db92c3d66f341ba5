// What the templates of the page are filled with: what comes from outside is only ever set as text or as an attribute.

/** A copy of the page's template of this name, as a fragment. */
export const copyOf = (name) => document.importNode(document.getElementById(name).content, true);

/** The one element that the template of this name holds, copied. */
export const make = (name) => copyOf(name).firstElementChild;

/** The elements below `root` by their `data-part`: "to-end" is `toEnd`. */
export function partsOf(root) {
  const named = [...root.querySelectorAll("[data-part]")];
  const camel = (name) => name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(named.map((element) => [camel(element.dataset.part), element]));
}

/** Set the text if it is another one, so that nothing is laid out or announced anew for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute if its value is another one; `null` removes it. */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Let a button do nothing; unlike `disabled`, it does not take the focus from who has just pressed it. */
export const setOff = (button, off) => setAttribute(button, "aria-disabled", off ? "true" : null);

export const isOff = (button) => button.getAttribute("aria-disabled") === "true";

/** Give `list` one child for each item: those of known keys are kept (focus and open details with them) and updated. */
export function reconcile(list, items, keyOf, create, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = key;
    }
    known.delete(key);
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}
