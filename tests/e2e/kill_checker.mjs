// Kills real processes at random moments while 50 clients listen and 20 speak, then compares what
// every client was told with what is on disk. Exit code 1 if anything is lost, doubled, reordered
// or invented.
//
//   node kill_checker.mjs [--seed N] [--writer 20] [--worker 20] [--supervisor 5] [--keep]
//
// The clients are stock ones that reconnect by themselves. A sender repeats a message under the same
// clientId until it is acked. A receiver does nothing: Socket.IO's connection-state recovery has to bring
// it what it missed, so that over all its connections it hears everything once and in order.

import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { client } from "./lib/clients.mjs";
import { Ledger } from "./lib/ledger.mjs";
import { randomFrom, shuffled } from "./lib/random.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { alive, fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const RECEIVERS = 50;
const SENDERS = 20;
const ROOMS = 4;
const IN_FLIGHT_PER_SENDER = 3;
const ACK_TIMEOUT_MS = 5_000;
const DEADLINE_MS = 60_000;
// Refusals a sender is meant to get over by trying again.
const PASSING = new Set(["OVERLOADED", "STORAGE_FAILED", "STORAGE_FULL", "RATE_LIMITED"]);

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
const state = { sending: true, acks: 0, reconnects: 0, turnedAway: [], refused: [] };

console.log(`kill checker: --seed ${flags.seed}`);
const server = await Server.start({ port: await fixedPort(random), tables: "[limits]\nmessages_per_second = 0\n" });
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
  const users = await newUsers(server, "talker", RECEIVERS + SENDERS);
  const inRoom = (at) => (at < RECEIVERS ? [at % ROOMS, (at + 1) % ROOMS] : [at % ROOMS]);
  const rooms = [];
  for (let room = 0; room < ROOMS; room++)
    rooms.push(await newRoom(server, users.filter((_, at) => inRoom(at).includes(room)), `room ${room}`));

  const receivers = users.slice(0, RECEIVERS).map((user, at) => receive(user, inRoom(at).map((room) => rooms[room])));
  await until("all receivers are connected", () => receivers.every((r) => r.socket.connected), DEADLINE_MS);
  const senders = users.slice(RECEIVERS).map((user, at) => speak(user, rooms[inRoom(RECEIVERS + at)[0]]));

  await killAll();
  state.sending = false;
  await Promise.all(senders.map((sender) => sender.done));
  await until("every receiver has everything", () => receivers.every((r) => r.complete()), DEADLINE_MS)
    .catch((error) => console.error(error.message));
  for (const { socket } of [...receivers, ...senders]) socket.disconnect();
  await server.stop({ keep: true });
  return report();
}

function report() {
  console.log(server.verify().trim());
  const log = server.log();
  const verdict = ledger.judge(log);
  const sum = (count) => ledger.receivers.reduce((all, receiver) => all + count(receiver), 0);
  console.log(`${flags.writer} writer, ${flags.worker} worker, ${flags.supervisor} supervisor kills; ${log.length} stored, ` +
    `${ledger.acks.length} acked, ${sum((r) => r.seqs.length)} heard, ${state.reconnects} reconnects, ` +
    `${sum((r) => r.recovered)} of them recovered receivers`);
  console.log(`${verdict}, turned away ${state.turnedAway.length}, refused ${state.refused.length}`);
  if (!verdict.clean) console.log("examples:", verdict.examples);
  if (state.turnedAway.length) console.log("turned away:", [...new Set(state.turnedAway)]);
  if (state.refused.length) console.log("refused:", [...new Set(state.refused)]);
  return verdict.clean && !state.turnedAway.length && !state.refused.length && log.length > 0;
}

function stock(user) {
  const socket = client(server, {
    auth: { token: user.token }, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 500,
  });
  let before = false;
  socket.on("connect", () => {
    if (before) state.reconnects += 1;
    before = true;
  });
  // A client's own retries cover a transport that fails. Being turned away is another matter: stock
  // clients give up then, and nothing here gives a reason for it.
  socket.on("connect_error", (error) => {
    if (socket.active) return;
    state.turnedAway.push(error.message);
    setTimeout(() => socket.connect(), 100);
  });
  socket.on("disconnect", (reason) => {
    if (reason !== "io server disconnect") return;
    state.turnedAway.push(reason);
    setTimeout(() => socket.connect(), 100);
  });
  socket.connect();
  return socket;
}

function receive(user, rooms) {
  const book = ledger.receiver(rooms);
  const seen = new Set();
  const socket = stock(user);
  socket.on("connect", () => book.connected(socket.recovered === true));
  socket.on("message", (message) => {
    book.heard(message);
    seen.add(message.seq);
  });
  // Everything that was acked in its rooms has arrived.
  const complete = () => ledger.acks.every((ack) => {
    const { roomId } = ledger.sent.get(ack.key);
    return !rooms.includes(roomId) || seen.has(ack.seq);
  });
  return { socket, complete };
}

function speak(user, roomId) {
  const socket = stock(user);
  let count = 0;
  async function lane() {
    while (state.sending) {
      await sayUntilAcked(`${user.username}-${(count += 1)}`);
      await pause(20 + random() * 60);
    }
  }
  async function sayUntilAcked(clientId) {
    const content = `말 ${clientId} ${"x".repeat(Math.floor(random() * 200))}`;
    ledger.send(user.username, clientId, roomId, content);
    for (;;) {
      const ack = await socket.timeout(ACK_TIMEOUT_MS).emitWithAck("send_message", { roomId, content, clientId }).catch(() => null);
      if (ack?.ok) {
        ledger.ack(user.username, clientId, ack);
        state.acks += 1;
        return;
      }
      if (ack && !PASSING.has(ack.code)) state.refused.push(ack.code);
      await pause(20);
    }
  }
  return { socket, done: Promise.all(Array.from({ length: IN_FLIGHT_PER_SENDER }, lane)) };
}

async function killAll() {
  const times = (role) => Array(Number(flags[role])).fill(role);
  const plan = shuffled([...times("writer"), ...times("worker"), ...times("supervisor")], random);
  for (const role of plan) {
    const before = state.acks;
    const some = 20 + Math.floor(random() * 100);
    await until("traffic", () => state.acks >= before + some, DEADLINE_MS);
    await kill(role);
    await server.ready();
  }
  const before = state.acks;
  await until("traffic after the last kill", () => state.acks >= before + 100, DEADLINE_MS);
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
