// Away for longer than Socket.IO's usual two minutes (maxDisconnectionDuration): by the server's clocks, days and
// a month go by. Stock clients with nothing but connection-state recovery.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { connect, say } from "./lib/clients.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { fixedPort, Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

const library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
  .map((dir) => path.join(dir, "faketime/libfaketimeMT.so.1")).find(existsSync);

const dir = mkdtempSync(path.join(os.tmpdir(), "minitalk-clock-"));
const file = path.join(dir, "clock");

// The time of day jumps, for running processes as for those that are started later.
function ahead(offset) {
  writeFileSync(`${file}.new`, offset);
  renameSync(`${file}.new`, file);
}

describe("a client that was away for longer than two minutes", () => {
  let server, users, alice, room;
  before(async () => {
    assert.ok(library, "this test needs the package libfaketime");
    ahead("+0");
    const env = { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: "1", FAKETIME_DONT_FAKE_MONOTONIC: "1", DONT_FAKE_MONOTONIC: "1" };
    server = await Server.start({ port: await fixedPort(), auth: 'token_ttl = "8760h"\n', env });
    users = await newUsers(server, "user", 2);
    alice = await connect(server, users[0], { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
    room = await newRoom(server, users);
  });
  after(async () => {
    alice?.disconnect();
    await server?.stop();
    rmSync(dir, { recursive: true });
  });

  for (const transports of [["websocket"], ["polling"]]) it(`has missed nothing, over ${transports}`, async () => {
    const socket = io(server.url, { transports, forceNew: true, reconnection: false, auth: { token: users[1].token } });
    const heard = [];
    socket.on("message", (message) => heard.push(message));
    await next(socket, "connect");
    const wanted = [await say(alice, room, "before")];
    await until("it hears", () => heard.length === 1);
    const pid = socket._pid;
    const said = async (words) => wanted.push(await say(alice, room, words));
    const days = () => Date.parse(wanted.at(-1).timestamp) / 86_400_000 - Date.parse(wanted[0].timestamp) / 86_400_000;
    const returns = async () => {
      const connected = next(socket, "connect");
      socket.connect();
      await connected;
      await until("it hears all", () => heard.length >= wanted.length);
      assert.deepEqual(heard.map((m) => m.seq), wanted.map((ack) => ack.seq));
      assert.deepEqual([socket.recovered, socket._pid], [true, pid]);
    };

    // Three minutes, then three days, on a server that runs on.
    for (const offset of ["+3m", "+3d"]) {
      socket.io.engine.close();
      await until("it is away", () => !socket.connected);
      await said(`missed at ${offset}`);
      ahead(offset);
      await said(`missed after ${offset}`);
      await returns();
    }
    assert.ok(days() > 2.9, `the clock was set: ${days()} days`);

    // A month, in which the server was stopped.
    socket.io.engine.close();
    await until("it is away", () => !socket.connected);
    await server.stop({ keep: true });
    ahead("+33d");
    await server.serve();
    await until("alice is back", () => alice.connected);
    await said("missed after a month");
    await returns();
    assert.ok(days() > 32.9, `the clock was set: ${days()} days`);
    socket.disconnect();
    ahead("+0");
  });
});
