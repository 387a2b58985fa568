// Speakers of one transcript: each has a colour, and a name in a field of its own, where it can be changed.

const COLOURS = 8; // in style.css
const LONGEST_NAME = 60;

/** Return the number of a speaker, from 1 on, by its letters: A, B, ... Z, AA, ... */
export const numberOf = (letters) => [...letters].reduce((number, each) => 26 * number + each.charCodeAt(0) - 64, 0);

export class Speakers {
  /** `panel` gets the fields. `onRename(speaker, name)` is called for each change. */
  constructor(panel, onRename) {
    this.panel = panel;
    this.onRename = onRename;
    this.known = new Map(); // in order of appearance
  }

  /** Return the name and the colour of `speaker`, such as "A", who is new or known. */
  of(speaker) {
    if (!this.known.has(speaker)) this.#add(speaker);
    return this.known.get(speaker);
  }

  /** Return the name of a speaker, "" for none. */
  name(speaker) {
    return this.known.get(speaker)?.name ?? "";
  }

  #add(speaker) {
    const number = numberOf(speaker);
    const usual = `Speaker ${number}`;
    const colour = String((number - 1) % COLOURS);
    this.known.set(speaker, { name: usual, colour });
    const field = document.createElement("input");
    field.type = "text";
    field.value = usual;
    field.maxLength = LONGEST_NAME;
    field.autocomplete = "off";
    field.spellcheck = false;
    field.dataset.colour = colour;
    field.setAttribute("aria-label", `Name of speaker ${number}`);
    field.addEventListener("input", () => {
      const name = field.value.trim() || usual;
      this.known.get(speaker).name = name;
      this.onRename(speaker, name);
    });
    this.panel.append(field);
    this.panel.hidden = false;
  }
}
