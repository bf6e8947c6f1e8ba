// What a usual runner costs before its first request of a model: the agent process of the system that vteam follows, started
// as its runner starts it, against an endpoint that answers at once. Prints rows as our own benchmarks do.
//
//     node measure.mjs RUNS

import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const { name, version, bin } = JSON.parse(
  readFileSync(join(HERE, "node_modules/@anthropic-ai/claude-code/package.json"), "utf8"),
);
const COMMAND = join(HERE, "node_modules/@anthropic-ai/claude-code", bin.claude);
const PATIENCE_MS = 60_000;

const ANSWER = [
  { type: "message_start", message: { id: "m", type: "message", role: "assistant", model: "played", content: [], stop_reason: null, usage: { input_tokens: 1, output_tokens: 1 } } },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "done" } },
  { type: "content_block_stop", index: 0 },
  { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 1 } },
  { type: "message_stop" },
];

/** Resident KiB of a process and all below it. */
function resident(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  let kib = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim();
    for (const child of children ? children.split(" ") : []) kib += resident(child);
  }
  return kib;
}

function once() {
  return new Promise((resolve, reject) => {
    let begun, child;
    const server = createServer((request, response) => {
      request.resume();
      request.on("end", () => {
        if (!request.url.startsWith("/v1/messages") || request.url.includes("count_tokens")) {
          return response.writeHead(404).end();
        }
        resolve({ ms: performance.now() - begun, kib: resident(child.pid) });
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.end(ANSWER.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
        child.kill("SIGKILL");
        server.close();
      });
    });
    server.listen(0, "127.0.0.1", () => {
      const home = mkdtempSync(join(tmpdir(), "peer-"));
      const env = {
        PATH: process.env.PATH, HOME: home, ANTHROPIC_API_KEY: "none", DISABLE_AUTOUPDATER: "1",
        ANTHROPIC_BASE_URL: `http://127.0.0.1:${server.address().port}`,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      };
      begun = performance.now();
      child = spawn(process.execPath, [COMMAND, "-p", "say done"], { env, cwd: home, stdio: "ignore" });
    });
    setTimeout(() => reject(new Error("no request came")), PATIENCE_MS).unref();
  });
}

const runs = [];
for (let run = 0; run < Number(process.argv[2] ?? 10); run++) runs.push(await once());
const sorted = (pick) => runs.map(pick).sort((a, b) => a - b);
const [times, memory] = [sorted((run) => run.ms), sorted((run) => run.kib / 1024)];
const show = (values, unit) => `${values[values.length >> 1].toFixed(1)}${unit} | ${values.at(-1).toFixed(1)}${unit}`;
console.log(`row | peer, ${name} ${version}: process start to first model request | ${show(times, "ms")} |`);
console.log(`row | peer, ${name} ${version}: resident at its first model request | ${show(memory, " MiB")} |`);
process.exit(0);
