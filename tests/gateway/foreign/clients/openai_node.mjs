// Prints what OpenAI's package for Node hears, at once and by events. Arguments: the gateway's URL, a WAV file.
import fs from "node:fs"
import OpenAI from "openai"

const [url, path] = process.argv.slice(2)
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none" })
const ask = (options) =>
  client.audio.transcriptions.create({ file: fs.createReadStream(path), model: "whisper-1", ...options })

const whole = await ask({})
for await (const event of await ask({ stream: true }))
  if (event.type === "transcript.text.done" && event.text !== whole.text) throw new Error(event.text)
console.log(whole.text)
