// The key of a server that asks for one: a field that is shown after the server's first refusal. The key lives as long
// as the tab.

const NAME = "asrloop-key";
const form = document.getElementById("key-form");
const input = document.getElementById("key");
const note = document.getElementById("key-note");
let waiting = [];

export function currentKey() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** Show the field. Resolves when a key was entered. */
export function askForKey() {
  if (currentKey()) note.textContent = "The server did not accept this key. Enter another one.";
  form.hidden = false;
  input.focus();
  return new Promise((resolve) => waiting.push(resolve));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(NAME, input.value.trim());
  form.hidden = true;
  const told = waiting;
  waiting = [];
  for (const resolve of told) resolve();
});
