// Upgrades that do not go as they should: clients lose time by them, and nothing that was acked.

import assert from "node:assert/strict";
import { chmodSync, copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { connectOn, say } from "./lib/clients.mjs";
import { Link } from "./lib/link.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { alive, binary, fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const DEADLINE_MS = 120_000;
const TABLES = "[limits]\nmessages_per_second = 0\n[socketio]\nrecovery_messages = 1000000\n";
// Far longer than the test: whoever is gone before was in a hurry.
const DRAIN = 'drain_timeout = "1h"\n';

// Clients that say one message after the other, each until it is acked, over whatever connection there is.
class Talk {
  static async start(server, users, options) {
    const talk = Object.assign(new Talk(), { acked: [], stopped: false, sockets: [] });
    talk.roomId = await newRoom(server, users);
    const again = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
    for (const [at, user] of users.entries()) talk.sockets.push(await connectOn(server, at % 2, user, { ...again, ...options }));
    talk.ends = talk.sockets.map((socket, who) => talk.go(socket, who));
    return talk;
  }

  async go(socket, who) {
    for (let at = 0; !this.stopped; at++) {
      const message = { roomId: this.roomId, content: `${who} ${at}`, clientId: `${who} ${at}` };
      const ack = await until("an ack", async () => {
        const answer = await socket.timeout(10_000).emitWithAck("send_message", message);
        return answer.ok && answer;
      }, DEADLINE_MS);
      this.acked.push({ seq: ack.seq, content: message.content });
    }
  }

  goesOn(count = 100) {
    const before = this.acked.length;
    return until("messages go on", () => this.acked.length > before + count, DEADLINE_MS);
  }

  // Everything acked is stored, once, and everybody has heard everything in order.
  async judge(server) {
    this.stopped = true;
    await Promise.all(this.ends);
    const log = new Map(server.log().map((message) => [message.seq, message.content]));
    for (const { seq, content } of this.acked) assert.equal(log.get(seq), content);
    assert.equal(new Set(log.values()).size, log.size, "stored twice");
    for (const socket of this.sockets) {
      await until("all is heard", () => socket.heard.length >= log.size, DEADLINE_MS);
      assert.deepEqual(socket.heard.map((message) => message.seq), [...log.keys()]);
    }
    assert.match(server.verify(), /^clean/);
    return log.size;
  }

  disconnect() {
    this.sockets.forEach((socket) => socket.disconnect());
  }
}

describe("a new version whose supervisor dies as soon as it has taken over", () => {
  let dir, program, server, talk;

  before(async () => {
    dir = mkdtempSync(path.join(os.tmpdir(), "minitalk-version-"));
    program = path.join(dir, "minitalk");
    copyFileSync(binary, program);
    server = await Server.start({ program, port: await fixedPort(), tables: TABLES });
    await server.ready();
    talk = await Talk.start(server, await newUsers(server, "user", 4));
  });

  after(async () => {
    talk?.disconnect();
    await server?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  it("ends everything; the next start works, and nothing acked is lost", async () => {
    await talk.goesOn();
    const pids = server.status().processes.map(({ pid }) => pid);
    // The trial of it finds no fault.
    const dies = `#!/bin/sh\ncase "$*" in *--take-over*) exit 7 ;; esac\nexec ${binary} "$@"\n`;
    writeFileSync(`${program}.new`, dies);
    chmodSync(`${program}.new`, 0o755);
    renameSync(`${program}.new`, program);
    process.kill(server.child.pid, "SIGUSR2");
    assert.deepEqual(await server.exited, { code: 7, signal: null });
    await until("its children died with it", () => !pids.some(alive), DEADLINE_MS);
    server.child = null;
    await server.serve();
    await talk.goesOn();
    const stored = await talk.judge(server);
    console.log(`${stored} messages, the supervisor dead in the middle of its upgrade: 0 lost, 0 repeated`);
  });
});

describe("a writer of another version of the link", () => {
  let server, talk, link;

  before(async () => {
    server = await Server.start({ top: DRAIN, tables: TABLES });
    await server.ready();
    talk = await Talk.start(server, await newUsers(server, "user", 6));
  });

  after(async () => {
    talk?.disconnect();
    await server?.stop();
    link?.stop();
  });

  it("acks nothing to workers of before, and as soon as they have successors their clients are there", async () => {
    await talk.goesOn();
    link = await Link.start(server);
    link.speaksOtherVersion = true;
    process.kill(server.processes("storage")[0].pid, "SIGKILL");
    await until("both workers are refused", () => link.refused.size === 2, DEADLINE_MS);
    await until("they say so", () => server.stderr.split("speaks another version of the link").length > 2, DEADLINE_MS);
    link.speaksOtherVersion = false; // with those who come; those of before stay refused
    const { number } = server.status().change;
    process.kill(server.child.pid, "SIGHUP");
    await until("the reload is done", () => {
      const { change } = server.status();
      return change.number > number && change.state === "done";
    }, DEADLINE_MS);
    await until("the old ones have gone", () => !server.status().processes.some((one) => one.leaving), DEADLINE_MS);
    assert.equal(link.refused.size, 2);
    await talk.goesOn();
    const stored = await talk.judge(server);
    console.log(`${stored} messages, workers and writer of different versions meanwhile: 0 lost, 0 repeated`);
  });

  it("that gives way to one of theirs is taken up again", async () => {
    await until("it is ready", () => server.status().ready, DEADLINE_MS);
    link.refused.clear();
    link.speaksOtherVersion = true;
    process.kill(server.processes("storage")[0].pid, "SIGKILL");
    await until("both workers are refused", () => link.refused.size === 2, DEADLINE_MS);
    const pids = server.processes("worker").map(({ pid }) => pid);
    link.speaksOtherVersion = false;
    link.refused.clear();
    const { seq } = await say(talk.sockets[0], talk.roomId, "again");
    assert.ok(seq > talk.acked.length);
    assert.deepEqual(server.processes("worker").map(({ pid }) => pid), pids);
  });
});
