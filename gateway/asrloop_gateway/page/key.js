// API key: the field is shown after the server's first refusal. The key is kept until the tab is closed.

const NAME = "asrloop-key";
const form = document.getElementById("key-form");
const input = document.getElementById("key");
const note = document.getElementById("key-note");
let waiting = [];

export function currentKey() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** Show the field. Resolves when a key is entered. */
export function askForKey() {
  if (currentKey()) note.textContent = "The server did not accept this API key. Enter another one.";
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
