// Kills real processes at random moments while 50 clients listen and 20 speak, then compares what
// every client was told with what is on disk. Exit code 1 if anything is lost, doubled, reordered
// or invented.
//
//   node kill_checker.mjs [--seed N] [--writer 20] [--worker 20] [--supervisor 5] [--keep]
//
// What the clients do is in lib/crowd.mjs.

import { parseArgs } from "node:util";
import { Crowd } from "./lib/crowd.mjs";
import { Ledger } from "./lib/ledger.mjs";
import { randomFrom, shuffled } from "./lib/random.mjs";
import { alive, fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const RECEIVERS = 50;
const SENDERS = 20;
const ROOMS = 4;
const DEADLINE_MS = 60_000;

const { values: flags } = parseArgs({
  options: {
    seed: { type: "string", default: `${Math.floor(Math.random() * 2 ** 32)}` },
    writer: { type: "string", default: "20" },
    worker: { type: "string", default: "20" },
    supervisor: { type: "string", default: "5" },
    keep: { type: "boolean", default: false },
  },
});
const random = randomFrom(Number(flags.seed));
const ledger = new Ledger();

console.log(`kill checker: --seed ${flags.seed}`);
const server = await Server.start({ port: await fixedPort(random), tables: "[limits]\nmessages_per_second = 0\n" });
const crowd = new Crowd(server, ledger, random);
let failed = true;
try {
  failed = !(await run());
} catch (error) {
  console.error(error);
  console.error(server.stderr.slice(-10_000));
}
if (flags.keep) console.log(`kept: ${server.dataDir}`);
if (flags.keep && server.child) await server.stop({ keep: true });
if (!flags.keep) server.destroy();
process.exit(failed ? 1 : 0);

async function run() {
  await crowd.gather({ receivers: RECEIVERS, senders: SENDERS, rooms: ROOMS });
  await killAll();
  await crowd.disperse();
  await server.stop({ keep: true });
  return report();
}

function report() {
  console.log(server.verify().trim());
  const log = server.log();
  const verdict = ledger.judge(log);
  const sum = (count) => ledger.receivers.reduce((all, receiver) => all + count(receiver), 0);
  console.log(`${flags.writer} writer, ${flags.worker} worker, ${flags.supervisor} supervisor kills; ${log.length} stored, ` +
    `${ledger.acks.length} acked, ${sum((r) => r.seqs.length)} heard, ${crowd.reconnects} reconnects, ` +
    `${sum((r) => r.recovered)} of them recovered receivers`);
  console.log(`${verdict}, turned away ${crowd.turnedAway.length}, refused ${crowd.refused.length}`);
  if (!verdict.clean) console.log("examples:", verdict.examples);
  if (crowd.turnedAway.length) console.log("turned away:", [...new Set(crowd.turnedAway)]);
  if (crowd.refused.length) console.log("refused:", [...new Set(crowd.refused)]);
  return verdict.clean && !crowd.turnedAway.length && !crowd.refused.length && log.length > 0;
}

async function killAll() {
  const times = (role) => Array(Number(flags[role])).fill(role);
  const plan = shuffled([...times("writer"), ...times("worker"), ...times("supervisor")], random);
  for (const role of plan) {
    await crowd.traffic("traffic", 20 + Math.floor(random() * 100));
    await kill(role);
    await server.ready();
  }
  await crowd.traffic("traffic after the last kill", 100);
}

async function kill(role) {
  if (role === "supervisor") {
    await server.killSupervisor();
    return server.serve();
  }
  const candidates = server.processes(role === "writer" ? "storage" : "worker");
  const { pid } = candidates[Math.floor(random() * candidates.length)];
  process.kill(pid, "SIGKILL");
  await until("the killed process is gone", () => !alive(pid), DEADLINE_MS);
}
