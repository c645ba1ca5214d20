// Every shortcut in one list, and the dialogue that shows it. Shortcuts hear only what is typed inside the explorer.
import { button, element, uniqueId } from "./elements.js";

/** Keys that move in a grid; they are `panel.js`'s and `editing.js`'s, and listed here for the dialogue. */
const GRID_KEYS = [
  ["Arrow keys", "move from cell to cell"],
  ["Home, End", "first and last cell of the row; with Ctrl, of the plane"],
  ["Page Up, Page Down", "the same cell of the channel before or after"],
  ["Enter", "pin the cell (again: unpin)"],
  ["0\u20139, \u2212, F2", "type a new number (input, kernel, bias, dY)"],
  ["Space", "paint the cell, while painting is on"],
  ["Escape", "leave the field, unpin, or step back from the arithmetic"],
];

/**
 * @param {Object} actions by key: {key: [words, function]}
 * @returns {{listen: function(HTMLElement): void, dialog: HTMLElement, show: function(): void}}
 */
export function createKeyboard(actions) {
  const title = uniqueId("keys");
  const list = (rows) =>
    element(
      "dl",
      { class: "keys" },
      ...rows.flatMap(([keys, words]) => [
        element("dt", {}, element("kbd", { text: keys })),
        element("dd", { text: words }),
      ]),
    );
  const dialog = element("dialog", { class: "keys-dialog", "aria-labelledby": title });
  const close = button("Close", () => dialog.close(), { class: "primary" });
  dialog.append(
    element("h2", { id: title, text: "Keys", tabindex: "-1", autofocus: true }), // or the focus, and the list, begin at Close
    element("h3", { text: "Anywhere in the explorer" }),
    list(Object.entries(actions).map(([key, [words]]) => [key, words])),
    element("h3", { text: "In a grid" }),
    list(GRID_KEYS),
    close,
  );

  function hear(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const { target } = event;
    const typing = target.closest("input, select, textarea, [contenteditable]");
    if (typing && !["range", "checkbox", "radio"].includes(typing.type)) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action[1]();
  }

  return { listen: (root) => root.addEventListener("keydown", hear), dialog, show: () => dialog.showModal() };
}
