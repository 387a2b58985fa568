// The choice whether files tell who spoke.

const choice = document.getElementById("who");

/** Return the fields of an upload that ask for it: none where nobody wants to know. */
export const speakerFields = () => (choice.value ? { diarize: choice.value } : {});
