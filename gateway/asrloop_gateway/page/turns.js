// The choice what ends a turn.

const choice = document.getElementById("turns");

/** Return the fields of a start message that ask for it: none for a pause, which is the servers' default. */
export const turnFields = () => (choice.value ? { turn_detection: choice.value } : {});
