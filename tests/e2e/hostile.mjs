// Well-behaved stock clients chat over two workers, first alone, then beside one process of each kind of
// attacker. Theirs must all arrive, once and in order; no process may grow past what the limits allow.
// Says what the attackers did, how large every process was from second to second, and how long messages
// took with and without them. Exit code 1 if anything is wrong.
//
//   node hostile.mjs [--seconds 60] [--clients 200] [--rate 100] [--nice 19] [--only 'connects,pings']
//
// On few cores the attackers take processor time from the server and from those who measure. With --nice 19
// they get what is left, and the times show what the server itself makes of them.

import { execFile, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { connect } from "./lib/clients.mjs";
import { CONNECTIONS, KINDS } from "./lib/attacker.mjs";
import { Ledger } from "./lib/ledger.mjs";
import { newRoom, newUsers, ok } from "./lib/rest.mjs";
import { binary, Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

const ROOM_SIZE = 20;
const MIB = 1 << 20;
// Of the server under attack. What they allow together bounds the memory of a worker.
const LIMITS = {
  connections_per_worker: 2_000,
  outgoing_bytes_per_connection: 256 << 10,
  handshake_timeout: "5s",
  body_bytes: 10 * MIB,
  body_bytes_per_worker: 64 * MIB,
};
const MAX_PAYLOAD = 100_000;
// What a process needs without any client, generously; and for each connection beside its buffers: what
// HTTP and the parsing of a packet take.
const PROCESS_BYTES = 128 * MIB;
const CONNECTION_BYTES = 64 << 10;

const ATTACKER = path.join(path.dirname(fileURLToPath(import.meta.url)), "lib/attacker.mjs");
// Refusals that a sender is meant to get over by trying again.
const PASSING = new Set(["OVERLOADED", "RATE_LIMITED"]);

// The most that the limits let a process hold while so many attackers are at it.
export function bound(kinds = KINDS) {
  const perConnection = LIMITS.outgoing_bytes_per_connection + MAX_PAYLOAD + CONNECTION_BYTES;
  return PROCESS_BYTES + LIMITS.body_bytes_per_worker + kinds.length * CONNECTIONS * perConnection;
}

// Answers {verdict, disconnected, restarts, quiet, attacked, sizes, did, cpu}. `nice` is the attackers' own.
export async function siege({ seconds = 8, clients = 200, rate = 100, kinds = KINDS, nice = 0 } = {}) {
  const limits = Object.entries(LIMITS).map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`).join("");
  const server = await Server.start({ workers: 2, tables: `[limits]\n${limits}[socketio]\nmax_payload = ${MAX_PAYLOAD}\n` });
  const attackers = [];
  try {
    const users = await newUsers(server, "good", clients);
    const [mallory] = await newUsers(server, "mallory", 1);
    const rooms = [];
    for (let at = 0; at < clients; at += ROOM_SIZE) rooms.push(await newRoom(server, users.slice(at, at + ROOM_SIZE)));
    // The attacker is in a room with others, and hears it.
    await ok(server, "POST", `/api/chatrooms/${rooms[0]}/invite`, users[0].token, { participants: [mallory.username] });
    const chat = new Chat(server, users, rooms, rate);
    await chat.connect();
    const sizes = new Sizes(server);
    const quiet = await chat.talk(Math.max(2, seconds / 3));
    for (const kind of kinds) {
      const argument = JSON.stringify({ port: server.port, token: mallory.token, roomId: rooms[0] });
      attackers.push(fork(ATTACKER, [kind, argument], { stdio: ["ignore", "ignore", "inherit", "ipc"] }));
      os.setPriority(attackers.at(-1).pid, nice);
    }
    await Promise.all(attackers.map((attacker) => next(attacker, "message", 60_000)));
    const own = server.status().processes.map((p) => p.pid);
    const before = cpuSeconds(own);
    const attacked = await chat.talk(seconds);
    const cpu = { server: cpuSeconds(own) - before, attackers: cpuSeconds(attackers.map((a) => a.pid)) };
    const did = await Promise.all(attackers.map(report));
    await chat.settle();
    const curves = await sizes.stop();
    const verdict = chat.ledger.judge(server.log().filter((m) => m.sender !== mallory.username));
    const restarts = server.status().processes.reduce((sum, p) => sum + p.restarts, 0);
    chat.close();
    await server.stop();
    return { verdict, disconnected: chat.disconnected, restarts, quiet, attacked, sizes: curves, did, cpu };
  } finally {
    attackers.forEach((attacker) => attacker.kill("SIGKILL"));
    server.destroy();
  }
}

// Processor time of processes, from Linux's `stat` (in hundredths of a second).
function cpuSeconds(pids) {
  const ticks = pids.map((pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, one) => sum + one, 0) / 100;
}

// What an attacker says that it did; its process ends.
async function report(attacker) {
  const said = next(attacker, "message", 60_000);
  attacker.send("stop");
  const [did] = await said;
  attacker.kill("SIGKILL");
  return did;
}

class Chat {
  constructor(server, users, rooms, rate) {
    Object.assign(this, { server, users, rooms, rate, ledger: new Ledger(), sent: new Map(), waits: [], disconnected: 0, number: 0, heard: 0, expected: 0 });
  }

  roomOf(at) {
    return this.rooms[Math.floor(at / ROOM_SIZE)];
  }

  async connect() {
    this.sockets = await Promise.all(this.users.map(async (user, at) => {
      const socket = await connect(this.server, user);
      const receiver = this.ledger.receiver([this.roomOf(at)]);
      receiver.connected(false);
      socket.removeAllListeners("message").on("message", (message) => {
        receiver.heard(message);
        this.heard += 1;
        this.waits.push(performance.now() - (this.sent.get(message.clientId) ?? performance.now()));
      });
      socket.on("disconnect", () => (this.disconnected += 1));
      return socket;
    }));
  }

  // Everybody talks in turn, at the intended times whatever happens; answers how long each message took
  // to each hearer, in milliseconds, sorted.
  async talk(seconds) {
    this.waits = [];
    const start = performance.now();
    const sending = [];
    for (let turn = 0; turn < seconds * this.rate; turn++) {
      const due = start + (turn * 1_000) / this.rate;
      while (performance.now() < due) await pause(Math.max(1, due - performance.now()));
      sending.push(this.say(this.number++ % this.sockets.length, due));
    }
    await Promise.all(sending);
    await this.settle();
    return this.waits.sort((a, b) => a - b);
  }

  async say(at, due) {
    const clientId = `m${this.number}`;
    const content = `${clientId} 안녕하세요`;
    this.ledger.send(this.users[at].username, clientId, this.roomOf(at), content);
    this.sent.set(clientId, due);
    for (;;) {
      const ack = await this.sockets[at].timeout(60_000).emitWithAck("send_message", { roomId: this.roomOf(at), content, clientId });
      if (ack.ok) {
        this.expected += Math.min(ROOM_SIZE, this.users.length);
        return this.ledger.ack(this.users[at].username, clientId, ack);
      }
      if (!PASSING.has(ack.code)) throw new Error(`refused: ${JSON.stringify(ack)}`);
      await pause(20);
    }
  }

  // Until everybody has heard everything, or that is not to be expected any more.
  settle() {
    return until("everything is heard", () => this.heard >= this.expected, 60_000).catch(() => {});
  }

  close() {
    this.sockets.forEach((socket) => socket.removeAllListeners().disconnect());
  }
}

// The resident memory of every process, second by second.
class Sizes {
  constructor(server) {
    this.curves = new Map();
    this.going = true;
    this.done = this.watch(["status", "--json", "--data-dir", server.dataDir]);
  }

  async watch(command) {
    while (this.going) {
      const { stdout } = await promisify(execFile)(binary, command);
      for (const { role, id, rss_bytes } of JSON.parse(stdout).processes) {
        const name = `${role} ${id ?? ""}`.trim();
        if (!this.curves.has(name)) this.curves.set(name, []);
        this.curves.get(name).push(rss_bytes);
      }
      await pause(1_000);
    }
  }

  async stop() {
    this.going = false;
    await this.done;
    return this.curves;
  }
}

export function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export function describeSiege({ verdict, disconnected, restarts, quiet, attacked, sizes, did, cpu }) {
  const times = (waits) => [0.5, 0.99, 0.999].map((share) => percentile(waits, share).toFixed(1)).join(" / ");
  const mib = (bytes) => Math.round(bytes / MIB);
  return [
    `attackers: ${did.map(({ kind, count }) => `${kind} ${count}`).join(", ")}`,
    ...[...sizes].map(([name, curve]) => `${name} MiB: ${curve.map(mib).join(" ")}`),
    `processor time while attacked: server ${cpu.server.toFixed(1)} s, attackers ${cpu.attackers.toFixed(1)} s, of ${os.availableParallelism()} cores`,
    `ms p50 / p99 / p99.9, alone: ${times(quiet)}; attacked: ${times(attacked)}`,
    `heard ${quiet.length + attacked.length}; disconnected ${disconnected}; restarts ${restarts}; ${verdict}`,
  ].join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values: flags } = parseArgs({
    options: {
      seconds: { type: "string", default: "60" },
      clients: { type: "string", default: "200" },
      rate: { type: "string", default: "100" },
      nice: { type: "string", default: "0" },
      only: { type: "string", default: KINDS.join(",") },
    },
  });
  const numbers = { seconds: Number(flags.seconds), clients: Number(flags.clients), rate: Number(flags.rate), nice: Number(flags.nice) };
  const result = await siege({ ...numbers, kinds: flags.only.split(",") });
  console.log(describeSiege(result));
  process.exit(result.verdict.clean && result.disconnected === 0 && result.restarts === 0 ? 0 : 1);
}
