// Who stays in: one-time tickets, tokens that end or are renewed while a socket lives, and being logged
// out everywhere.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { client, connect, connected, refusal, workerOf } from "./lib/clients.mjs";
import { call, newUsers, ok } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const REFUSED = "Authentication error";

async function ticketFor(server, user) {
  const { ticket, expiresIn } = await ok(server, "POST", "/api/auth/ticket", user.token);
  assert.match(ticket, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(expiresIn > 0);
  return ticket;
}

// Whether a client gets in.
function getsIn(socket) {
  return connected(socket).then(() => true, (error) => {
    if (error.message !== REFUSED) throw error;
    return false;
  });
}

describe("a ticket", () => {
  let server, alice;
  before(async () => {
    server = await Server.start({ workers: 3 });
    [alice] = await newUsers(server, "alice", 1);
  });
  after(() => server.stop());

  const places = {
    "the CONNECT payload": (ticket) => ({ auth: { ticket } }),
    "the CONNECT payload, as a token": (token) => ({ auth: { token } }),
    "the query": (ticket) => ({ query: { ticket } }),
    "the query, as a token": (token) => ({ query: { token } }),
    "the Authorization header": (ticket) => ({ extraHeaders: { Authorization: `Bearer ${ticket}` } }),
  };
  const ways = { WebSocket: ["websocket"], polling: ["polling"], both: ["polling", "websocket"] };
  for (const [place, options] of Object.entries(places)) for (const [way, transports] of Object.entries(ways))
    it(`lets one socket in, in ${place}, over ${way}`, async () => {
      const ticket = await ticketFor(server, alice);
      const first = client(server, { ...options(ticket), transports });
      assert.equal(await getsIn(first), true);
      if (way === "both") await until("the upgrade", () => first.io.engine.transport.name === "websocket");
      for (const again of Object.values(places))
        assert.equal((await refusal(server, { ...again(ticket), transports })).message, REFUSED);
      assert.ok(first.connected);
      first.disconnect();
    });

  it("opens nothing else, and only to whom it belongs", async () => {
    const ticket = await ticketFor(server, alice);
    assert.equal((await call(server, "GET", "/api/chatrooms", { token: ticket })).status, 401);
    assert.equal((await call(server, "POST", "/api/auth/ticket", { token: ticket })).status, 401);
    assert.equal((await call(server, "POST", "/api/auth/ticket")).status, 401);
    for (const bad of ["", "x", 5, null, ["a"], ticket.slice(1), `${ticket} `, ticket.replace(/.$/, (c) => (c === "0" ? "1" : "0"))])
      assert.equal((await refusal(server, { auth: { ticket: bad } })).message, REFUSED, JSON.stringify(bad));
    const socket = client(server, { auth: { ticket } });
    assert.equal(await getsIn(socket), true);
    const { username } = alice;
    const other = await connect(server, alice);
    const { roomId } = await ok(server, "POST", "/api/chatrooms", alice.token, { name: "room" });
    const typed = new Promise((resolve) => other.once("message", resolve));
    await socket.timeout(30_000).emitWithAck("send_message", { roomId, content: "by ticket" });
    assert.equal((await typed).sender, username);
    for (const each of [socket, other]) each.disconnect();
  });

  it("is won by exactly one of fifty sockets on all workers, a hundred times", async () => {
    const workers = new Set();
    for (let round = 0; round < 100; round++) {
      const ticket = await ticketFor(server, alice);
      const sockets = Array.from({ length: 50 }, (_, at) =>
        client(server, at % 3 === 0 ? { query: { ticket } } : { auth: { ticket }, transports: at % 3 === 1 ? ["websocket"] : ["polling"] }));
      const won = await Promise.all(sockets.map(getsIn));
      assert.equal(won.filter(Boolean).length, 1, `round ${round}`);
      const winner = sockets[won.indexOf(true)];
      if (winner.io.engine.transport.name === "websocket") workers.add(workerOf(server, winner));
      for (const socket of sockets) socket.disconnect();
    }
    assert.ok(workers.size > 1, "winners on one worker only");
  });

  it("is lost with the storage writer, and the next one is good", async () => {
    const lost = await ticketFor(server, alice);
    const [{ pid }] = server.processes("storage");
    process.kill(pid, "SIGKILL");
    await until("another storage writer", () => server.processes("storage").some((p) => p.pid > 0 && p.pid !== pid));
    assert.equal((await refusal(server, { auth: { ticket: lost } })).message, REFUSED);
    const socket = client(server, { auth: { ticket: await ticketFor(server, alice) } });
    assert.equal(await getsIn(socket), true);
    socket.disconnect();
  });
});

describe("a ticket that nobody uses", () => {
  it("is good no more after auth.ticket_ttl", async () => {
    const server = await Server.start({ auth: 'ticket_ttl = "1s"\n' });
    const [alice] = await newUsers(server, "alice", 1);
    const { ticket, expiresIn } = await ok(server, "POST", "/api/auth/ticket", alice.token);
    assert.equal(expiresIn, 1);
    const made = Date.now();
    await until("its time is over", () => Date.now() - made > 1_000);
    assert.equal((await refusal(server, { auth: { ticket } })).message, REFUSED);
    await server.stop();
  });
});
