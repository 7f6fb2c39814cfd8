#!/usr/bin/env node
// A crowd over long polling only, through a round-robin nginx to several workers: is any request ever
// told that its session is unknown, and is anything lost, doubled or reordered? Prints figures; exit 1
// when one of those is not 0.
//
//   node polling_crowd.mjs --sessions 1000 --seconds 30            a stated rate for a stated time
//   node polling_crowd.mjs --sessions 300 --messages 3000          so many, as fast as they are acked
//
// Wants some thousand descriptors (`ulimit -n`). Further: --rate MESSAGES_PER_S (20) --room SESSIONS_PER_ROOM (50) --workers N (4) --processes N (2).
// The sessions are stock clients, divided over several processes with kept-alive connections.

import { fork } from "node:child_process";
import { readdirSync } from "node:fs";
import http from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { io } from "socket.io-client";
import { Nginx } from "./lib/nginx.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const DEADLINE_MS = 180_000;
const IN_FLIGHT = 16; // unanswered messages of one process, with --messages
const ENTERING = 50; // handshakes under way, of one process

// What went wrong with a session, in the words of whoever answered.
const FAULTS = { unknown: "Session ID unknown", refused: "other refusals", dropped: "sessions dropped" };

// One process's share of the crowd.
class Share {
  constructor({ url, members, agent = new http.Agent({ keepAlive: true }) }) {
    this.faults = { unknown: 0, refused: 0, dropped: 0 };
    this.sent = 0;
    this.members = members.map(({ token, room }) => ({ room, heard: [], socket: this.client(url, token, agent) }));
    for (const member of this.members) member.socket.on("message", ({ seq, roomId }) => member.heard.push([seq, roomId]));
  }

  client(url, token, agent) {
    const socket = io(url, { transports: ["polling"], forceNew: true, autoConnect: false, reconnection: false, agent, auth: { token } });
    socket.on("connect_error", () => (this.faults.refused += 1));
    socket.on("disconnect", (reason) => (this.faults.dropped += reason === "io client disconnect" ? 0 : 1));
    socket.io.on("open", () => socket.io.engine.on("error", (error) => {
      const said = String(error.context?.responseText ?? error.message);
      this.faults[said.includes(FAULTS.unknown) ? "unknown" : "refused"] += 1;
    }));
    return socket;
  }

  async enter() {
    const all = [...this.members];
    const oneByOne = async () => {
      for (let member = all.pop(); member; member = all.pop()) {
        member.socket.connect();
        await until("a session is in", () => member.socket.connected, DEADLINE_MS);
      }
    };
    await Promise.all(Array.from({ length: ENTERING }, oneByOne));
  }

  async say(at) {
    const { socket, room } = this.members[at % this.members.length];
    const ack = await socket.timeout(DEADLINE_MS).emitWithAck("send_message", { roomId: room, content: `${at} 안녕 🎉` });
    if (ack.ok !== true) throw new Error(`not acked: ${JSON.stringify(ack)}`);
    this.sent += 1;
  }

  async chat({ messages, seconds, rate }) {
    if (messages) {
      let at = 0;
      const oneByOne = async () => {
        while (at < messages) await this.say(at++);
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, oneByOne));
      return;
    }
    // Each at its time, whether the one before is answered or not.
    const [acks, began] = [[], performance.now()];
    for (let at = 0; at < seconds * rate; at++) {
      await pause(Math.max(0, began + (at * 1_000) / rate - performance.now()));
      acks.push(this.say(at));
    }
    await Promise.all(acks);
  }

  // Everybody has as much as was said in their room, or more.
  hears(said) {
    return until("everybody has heard everything", () => this.members.every(({ heard, room }) => heard.length >= (said[room] ?? 0)), DEADLINE_MS)
      .catch(() => {}); // what is missing is counted
  }

  leave() {
    for (const { socket } of this.members) socket.disconnect();
  }
}

function share() {
  let mine;
  process.on("message", async ({ command, ...rest }) => {
    if (command === "leave") return mine.leave(), process.disconnect();
    if (command === "enter") mine = new Share(rest);
    if (command === "enter") await mine.enter();
    if (command === "chat") await mine.chat(rest);
    if (command === "hear") await mine.hears(rest.said);
    const heard = command === "hear" ? mine.members.map(({ heard, room }) => ({ room, heard })) : [];
    process.send({ done: command, sent: mine.sent, faults: mine.faults, heard });
  });
}

// Has a process do something; answers what it says when that is done.
function told(child, command, rest) {
  return new Promise((resolve, reject) => {
    child.once("message", resolve).once("exit", () => reject(new Error("a process of the crowd ended early")));
    child.send({ command, ...rest });
  });
}

