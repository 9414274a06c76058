// A table that is sorted by its columns' titles, filtered, and cut into pages: whatever there is to show, the document
// holds at most one page of it. Rows keep their elements, so that focus and selection survive the updates.

import { element, number, say } from "./words.js";

export class Table {
  /**
   * @param place where the table goes.
   * @param columns {title, value(row) for sorting, show(cell, row), first: -1 when the largest comes first}, and of how it
   *   looks: right, clip: takes the room there is, solid: never wraps, level: l2 and l3 are left out where it is narrow.
   * @param options {caption, page: rows at a time, sort: the column's index, text(row) for the filter, nothing: said
   *   when there are no rows, of(row): the row's class, last(row): whether it goes behind all others}.
   */
  constructor(place, columns, options) {
    this.columns = columns;
    this.options = options;
    this.rows = [];
    this.query = "";
    this.page = 0;
    this.sorted = options.sort;
    this.direction = columns[options.sort].first ?? 1;
    this.elements = new Map();
    this.body = element("tbody");
    this.headings = columns.map((column, index) => {
      const button = element("button", { type: "button", textContent: column.title });
      button.addEventListener("click", () => this.sort(index));
      return element("th", { scope: "col", class: classes(column) }, button);
    });
    this.nothing = element("p", { class: "nothing", textContent: options.nothing });
    this.back = element("button", { type: "button", textContent: "‹", ariaLabel: "Page before" });
    this.next = element("button", { type: "button", textContent: "›", ariaLabel: "Next page" });
    this.where = element("span");
    this.back.addEventListener("click", () => this.turn(-1));
    this.next.addEventListener("click", () => this.turn(1));
    this.pager = element("div", { class: "pager" }, this.where, this.back, this.next);
    const caption = element("caption", { class: "hidden", textContent: options.caption });
    const table = element("table", {}, caption, element("thead", {}, element("tr", {}, ...this.headings)), this.body);
    place.append(table, this.nothing, this.pager);
  }

  /** Rows have an `id`; everything else is for the columns. */
  show(rows) {
    this.rows = rows;
    this.draw();
  }

  filter(query) {
    this.query = query.trim().toLowerCase();
    this.page = 0;
    this.draw();
  }

  sort(index) {
    this.direction = index === this.sorted ? -this.direction : (this.columns[index].first ?? 1);
    this.sorted = index;
    this.page = 0;
    this.draw();
  }

  turn(pages) {
    this.page += pages;
    this.draw();
  }

  draw() {
    const { page: length, text, last } = this.options;
    const found = this.query ? this.rows.filter((row) => text(row).toLowerCase().includes(this.query)) : this.rows;
    const value = this.columns[this.sorted].value;
    const ordered = [...found].sort(
      (a, b) =>
        (last?.(a) ?? 0) - (last?.(b) ?? 0) || this.direction * compare(value(a), value(b)) || compare(a.id, b.id),
    );
    const pages = Math.max(1, Math.ceil(ordered.length / length));
    this.page = Math.max(0, Math.min(this.page, pages - 1));
    this.place(ordered.slice(this.page * length, (this.page + 1) * length));
    this.headings.forEach((heading, index) => {
      if (index !== this.sorted) heading.removeAttribute("aria-sort");
      else heading.setAttribute("aria-sort", this.direction > 0 ? "ascending" : "descending");
    });
    this.nothing.hidden = ordered.length > 0;
    say(this.nothing, this.rows.length ? "Nothing of that kind" : this.options.nothing);
    this.pager.hidden = pages === 1;
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
    const first = this.page * length;
    say(
      this.where,
      `${number(first + 1)} to ${number(Math.min(first + length, ordered.length))} of ${number(ordered.length)}`,
    );
  }

  place(rows) {
    const kept = new Set(rows.map((row) => row.id));
    const focused = document.activeElement;
    for (const [id, line] of this.elements) {
      if (!kept.has(id)) {
        line.remove();
        this.elements.delete(id);
      }
    }
    rows.forEach((row, index) => {
      let line = this.elements.get(row.id);
      if (!line) {
        line = element("tr", {}, ...this.columns.map((column) => element("td", { class: classes(column) })));
        this.elements.set(row.id, line);
      }
      const name = this.options.of?.(row) ?? "";
      if (line.className !== name) line.className = name;
      this.columns.forEach((column, at) => column.show(line.cells[at], row));
      if (this.body.rows[index] !== line) this.body.insertBefore(line, this.body.rows[index] ?? null);
    });
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
  }
}

const classes = (column) =>
  [column.right ? "right" : "", column.clip ? "clip" : "", column.solid ? "solid" : "", column.level ?? ""]
    .join(" ")
    .trim();

// What is not known goes last, whichever way the rest is sorted.
function compare(a, b) {
  if (a == null || b == null) return (a == null) - (b == null);
  return a < b ? -1 : a > b ? 1 : 0;
}
