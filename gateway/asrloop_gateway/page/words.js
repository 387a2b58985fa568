// Words of a transcript: where they stand in its text, and which one is being said. Knows nothing of the page.
// A word is { word, start, end, confidence }, with times in seconds.

const UNSURE = 0.6; // below this confidence

export const isUnsure = ({ confidence }) => typeof confidence === "number" && confidence < UNSURE;

/**
 * Find words in `text`, from `words[first]` on, in order. Returns `parts`, which joined are the text and each a string or a
 * word, and `next`, the first word behind them.
 */
export function split(text, words, first = 0) {
  const parts = [];
  let at = 0;
  let next = first;
  for (; next < words.length; next++) {
    const found = text.indexOf(words[next].word, at);
    if (found < 0) break; // it belongs to the next text
    if (found > at) parts.push(text.slice(at, found));
    parts.push(words[next]);
    at = found + words[next].word.length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return { parts, next };
}

/** Return the word of `words`, in order, that is said at `seconds`, or undefined in a pause. */
export function saidAt(words, seconds) {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= seconds) low = middle + 1;
    else high = middle;
  }
  const word = words[low - 1];
  return word && seconds < word.end ? word : undefined;
}
