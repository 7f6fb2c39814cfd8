// Stock clients that reconnect by themselves, some of which speak. A sender repeats a message under the same
// clientId until it is acked. A receiver does nothing: Socket.IO's connection-state recovery has to bring it
// what it missed, so that over all its connections it hears everything once and in order.

import { setTimeout as pause } from "node:timers/promises";
import { client } from "./clients.mjs";
import { newRoom, newUsers } from "./rest.mjs";
import { until } from "./wait.mjs";

const IN_FLIGHT_PER_SENDER = 3;
const ACK_TIMEOUT_MS = 5_000;
const DEADLINE_MS = 60_000;
// Refusals a sender is meant to get over by trying again.
const PASSING = new Set(["OVERLOADED", "STORAGE_FAILED", "STORAGE_FULL", "RATE_LIMITED"]);

export class Crowd {
  // `options(at)` are those of the client with that number; `pauseMs` is between two messages of a lane.
  constructor(server, ledger, random, { options = () => ({}), pauseMs = 60 } = {}) {
    Object.assign(this, { server, ledger, random, options, pauseMs });
    Object.assign(this, { sending: true, acks: 0, latencies: [], turnedAway: [], refused: [], failures: [], returns: [] });
  }

  // Users, `rooms` rooms, and a client each: the first `receivers` listen in two rooms, the others speak in one.
  async gather({ receivers, senders, rooms }) {
    const users = await newUsers(this.server, "talker", receivers + senders);
    const inRoom = (at) => (at < receivers ? [at % rooms, (at + 1) % rooms] : [at % rooms]);
    const ids = [];
    for (let room = 0; room < rooms; room++)
      ids.push(await newRoom(this.server, users.filter((_, at) => inRoom(at).includes(room)), `room ${room}`));
    this.receivers = users.slice(0, receivers).map((user, at) => this.#receive(user, at, inRoom(at).map((room) => ids[room])));
    await until("all receivers are connected", () => this.receivers.every((r) => r.socket.connected), 2 * DEADLINE_MS);
    this.senders = users.slice(receivers).map((user, at) => this.#speak(user, receivers + at, ids[inRoom(receivers + at)[0]]));
  }

  // Nobody speaks any more, everybody is given the time to hear the rest, and all leave.
  async disperse() {
    this.sending = false;
    await Promise.all(this.senders.map((sender) => sender.done));
    await until("every receiver has everything", () => this.receivers.every((r) => r.complete()), DEADLINE_MS)
      .catch((error) => console.error(error.message));
    for (const { socket } of [...this.receivers, ...this.senders]) socket.disconnect();
  }

  // Waits for so many more acks.
  async traffic(what, acks) {
    const before = this.acks;
    await until(what, () => this.acks >= before + acks, DEADLINE_MS);
  }

  get reconnects() {
    return this.returns.length;
  }

  #stock(user, at) {
    const socket = client(this.server, {
      auth: { token: user.token }, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 500, ...this.options(at),
    });
    let before = false;
    socket.on("connect", () => {
      if (before) this.returns.push(Date.now());
      before = true;
    });
    // A client's own retries cover a transport that fails. Being turned away is another matter: stock
    // clients give up then, and nothing here gives a reason for it.
    socket.on("connect_error", (error) => {
      if (socket.active) return void this.failures.push(error.message);
      this.turnedAway.push(error.message);
      setTimeout(() => socket.connect(), 100);
    });
    socket.on("disconnect", (reason) => {
      if (reason !== "io server disconnect") return;
      this.turnedAway.push(reason);
      setTimeout(() => socket.connect(), 100);
    });
    socket.connect();
    return socket;
  }

  #receive(user, at, rooms) {
    const book = this.ledger.receiver(rooms);
    const seen = new Set();
    const socket = this.#stock(user, at);
    socket.on("connect", () => book.connected(socket.recovered === true));
    socket.on("message", (message) => {
      book.heard(message);
      seen.add(message.seq);
    });
    // Everything that was acked in its rooms has arrived.
    const complete = () => this.ledger.acks.every((ack) => {
      const { roomId } = this.ledger.sent.get(ack.key);
      return !rooms.includes(roomId) || seen.has(ack.seq);
    });
    return { socket, complete };
  }

  #speak(user, at, roomId) {
    const socket = this.#stock(user, at);
    let count = 0;
    const lane = async () => {
      while (this.sending) {
        await this.#sayUntilAcked(socket, user, roomId, `${user.username}-${(count += 1)}`);
        await pause(this.pauseMs / 3 + this.random() * this.pauseMs);
      }
    };
    return { socket, done: Promise.all(Array.from({ length: IN_FLIGHT_PER_SENDER }, lane)) };
  }

  async #sayUntilAcked(socket, user, roomId, clientId) {
    const content = `말 ${clientId} ${"x".repeat(Math.floor(this.random() * 200))}`;
    this.ledger.send(user.username, clientId, roomId, content);
    const begun = performance.now();
    for (;;) {
      const ack = await socket.timeout(ACK_TIMEOUT_MS).emitWithAck("send_message", { roomId, content, clientId }).catch(() => null);
      if (ack?.ok) {
        this.ledger.ack(user.username, clientId, ack);
        this.latencies.push(performance.now() - begun);
        this.acks += 1;
        return;
      }
      if (ack && !PASSING.has(ack.code)) this.refused.push(ack.code);
      await pause(20);
    }
  }
}
