// Reloads and upgrades a server in a row under chatting clients, some of them over long polling, while a
// prober opens one connection after another. Exit code 1 if anything is lost, doubled, reordered or
// invented, if one connection is refused or broken, if clients come back all at once, or if /ready says
// anything but the truth: ready, and while an upgrade replaces the storage writer that this is not up.
//
//   node reload_checker.mjs [--seed N] [--receivers 80] [--senders 20] [--rooms 4] [--reloads 3]
//                           [--upgrades 2] [--drain 4] [--pause 60] [--kills] [--keep]
//
// --kills also kills -9 a new worker while the old one leaves, and the storage writer in the middle.

import http from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Crowd } from "./lib/crowd.mjs";
import { Ledger } from "./lib/ledger.mjs";
import { randomFrom } from "./lib/random.mjs";
import { fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const DEADLINE_MS = 180_000;
const PROBERS = 4;
const BARS = 10;

const { values: flags } = parseArgs({
  options: {
    seed: { type: "string", default: `${Math.floor(Math.random() * 2 ** 32)}` },
    receivers: { type: "string", default: "80" },
    senders: { type: "string", default: "20" },
    rooms: { type: "string", default: "4" },
    reloads: { type: "string", default: "3" },
    upgrades: { type: "string", default: "2" },
    drain: { type: "string", default: "4" },
    pause: { type: "string", default: "60" },
    kills: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});
const number = (name) => Number(flags[name]);
const random = randomFrom(number("seed"));
const ledger = new Ledger();
const probes = { sent: 0, failed: [] };
// What /ready said during each kind of change.
const readiness = { reload: new Set(), upgrade: new Set() };
const latencies = { before: [], during: [] };

console.log(`reload checker: --seed ${flags.seed}`);
const server = await Server.start({
  port: await fixedPort(random), top: `drain_timeout = "${flags.drain}s"`, tables: "[limits]\nmessages_per_second = 0\n",
});
// Every fifth client stays with long polling.
const options = (at) => (at % 5 === 4 ? { transports: ["polling"] } : {});
const crowd = new Crowd(server, ledger, random, { options, pauseMs: number("pause") });
let failed = true;
let kindOfChange;
try {
  failed = !(await run());
} catch (error) {
  console.error(error);
}
if (failed) console.error(server.stderr.slice(-20_000));
if (flags.keep) console.log(`kept: ${server.dataDir}`);
if (flags.keep && server.child) await server.stop({ keep: true });
if (!flags.keep) server.destroy();
process.exit(failed ? 1 : 0);

async function run() {
  await crowd.gather({ receivers: number("receivers"), senders: number("senders"), rooms: number("rooms") });
  const probing = Array.from({ length: PROBERS }, probe);
  await crowd.traffic("traffic before", 500);
  latencies.before = crowd.latencies.splice(0);
  const spread = [];
  const plan = [...Array(number("reloads")).fill("reload"), ...Array(number("upgrades")).fill("upgrade")];
  for (const kind of plan) spread.push(await change(kind));
  latencies.during = crowd.latencies.splice(0);
  await crowd.traffic("traffic after", 200);
  crowd.probing = false;
  await crowd.disperse();
  await Promise.all(probing);
  await server.stop({ keep: true });
  return report(spread);
}

// One change, and when within it the clients came back.
async function change(kind) {
  const begun = Date.now();
  kindOfChange = kind;
  const pid = server.child.pid;
  const number = server.status().change.number;
  process.kill(pid, kind === "reload" ? "SIGHUP" : "SIGUSR2");
  const last = await until(`the ${kind}`, () => {
    const { change } = server.status();
    return change.number > number && change.state !== "running" && change;
  }, DEADLINE_MS);
  if (last.state !== "done" || last.kind !== kind) throw new Error(JSON.stringify(last));
  const taken = Date.now() - begun;
  if (flags.kills) await kills();
  await until("the old ones have gone", () => !server.status().processes.some((p) => p.leaving), DEADLINE_MS);
  const whole = Date.now() - begun;
  const times = crowd.returns.filter((at) => at >= begun).map((at) => at - begun);
  console.log(`${kind}: done in ${taken} ms, the old ones gone after ${whole} ms; ${times.length} came back: ${bars(times)}`);
  return times;
}

async function kills() {
  const workers = server.processes("worker").filter((p) => !p.leaving && p.pid > 0);
  const victims = [workers[Math.floor(random() * workers.length)], server.processes("storage")[0]];
  for (const { pid } of victims) if (pid > 0) process.kill(pid, "SIGKILL");
}

// One connection after another, each for one request.
async function probe(_, at) {
  const path = at ? "/health" : "/ready";
  while (crowd.probing !== false) {
    probes.sent += 1;
    const during = kindOfChange;
    await new Promise((resolve) => {
      const request = http.get(`${server.url}${path}`, { agent: false }, (response) => {
        let text = "";
        if (path === "/health" && response.statusCode !== 200) probes.failed.push(response.statusCode);
        response.setEncoding("utf8").on("data", (piece) => (text += piece)).on("end", () => {
          if (path === "/ready" && during) readiness[during].add(JSON.parse(text).reason ?? "");
          resolve();
        });
      });
      request.on("error", (error) => resolve(probes.failed.push(error.code ?? error.message)));
    });
    await pause(5);
  }
}

// A change of the workers alone is noticed by nobody; whoever does not answer, on a busy machine, is named.
function isTruth(kind, reason) {
  return !reason || /^(storage|worker \d+) does not answer$/.test(reason) ||
    kind === "upgrade" && reason === "storage is not up";
}

function report(spread) {
  console.log(server.verify().trim());
  const log = server.log();
  const verdict = ledger.judge(log);
  const sum = (count) => ledger.receivers.reduce((all, receiver) => all + count(receiver), 0);
  const all = spread.flat();
  console.log(`${flags.reloads} reloads, ${flags.upgrades} upgrades; ${log.length} stored, ${ledger.acks.length} acked, ` +
    `${sum((r) => r.seqs.length)} heard, ${crowd.reconnects} reconnects, ${sum((r) => r.recovered)} of them recovered receivers`);
  console.log(`${probes.sent} probes, failed ${probes.failed.length}; connection attempts of clients failed ${crowd.failures.length}`);
  console.log(`${verdict}, turned away ${crowd.turnedAway.length}, refused ${crowd.refused.length}`);
  console.log(`acks: p50/p99 ${quantiles(latencies.before)} ms before, ${quantiles(latencies.during)} ms during`);
  console.log(`came back, by tenth of the drain time and the rest: ${bars(all)}`);
  const untrue = Object.entries(readiness).flatMap(([kind, reasons]) => [...reasons].filter((reason) => !isTruth(kind, reason)));
  for (const [what, list] of Object.entries({ probes: probes.failed, failures: crowd.failures, refused: crowd.refused, turned: crowd.turnedAway, untrue }))
    if (list.length) console.log(`${what}:`, [...new Set(list)]);
  if (!verdict.clean) console.log("examples:", verdict.examples);
  // A kill breaks connections, and brings back a crowd at once; a change may do neither.
  const quiet = flags.kills || (!untrue.length && !probes.failed.length && !crowd.failures.length && isSpread(all));
  return verdict.clean && quiet && !crowd.turnedAway.length && !crowd.refused.length && log.length > 0;
}

// How many fell into each tenth of the drain time, and behind it.
function tenths(times) {
  const counts = Array(BARS + 1).fill(0);
  for (const time of times) counts[Math.min(BARS, Math.floor((time * BARS) / (number("drain") * 1000)))] += 1;
  return counts;
}

function bars(times) {
  return tenths(times).join(" ");
}

// No tenth has half of them: told all at once, they would be in one.
function isSpread(times) {
  return times.length > 0 && Math.max(...tenths(times)) < times.length / 2;
}

function quantiles(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(1);
  return `${at(0.5)}/${at(0.99)}`;
}
