// What the README tells a new user to type, in the order in which it stands there, on a fresh server.

import { strict as assert } from "node:assert";
import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const here = new URL(".", import.meta.url);
const readme = readFileSync(new URL("../../README.md", here), "utf8");

let server;

before(async () => {
  server = await Server.start();
});

after(() => server?.destroy());

// The code of one language under a heading, about this test's server.
function code(heading, language) {
  const section = readme.split(`\n## ${heading}\n`)[1].split("\n## ")[0];
  const blocks = [...section.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, "gs"))].map(([, block]) => block);
  assert.ok(blocks.length > 0, `${heading} has ${language}`);
  return blocks.map((block) => block.replaceAll("localhost:4000", `127.0.0.1:${server.port}`));
}

// What the shell prints and its exported variables; a command that fails, or an unset variable, fails the test.
async function shell(lines) {
  const script = `set -euo pipefail\n${lines}\necho; env`;
  return (await promisify(execFile)("bash", ["-c", script], { timeout: 60_000 })).stdout;
}

test("every command of the README does what it says", async () => {
  const [first, history] = code("Try it", "sh");
  const env = await shell(first);
  const [TOKEN, ROOM] = ["TOKEN", "ROOM"].map((name) => new RegExp(`^${name}=(.+)$`, "m").exec(env)[1]);

  const program = spawn("node", ["--input-type=module", "-"], { cwd: here, env: { ...process.env, TOKEN, ROOM } });
  let printed = "";
  program.stdout.on("data", (data) => (printed += data));
  program.stderr.on("data", (data) => (printed += data));
  program.stdin.end(code("Try it", "js")[0]);
  try {
    await until("the program has sent and heard", () => /on disk as 1/.test(printed) && /1 alice 안녕/.test(printed));
  } finally {
    program.kill();
  }

  const found = await shell(`TOKEN=${TOKEN} ROOM=${ROOM}\n${history}`);
  assert.equal(found.match(/"content":"안녕"/g)?.length, 2, `by history and by search: ${found}`);

  const signedIn = await shell(`TOKEN=${TOKEN}\n${code("Staying signed in, and not", "sh")[0]}`);
  assert.match(signedIn, /"expiresIn":30/);
  assert.match(signedIn, /Logged out everywhere/);

  const challenge = code("Live challenges", "sh")[0];
  const stream = /^curl -sN (\S+)/m.exec(challenge);
  const raced = await shell(`${challenge.replace(stream[0], "echo")}\necho "challenge $CHALLENGE"`);
  assert.match(raced, /"status":"WAITING"/);
  assert.match(raced, /"ticket":"[0-9a-f-]{36}","wsUrl":"ws:/);
  const id = /^challenge (\d+)$/m.exec(raced)[1];
  const watching = await fetch(`http://${stream[1].replace("$CHALLENGE", id)}`);
  assert.equal(watching.headers.get("content-type"), "text/event-stream");
  await watching.body.cancel();
});
