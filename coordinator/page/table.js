// Tables that become cards on narrow screens. The roles are written out since a table with another `display` loses its own.

import { List, h, setText } from "./dom.js";

export class Table {
  /** `columns`: `{title, kind, show(cell, item), head}`; `kind` is a class (`number`, `wide`), `head` marks the row's header.
   *  A cell keeps its element, so `show` changes what is there. */
  constructor({ caption, columns, keyOf, empty }) {
    const titles = columns.map(({ title, kind }) => h("th", { scope: "col", role: "columnheader", class: kind }, title));
    const body = h("tbody", { role: "rowgroup" });
    this.empty = h("p", { class: "empty" }, empty ?? "");
    this.table = h("table", { role: "table", class: "rows" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...titles)),
      body);
    this.node = h("div", { class: "table" }, this.table, this.empty);
    this.list = new List(body, keyOf, () => this.row(columns));
    this.show([]);
  }

  row(columns) {
    const cells = columns.map(({ title, kind, head }) => h(head ? "th" : "td", {
      class: kind, role: head ? "rowheader" : "cell", scope: head ? "row" : null, data: { label: title },
    }));
    const node = h("tr", { role: "row" }, ...cells);
    const update = (item) => columns.forEach(({ show }, at) => {
      show(cells[at], item, node);
      // Cards leave out what there is nothing to say of.
      cells[at].toggleAttribute("data-none", cells[at].textContent === "–");
    });
    return { node, update };
  }

  show(items) {
    this.list.show(items);
    this.table.hidden = items.length === 0;
    this.empty.hidden = items.length > 0 || !this.empty.textContent;
  }
}

/** A cell's own child, made once. */
export function child(cell, make) {
  if (!cell.firstElementChild) cell.append(make());
  return cell.firstElementChild;
}

/** A word in a coloured box. */
export function showState(cell, state, title = null) {
  const badge = child(cell, () => h("span", { class: "badge" }));
  badge.dataset.state = state;
  setText(badge, state);
  if (title) badge.title = title;
  else badge.removeAttribute("title");
}
