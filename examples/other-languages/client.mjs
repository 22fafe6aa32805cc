// A client in JavaScript, from docs/protocol.md alone. Needs a running `gemflowd`.
//
//     npm install zeromq @msgpack/msgpack
//     node client.mjs ipc:///run/gemflow/gemflowd.sock
import { randomUUID } from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";
import { Request, Subscriber } from "zeromq";

const endpoint = process.argv[2] ?? process.env.GEMFLOW_ENDPOINT ?? "ipc:///run/gemflow/gemflowd.sock";
const socket = new Request({ linger: 0 });
socket.connect(endpoint);

let lastId = 0;
async function call(op, body = {}) {
  await socket.send(encode({ v: 1, id: ++lastId, op, body }));
  const [frame] = await socket.receive();
  const reply = decode(frame);
  if (!reply.ok) throw new Error(`${reply.error.code}: ${reply.error.message} ${reply.error.path ?? ""}`);
  return reply.body;
}

const hello = await call("hello", { client: "client.mjs" });
console.log(`gemflowd ${hello.version}, pid ${hello.pid}`);

// Events come on a socket of their own; what is published before it has connected is not seen.
const events = new Subscriber({ linger: 0 });
events.connect(hello.events);
events.subscribe("flow.");

const tasks = [
  { id: "a", type: "sleep", data: { seconds: 0.2 } },
  { id: "b", type: "echo", data: { text: "a slept {{ deps.a.seconds }} s" }, deps: ["a"] },
];
// The UUID is yours: if the reply gets lost, the same request may be sent again and is not stored twice.
const { flow } = await call("submit", { submission: randomUUID(), name: "from JavaScript", tasks });

for (let done = false; !done; ) ({ done } = await call("wait", { refs: [`f${flow}`], timeout: 30 }));
for (const line of (await call("results", { refs: [`f${flow}`] })).results) {
  console.log(line.id, line.ok ? line.result : line.error);
}
for await (const [topic, message] of events) {
  console.log(topic.toString(), decode(message).events.at(-1).flow);
  if (topic.toString() === "flow.succeeded") break;
}
events.close();
socket.close();
