// Turn a message of the server, which may start in lower case and lack a full stop, into a sentence.

export const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "");
