// A task in JavaScript, for the task type `command`: no library, only pipes.
//
//     tasks:
//       - {id: texts, type: echo, data: {texts: ["one two", "two three"]}}
//       - {id: count, type: command, data: {args: [node, /path/to/worker.mjs]}, deps: [texts]}
//
// Standard input: JSON, here `{id: result, …}` of the task's dependencies. Standard error: the task's log, line by line.
// Standard output: JSON, the task's result. Exit code: 0 done, 65 the data is wrong (not tried again), 75 try again later.
import { readFileSync, writeFileSync } from "node:fs";

const TRY_AGAIN = 75;
const BAD_DATA = 65;

function end(code, words) {
  console.error(words);
  process.exit(code);
}

let input;
try {
  input = JSON.parse(readFileSync(0, "utf8"));
} catch (error) {
  end(BAD_DATA, `standard input is not JSON: ${error.message}`);
}
const texts = Object.values(input ?? {}).flatMap((result) => result?.texts ?? []);
if (texts.length === 0 || !texts.every((text) => typeof text === "string")) {
  end(BAD_DATA, "no dependency has `texts`, a list of strings");
}

// A cancel or timeout comes as SIGTERM, and SIGKILL some seconds later.
process.once("SIGTERM", () => end(TRY_AGAIN, "asked to stop"));

const counts = new Map();
for (const [index, text] of texts.entries()) {
  for (const word of text.toLowerCase().match(/\p{L}+/gu) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  console.error(`${index + 1} of ${texts.length} texts`);
  await new Promise(setImmediate); // lets a SIGTERM through
}

// It runs in the workspace of its flow: what it leaves here, the flow's other tasks find.
const rows = [...counts].map(([word, count]) => ({ word, count })).sort((a, b) => b.count - a.count);
writeFileSync("words.csv", `word,count\n${rows.map(({ word, count }) => `${word},${count}\n`).join("")}`);
console.log(JSON.stringify({ words: rows.length, file: "words.csv", key: process.env.GEMFLOW_IDEMPOTENCY_KEY }));
