// Ten thousand WebSockets at once through the shipped nginx/minitalk.conf, and a reload of nginx while they chat.
// The load tester is the judge: it ends with an error if a connection breaks or a message is lost.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, it } from "node:test";
import { Nginx } from "./lib/nginx.mjs";
import { binary, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const CLIENTS = 10_000;
const DEADLINE_MS = 300_000;

// All come from one address, and without TLS, which would be the load tester's work more than nginx's.
const forOneAddress = (text) => text
  .replace(/ ssl http2|^ +ssl_.*$/gm, "")
  .replace(/rate=\d+r/g, "rate=60000r").replace(/burst=\d+/g, "burst=60000")
  .replace(/(limit_conn +minitalk_connections) \d+/, "$1 60000");

let server, nginx;

before(async () => {
  server = await Server.start();
  await server.ready();
  nginx = await Nginx.shipped(server.port, forOneAddress, { connections: 3 * CLIENTS });
});

after(async () => {
  nginx?.stop();
  await server?.stop();
});

const connections = async () => (await (await fetch(`${server.url}/api/stats`)).json()).totals.connections;

it(`${CLIENTS} WebSockets chat through nginx and do not notice that it is reloaded`, async () => {
  const words = ["bench", "quick", "--target", `127.0.0.1:${nginx.port}`, "--users", CLIENTS, "--rooms", CLIENTS / 10, "--connect-rate", 4_000,
    "--rate", 200, "--duration", "15s", "--threads", 1, "--fail-if", "lost>0", "--fail-if", "errors>0", "--json", "-"];
  const bench = spawn(binary, words.map(String), { stdio: ["ignore", "pipe", "pipe"] });
  let report = "", said = "";
  bench.stdout.setEncoding("utf8").on("data", (text) => (report += text));
  bench.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  let code;
  bench.on("close", (end) => (code = end));
  await until("all are connected", async () => code !== undefined || (await connections()) >= CLIENTS, DEADLINE_MS);
  await nginx.reload();
  assert.equal(code, undefined, `it ended too early: ${said}`);
  await until("the load is over", () => code !== undefined, DEADLINE_MS);
  assert.equal(code, 0, said);
  const { connections: { connected, failed, dropped, handshake_ms: handshake }, messages, correctness } = JSON.parse(report);
  assert.deepEqual([connected, failed, dropped], [CLIENTS, {}, {}]);
  assert.ok(messages.sent > 0);
  assert.equal(messages.acked, messages.sent);
  for (const fault of ["lost", "duplicated", "out_of_order", "foreign", "unanswered"]) assert.equal(correctness[fault], 0, fault);
  console.log(`${connected} WebSockets through nginx, reloaded meanwhile: 0 broken; ${messages.sent} messages, 0 lost; ` +
    `handshake p50/p99 ${handshake.p50}/${handshake.p99} ms`);
});
