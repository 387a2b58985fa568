// The field for names and words that the user expects.

const field = document.getElementById("terms");

/** Return them as a list. The server says what is wrong with them. */
export const keyTerms = () => field.value.split(/[,;\n]/).map((term) => term.trim()).filter(Boolean);