// Memory and descriptors of the workers together.
function footprint(server) {
  const workers = server.processes("worker");
  const sum = (of) => workers.map(of).reduce((one, other) => one + other, 0);
  return { rss: sum((worker) => worker.rss_bytes), fds: sum((worker) => readdirSync(`/proc/${worker.pid}/fd`).length) };
}

// What the sessions heard against what the log says: by session, so that nobody can make up for another.
function judge(log, sessions) {
  const verdict = { delivered: 0, lost: 0, duplicated: 0, "out of order": 0, misdirected: 0 };
  const rooms = new Map();
  for (const { roomId, seq } of log) rooms.set(roomId, (rooms.get(roomId) ?? new Set()).add(seq));
  for (const { room, heard } of sessions) {
    const wanted = rooms.get(room) ?? new Set();
    const seen = new Set();
    let last = 0;
    for (const [seq, roomId] of heard) {
      verdict.delivered += 1;
      verdict.duplicated += seen.has(seq);
      verdict["out of order"] += seq < last;
      verdict.misdirected += roomId !== room || !wanted.has(seq);
      seen.add(seq);
      last = seq;
    }
    verdict.lost += [...wanted].filter((seq) => !seen.has(seq)).length;
  }
  return verdict;
}

async function crowd({ sessions, seconds, messages, rate, room, workers, processes }) {
  const server = await Server.start({ workers, extraArgs: ["--listen", "127.0.0.1:0"], tables: "[limits]\nmessages_per_second = 0\n" });
  const nginx = await Nginx.start(server.ports, { connections: 8 * sessions + 1_024, keepalive: 128, log: true });
  const children = Array.from({ length: processes }, () => fork(fileURLToPath(import.meta.url), ["--share"]));
  const all = (command, rest) => Promise.all(children.map((child, at) => told(child, command, rest(at))));
  try {
    const users = await newUsers(server, "crowd", sessions);
    const members = [];
    for (let at = 0; at < sessions; at += room) {
      const these = users.slice(at, at + room);
      const roomId = await newRoom(server, these, `room ${at}`);
      members.push(...these.map(({ token }) => ({ token, room: roomId })));
    }
    const idle = footprint(server);
    const part = (at) => members.filter((_, which) => which % processes === at);
    await all("enter", (at) => ({ url: nginx.url, members: part(at) }));
    const parked = footprint(server);
    const began = performance.now();
    await all("chat", (at) => ({ messages: messages && Math.floor((messages + at) / processes), seconds, rate: rate / processes }));
    const took = (performance.now() - began) / 1_000;
    const log = server.log();
    const said = {};
    for (const { roomId } of log) said[roomId] = (said[roomId] ?? 0) + 1;
    const told = await all("hear", () => ({ said }));
    const after = footprint(server);
    const total = (of) => told.map(of).reduce((one, other) => one + other, 0);
    const faults = Object.fromEntries(Object.entries(FAULTS).map(([kind, words]) => [words, total(({ faults }) => faults[kind])]));
    const verdict = judge(log, told.flatMap(({ heard }) => heard));
    const requests = nginx.answers();
    for (const child of children) child.send({ command: "leave" });
    const figures = {
      sessions, workers, "sent and acked": total(({ sent }) => sent), "in the log": log.length, ...verdict, ...faults,
      "requests answered by nginx": requests.all, "… other than 200": requests.others, "seconds of chat": Number(took.toFixed(1)),
      "workers idle, MiB / descriptors": `${(idle.rss / 2 ** 20).toFixed(1)} / ${idle.fds}`,
      "with all sessions waiting": `${(parked.rss / 2 ** 20).toFixed(1)} / ${parked.fds}`,
      "after the chat": `${(after.rss / 2 ** 20).toFixed(1)} / ${after.fds}`,
      "a waiting session, bytes / descriptors": `${Math.round((parked.rss - idle.rss) / sessions)} / ${((parked.fds - idle.fds) / sessions).toFixed(2)}`,
    };
    const wrong = ["lost", "duplicated", "out of order", "misdirected", ...Object.values(FAULTS), "… other than 200"].filter((name) => figures[name] !== 0);
    if (figures["sent and acked"] !== figures["in the log"]) wrong.push("in the log");
    return { figures, wrong };
  } finally {
    for (const child of children) child.kill();
    nginx.stop();
    await server.stop();
  }
}

if (process.argv.includes("--share")) share();
else {
  const names = { sessions: "1000", seconds: "30", messages: "0", rate: "20", room: "50", workers: "4", processes: "2" };
  const { values } = parseArgs({ options: Object.fromEntries(Object.entries(names).map(([name, value]) => [name, { type: "string", default: value }])) });
  const { figures, wrong } = await crowd(Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)])));
  for (const [name, value] of Object.entries(figures)) console.log(`${name.padEnd(40)} ${value}`);
  console.log(wrong.length === 0 ? "ok" : `wrong: ${wrong.join(", ")}`);
  process.exitCode = wrong.length === 0 ? 0 : 1;
}
