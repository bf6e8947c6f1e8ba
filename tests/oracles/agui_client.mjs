// The official AG-UI client reads our streams: it checks every event's shape and order, and we check what it made of
// them. Needs VTEAM_URL and VTEAM_TOKEN of a server whose default model answers (a script will do).
import { EventType, HttpAgent, verifyEvents } from "@ag-ui/client";
import { EventSchema } from "@ag-ui/core/schemas";
import { from, lastValueFrom, toArray } from "rxjs";
import assert from "node:assert/strict";

const { VTEAM_URL, VTEAM_TOKEN } = process.env;
const headers = { authorization: `Bearer ${VTEAM_TOKEN}` };
const project = `${VTEAM_URL}/api/projects/default`;

async function api(method, path, body) {
  const init = { method, headers: { ...headers, "content-type": "application/json" } };
  if (body !== undefined) init.body = JSON.stringify(body);
  const answer = await fetch(`${project}${path}`, init);
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.status === 204 ? undefined : answer.json();
}

// Everything of one stream of server-sent events, until `last` says so. Cut after `cut` events, if given.
async function read(path, last, { after, cut } = {}) {
  const abort = new AbortController();
  const resumed = after === undefined ? {} : { "last-event-id": after };
  const answer = await fetch(`${project}${path}`, {
    headers: { ...headers, accept: "text/event-stream", ...resumed },
    signal: abort.signal,
  });
  assert.equal(answer.status, 200);
  const events = [];
  let buffer = "";
  let id = after;
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    buffer += chunk;
    const frames = buffer.split("\n\n");
    buffer = frames.pop();
    for (const frame of frames) {
      const field = (name) => frame.split("\n").filter((l) => l.startsWith(`${name}:`)).map((l) => l.slice(name.length + 1).trim()).join("");
      if (field("data") === "") continue;
      const event = JSON.parse(field("data"));
      events.push(event);
      if (field("id") !== "") id = field("id");
      const done = last(event);
      if (done || (cut !== undefined && events.length >= cut && field("id") !== "")) {
        abort.abort();
        return { events, id, done };
      }
    }
  }
  return { events, id, done: true };
}

async function verified(events) {
  for (const event of events) EventSchema.parse(event);
  return lastValueFrom(from(events).pipe(verifyEvents(), toArray()));
}

const ended = (event) => [EventType.RUN_FINISHED, EventType.RUN_ERROR].includes(event.type);
const text = (events) => events.filter((e) => e.type === EventType.TEXT_MESSAGE_CONTENT).map((e) => e.delta).join("");

// 1. A run through HttpAgent, with every approval granted through AG-UI's own interrupts.
const made = await api("POST", "/agentic-sessions", { interactive: true, permissionMode: "default" });
const session = `/agentic-sessions/${made.metadata.name}`;
const agent = new HttpAgent({ url: `${project}${session}/agui/run`, headers, threadId: made.metadata.uid });
agent.addMessage({ id: "first", role: "user", content: "Mend the failing test." });
let interrupts = [];
let finished;
let failed;
const subscriber = {
  onRunFinishedEvent: ({ event }) => {
    finished = event;
    interrupts = event.outcome?.type === "interrupt" ? event.outcome.interrupts : [];
  },
  onRunErrorEvent: ({ event }) => {
    failed = event;
  },
};
for (let round = 0; ; round++) {
  assert.ok(round < 20, "the run asks for ever");
  finished = failed = undefined;
  const resume = interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload: { decision: "once" } }));
  await agent.runAgent(resume.length > 0 ? { resume } : {}, subscriber);
  // The client accepts a stream without an end; we do not.
  assert.ok(finished ?? failed, "the stream has no end");
  if (interrupts.length === 0) break;
}
const roles = agent.messages.map((message) => message.role);
assert.ok(failed !== undefined || roles.includes("assistant"), `no answer among ${roles}`);

// 2. The whole of it again as a watcher, and the same cut anywhere and taken up again.
const watched = await read(`${session}/agui/events`, ended);
await verified(watched.events);
assert.equal(watched.events[0].type, EventType.RUN_STARTED);
for (let cut = 1; cut < watched.events.length; cut += 3) {
  const first = await read(`${session}/agui/events`, ended, { cut });
  if (first.done) continue;
  const rest = await read(`${session}/agui/events`, ended, { after: first.id });
  await verified(rest.events);
  assert.equal(text(first.events) + text(rest.events), text(watched.events), `cut after ${cut}`);
}

await api("DELETE", session);
console.log(`@ag-ui/client: ${watched.events.length} events verified, messages: ${roles.join(" ")}`);
