// Processes that live and do nothing: found, replaced, and nobody is told that all is well meanwhile.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { connectOn } from "./lib/clients.mjs";
import { call, newRoom, newUsers } from "./lib/rest.mjs";
import { alive, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

// Whoever is on the stopped worker misses what the others say in many seconds, as fast as they can.
const TABLES = "[limits]\nmessages_per_second = 0\n[socketio]\nrecovery_messages = 1000000\n";

describe("a process that is stopped", () => {
  let server, users, roomId, sockets, talks;
  let stop = false;
  const acked = [];

  // Says one message after the other, each until it is acked, over whatever connection there is.
  async function talk(socket, who) {
    for (let at = 0; !stop; at++) {
      const message = { roomId, content: `${who} ${at}`, clientId: `${who} ${at}` };
      const ack = await until("an ack", async () => {
        const answer = await socket.timeout(10_000).emitWithAck("send_message", message);
        return answer.ok && answer;
      }, 90_000);
      acked.push({ seq: ack.seq, content: message.content });
    }
  }

  // Until some worker says so. Many are asked at once, since whoever meets the stopped worker itself waits.
  const ready = (status, reason) => until(`/ready is ${status}`, async () => {
    const asked = async () => {
      const { status: answered, body } = await call(server, "GET", "/ready");
      assert.ok(answered === status && (!reason || body.reason === reason));
      return true;
    };
    return Promise.race([Promise.any(Array.from({ length: 16 }, asked)), pause(1_000)]);
  }, 60_000);

  before(async () => {
    server = await Server.start({ top: 'hang_timeout = "8s"\n', tables: TABLES });
    await server.ready();
    users = await newUsers(server, "user", 4);
    roomId = await newRoom(server, users);
    const options = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
    sockets = [];
    for (const [at, user] of users.entries()) sockets.push(await connectOn(server, at % 2, user, options));
    talks = sockets.map(talk);
  });

  after(async () => {
    sockets?.forEach((socket) => socket.disconnect());
    await server?.stop();
  });

  for (const [role, id, reason] of [["storage", 0, "storage does not answer"], ["worker", 1, "worker 1 does not answer"]]) {
    it(`${role} is replaced, and /ready tells the truth`, async () => {
      const { pid } = server.processes(role)[id];
      const count = acked.length;
      process.kill(pid, "SIGSTOP");
      await ready(503, reason);
      assert.equal(server.status().reason, reason);
      assert.equal(alive(pid), true, "it was doubted before it was killed");
      await until("its successor", () => {
        const now = server.processes(role)[id];
        return now.pid > 0 && now.pid !== pid && now.ready && now.hangs === 1 && now.restarts === 1;
      }, 60_000);
      await ready(200);
      await until("messages go on", () => acked.length > count + 100, 60_000);
    });
  }

  it("took nothing acked with it, and nobody missed anything", async () => {
    stop = true;
    await Promise.all(talks);
    const log = new Map(server.log().map((message) => [message.seq, message.content]));
    for (const { seq, content } of acked) assert.equal(log.get(seq), content);
    assert.equal(new Set(log.values()).size, log.size, "stored twice");
    for (const socket of sockets) {
      await until("all is heard", () => socket.heard.length >= log.size, 60_000);
      assert.deepEqual(socket.heard.map((m) => m.seq), [...log.keys()]);
    }
    assert.match(server.verify(), /^clean/);
    assert.deepEqual(server.processes("worker").map((p) => p.hangs), [0, 1]);
    console.log(`${acked.length} messages acked beside a stopped writer and a stopped worker: 0 lost, 0 repeated`);
  });
});
