// Small helpers to build the page and to speak to the person in front of it.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

let before = null; // had the focus when the notice came

export function notice(error) {
  if (!$("notice").contains(document.activeElement)) before = document.activeElement;
  $("notice").hidden = false;
  $("notice").querySelector("p").textContent = error?.message ?? String(error);
}

// What the key may not see says so where it would stand; any other failure is told to the person at once.
export function missing(error, place) {
  if (error.code === "missing_permissions") {
    place.textContent = error.message;
    return;
  }
  if (!place.firstElementChild) place.textContent = "Not loaded.";
  notice(error);
}

export function quiet() {
  $("notice").hidden = true;
}

// A button that disappears takes the focus with it.
export function dismiss() {
  before?.focus({ preventScroll: true });
  if ($("notice").contains(document.activeElement)) $("main").focus({ preventScroll: true });
  quiet();
}

export function status(text) {
  $("status").textContent = text;
}

// Clicks that come while `work` is at it count for nothing. The button stays enabled, as a disabled one loses the focus.
async function once(button, work) {
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true";
  quiet(); // What stands there is about an earlier click.
  try {
    await work();
  } catch (error) {
    notice(error);
  }
  button.ariaDisabled = null;
}

export const onClick = (button, work) => button.addEventListener("click", () => once(button, work));

export function onSubmit(form, work) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    once(form.querySelector("[type=submit]"), work);
  });
}

const controls = (line) => [...line.querySelectorAll("button, input, audio")];
const lineInUse = (list) => list.querySelector(":scope > :focus-within");

// Draws a list anew. Whoever is in it with the keyboard stays there, also where the line is gone by now.
export function redraw(list, lines) {
  const line = lineInUse(list);
  const control = document.activeElement;
  const place = [...list.children].indexOf(line);
  list.replaceChildren(...lines);
  if (!line || !lines.length) return;
  const now = lines.find(({ dataset }) => dataset.id === line.dataset.id) ?? lines[Math.min(place, lines.length - 1)];
  const same = controls(now).find(({ tagName, ariaLabel }) => tagName === control.tagName && ariaLabel === control.ariaLabel);
  (same ?? controls(now)[0]).focus({ preventScroll: true });
}

// Makes a list one stop of the Tab key, and lets the arrow keys go from line to line. Returns what chooses the line to
// stop at while none is in use.
export function roving(list) {
  const stopAt = (stop) => {
    for (const line of list.children) for (const control of controls(line)) control.tabIndex = line === stop ? 0 : -1;
  };
  list.addEventListener("focusin", ({ target }) => stopAt(target.closest("li")));
  list.addEventListener("keydown", (event) => {
    const line = event.target.closest("li");
    const to = { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling, Home: list.firstElementChild, End: list.lastElementChild }[event.key];
    if (!to || event.target.tagName === "AUDIO") return;
    event.preventDefault();
    (controls(to)[controls(line).indexOf(event.target)] ?? controls(to)[0]).focus();
  });
  return (stop) => stopAt(lineInUse(list) ?? stop);
}

export const press = (button, on) => button.setAttribute("aria-pressed", String(on));
export const pressed = (button) => button.getAttribute("aria-pressed") === "true";

export function clock(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

export function showLevel(meter, peak) {
  const decibels = Math.max(-60, 20 * Math.log10(peak + 1e-9));
  meter.firstElementChild.style.width = `${((decibels + 60) / 60) * 100}%`;
  meter.setAttribute("aria-valuenow", Math.min(0, Math.round(decibels)));
  meter.classList.toggle("hot", decibels > -1);
}

export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
