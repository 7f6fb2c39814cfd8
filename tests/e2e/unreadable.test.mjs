// An index that can't be read for a moment: clients come again by themselves and get in when it can be read,
// by every way in and every transport. A refusal ("Authentication error") would end their trying.

import assert from "node:assert/strict";
import { mkdirSync, renameSync, rmdirSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { ask, client, connect } from "./lib/clients.mjs";
import { call, newUsers, ok } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

// Puts something in the index's place that can't be read; answers what puts it back.
function hide(server) {
  const file = path.join(server.dataDir, "index/index.sqlite");
  const aside = `${file}.aside`;
  renameSync(file, aside);
  mkdirSync(file);
  return () => {
    rmdirSync(file);
    renameSync(aside, file);
  };
}

describe("while the index can't be read", () => {
  let server, alice;
  before(async () => {
    server = await Server.start({ auth: 'mode = "open"\nticket_ttl = "10m"\n' });
    [alice] = await newUsers(server, "alice", 1);
  });
  after(() => server.stop());

  const ways = {
    "a token": async () => ({ auth: { token: alice.token } }),
    "a ticket, which is not used up": async () => ({ auth: await ok(server, "POST", "/api/auth/ticket", alice.token) }),
    "a name": async () => ({ query: { username: alice.username } }),
  };
  for (const [way, options] of Object.entries(ways))
    for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]])
      it(`a client with ${way} tries again over ${transports.join(" and ")}`, async () => {
        const presented = await options();
        const back = hide(server);
        const socket = client(server, { ...presented, transports, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 50 });
        const seen = { tries: 0, ends: [], refusals: [] };
        socket.io.on("open", () => seen.tries++);
        socket.io.on("close", (reason) => seen.ends.push(reason));
        socket.on("connect_error", (error) => seen.refusals.push(error.message));
        try {
          socket.connect();
          await until("it has tried more than once", () => seen.tries > 2);
          assert.equal(socket.connected, false);
          back();
          await until("it is let in", () => socket.connected);
          assert.deepEqual([seen.refusals, new Set(seen.ends)], [[], new Set(["transport close"])]);
        } finally {
          socket.disconnect();
        }
      });

  it("calls are told to come again, and a socket that is in stays in", async () => {
    const socket = await connect(server, alice);
    const back = hide(server);
    try {
      const { status, body } = await call(server, "GET", "/api/chatrooms", { token: alice.token });
      assert.deepEqual([status, body.code], [503, "UNAVAILABLE"]);
      assert.equal((await ask(socket, "auth_refresh", { token: alice.token })).code, "UNAVAILABLE");
    } finally {
      back();
    }
    assert.equal((await ask(socket, "auth_refresh", { token: alice.token })).ok, true);
    assert.ok(socket.connected);
    socket.disconnect();
  });
});
