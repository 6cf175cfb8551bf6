// Builds elements out of text: nothing that the coordinator sends is ever read as markup.

/** An element. `on` holds listeners, `data` the dataset; an attribute that is null, undefined or false is left out. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(node.dataset, value);
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets a node's text, and leaves it alone when it is the same: a selection survives. */
export function setText(node, text) {
  const words = text ?? "";
  if (node.textContent !== words) node.textContent = words;
}

/** Sets an attribute, or removes it for null. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Children by key: rows stay the same elements while their items change, so that focus and selection stay where they are. */
export class List {
  /** `make(item)` returns `{node, update(item)}`. */
  constructor(parent, keyOf, make) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
    this.rows = new Map();
  }

  show(items) {
    const keys = new Set(items.map(this.keyOf));
    for (const [key, row] of this.rows) {
      if (!keys.has(key)) {
        row.node.remove();
        row.close?.();
        this.rows.delete(key);
      }
    }
    let at = this.parent.firstChild;
    for (const item of items) {
      const key = this.keyOf(item);
      let row = this.rows.get(key);
      if (!row) {
        row = this.make(item);
        this.rows.set(key, row);
      }
      row.update(item);
      if (row.node === at) at = at.nextSibling;
      else this.parent.insertBefore(row.node, at);
    }
  }

  close() {
    for (const row of this.rows.values()) row.close?.();
  }
}

/** Calls `work` at once, then at most every `milliseconds`; calls in between become one at the end. */
export function atMostEvery(milliseconds, work) {
  let timer = null;
  let again = false;
  const call = () => {
    if (timer !== null) {
      again = true;
      return;
    }
    again = false;
    timer = setTimeout(() => {
      timer = null;
      if (again) call();
    }, milliseconds);
    work();
  };
  call.cancel = () => {
    clearTimeout(timer);
    timer = null;
    again = false;
  };
  return call;
}

/** Says something to those who do not see the page. */
export function announce(words) {
  setText(document.getElementById("announce"), words);
}

/** A button that copies `text()` and says so. */
export function copyButton(what, text) {
  const button = h("button", { type: "button", class: "quiet small", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await copy(text());
    setText(button, copied ? "Copied" : "Not copied");
    announce(copied ? `${what} copied` : `${what} could not be copied`);
    setTimeout(() => setText(button, "Copy"), 2000);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

// Browsers offer no clipboard to a page that came over plain http from another machine.
function copyBySelection(text) {
  const before = document.activeElement;
  const area = h("textarea", { class: "unseen", "aria-hidden": "true", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}

/** Gives bytes to the user as a file. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
