// File chooser, drag and drop, and the warning before leaving. Recording and uploads are in recording.js and files.js.

import { addFiles, filesAtWork } from "./files.js";
import { isRecording } from "./recording.js";

const chooser = document.getElementById("files");
chooser.addEventListener("change", () => {
  addFiles(chooser.files);
  chooser.value = ""; // so that the same file can be chosen again
});

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
let inside = 0; // dragenter and dragleave fire for every element that the pointer crosses

document.addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  inside += 1;
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!holdsFiles(event)) return;
  inside -= 1;
  if (inside <= 0) document.body.classList.remove("dropping");
});
document.addEventListener("dragover", (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dropping");
  addFiles(event.dataTransfer.files);
});

window.addEventListener("beforeunload", (event) => {
  if (isRecording() || filesAtWork()) event.preventDefault();
});
