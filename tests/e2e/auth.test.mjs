// Who stays in: one-time tickets, tokens that end or are renewed while a socket lives, and being logged
// out everywhere.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ask, client, connect, connectOn, connected, refusal, say, workerOf } from "./lib/clients.mjs";
import { claimsOf, sign } from "./lib/jwt.mjs";
import { call, newUsers, ok } from "./lib/rest.mjs";
import { SECRET, Server } from "./lib/server.mjs";
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

function watch(socket) {
  Object.assign(socket, { ends: [], errors: [], heard: [], warnings: [] });
  socket.on("disconnect", (reason) => socket.ends.push(reason));
  socket.on("error", (error) => socket.errors.push(error));
  socket.on("message", (message) => socket.heard.push(message));
  socket.on("auth_expiring", (warning) => socket.warnings.push(warning));
}

// A connected client that collects what it is told, and how it ended: the reasons of `disconnect`.
async function stayer(server, user, options = {}) {
  const socket = client(server, { auth: { token: user.token }, ...options });
  watch(socket);
  await connected(socket);
  return socket;
}

// The same on that worker.
async function stayerOn(server, worker, user) {
  const socket = await connectOn(server, worker, user);
  socket.ends = [];
  socket.on("disconnect", (reason) => socket.ends.push(reason));
  return socket;
}

function isEnded(socket, code) {
  return until(`it is ended with ${code}`, () => {
    if (!socket.ends.length) return false;
    assert.deepEqual(socket.ends, ["io server disconnect"]);
    assert.deepEqual(socket.errors.map((error) => error.code), [code]);
    return true;
  });
}

// Every worker's answer to a call, told apart by trying until each has answered.
async function onEveryWorker(server, token) {
  const statuses = new Set();
  for (let call_ = 0; call_ < 40; call_++) statuses.add((await call(server, "GET", "/api/chatrooms", { token })).status);
  return [...statuses];
}

describe("a token that ends", () => {
  const SHORT = 'token_ttl = "10s"\nexpiry_warning = "8s"\n';
  let server;
  before(async () => {
    server = await Server.start({ auth: SHORT });
  });
  after(() => server.stop());
  const fresh = async () => {
    const { username, password } = { username: `user${Math.random()}`, password: "password" };
    await ok(server, "POST", "/api/auth/signup", undefined, { username, password });
    return { login: () => ok(server, "POST", "/api/auth/login", undefined, { username, password }) };
  };
  const ends = (token) => new Date(claimsOf(token).exp * 1000).toISOString();

  for (const [way, transports] of Object.entries({ WebSocket: ["websocket"], polling: ["polling"] }))
    it(`is announced, and ends its socket, over ${way}`, async () => {
      const user = await (await fresh()).login();
      const socket = await stayer(server, user, { transports });
      await until("the warning", () => socket.warnings.length);
      await isEnded(socket, "TOKEN_EXPIRED");
      assert.deepEqual(socket.warnings, [{ expiresAt: ends(user.token) }]);
      assert.ok(Date.now() >= claimsOf(user.token).exp * 1000, "ended no earlier than said");
      assert.equal((await refusal(server, { auth: { token: user.token } })).message, REFUSED);
    });

  it("is announced at once enough to one with less than the warning's time left", async () => {
    const user = await (await fresh()).login();
    const claims = claimsOf(user.token);
    const now = Math.floor(Date.now() / 1000);
    const token = sign({ ...claims, exp: now + 5 }, SECRET);
    const socket = await stayer(server, { ...user, token });
    await isEnded(socket, "TOKEN_EXPIRED");
    assert.deepEqual(socket.warnings, [{ expiresAt: ends(token) }]);
  });

  it("is replaced in place, again and again, and nothing is lost meanwhile", async () => {
    const account = await fresh();
    let user = await account.login();
    const socket = await stayer(server, user);
    const { roomId } = await ok(server, "POST", "/api/chatrooms", user.token, { name: "room" });
    const { id } = socket;
    for (let round = 0; round < 3; round++) {
      await until("another warning", () => socket.warnings.length > round);
      const old = user;
      user = await account.login();
      assert.deepEqual(await ask(socket, "auth_refresh", { token: user.token }), { ok: true, expiresAt: ends(user.token) });
      await until("the old token's end is over", () => Date.now() > claimsOf(old.token).exp * 1000 + 500);
      await say(socket, roomId, `round ${round}`);
    }
    assert.deepEqual([socket.id, socket.ends, socket.errors], [id, [], []]);
    await isEnded(socket, "TOKEN_EXPIRED");
    assert.deepEqual(socket.heard.map((m) => m.content), ["round 0", "round 1", "round 2"]);
  });

  it("is replaced by nothing that is no good token of the same user", async () => {
    const [login, other] = [await (await fresh()).login(), await (await fresh()).login()];
    const claims = { ...claimsOf(login.token), exp: claimsOf(login.token).exp + 3_600 };
    const user = { ...login, token: sign(claims, SECRET) };
    const long = sign({ ...claimsOf(other.token), exp: claims.exp }, SECRET);
    const socket = await stayer(server, user);
    const bad = {
      UNAUTHORIZED: ["", "x", `${user.token}x`, sign({ ...claims, exp: claims.iat - 1 }, SECRET), sign(claims, "another secret of good length, 32+"),
        (await ok(server, "POST", "/api/auth/ticket", user.token)).ticket],
      FORBIDDEN: [long],
      INVALID_REQUEST: [undefined, null, 5, {}],
    };
    for (const [code, tokens] of Object.entries(bad)) for (const token of tokens) {
      const ack = await ask(socket, "auth_refresh", { token });
      assert.deepEqual([ack.ok, ack.code, typeof ack.message], [false, code, "string"], String(token));
    }
    socket.emit("auth_refresh", { token: "x" });
    await until("the error event", () => socket.errors.length === 1);
    assert.equal(socket.errors.pop().code, "UNAUTHORIZED");
    assert.equal((await ask(socket, "auth_refresh")).code, "INVALID_REQUEST");
    assert.deepEqual(socket.ends, []);
    socket.disconnect();
  });

  it("is the end of a socket that came by its ticket as well", async () => {
    const user = await (await fresh()).login();
    const socket = await stayer(server, user, { auth: { ticket: await ticketFor(server, user) } });
    await isEnded(socket, "TOKEN_EXPIRED");
    assert.deepEqual(socket.warnings, [{ expiresAt: ends(user.token) }]);
    await until("it is counted", () => server.processes("worker").some((p) => p.report.tokens_expired_total > 0));
  });
});

describe("a name in open mode", () => {
  it("has no end, and may take one", async () => {
    const server = await Server.start({ auth: 'mode = "open"\ntoken_ttl = "8s"\n' });
    const [alice] = await newUsers(server, "alice", 1);
    const socket = await stayer(server, alice, { auth: {}, query: { username: alice.username } });
    await until("a token would have ended", () => Date.now() > claimsOf(alice.token).exp * 1000 + 1_000);
    assert.deepEqual(socket.ends, []);
    const login = await ok(server, "POST", "/api/auth/login", undefined, { username: alice.username, password: "password" });
    assert.equal((await ask(socket, "auth_refresh", { token: login.token })).ok, true);
    await isEnded(socket, "TOKEN_EXPIRED");
    await server.stop();
  });
});
