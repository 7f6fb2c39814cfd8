// Socket.IO 5, by the protocol's document: raw WebSockets and requests against the engine alone.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { ProtocolServer, closed, got } from "./lib/protocol.mjs";
import { next } from "./lib/wait.mjs";

const ONE = '{"_placeholder":true,"num":0}';
const TWO = '{"_placeholder":true,"num":1}';

describe("Socket.IO", () => {
  let server;
  before(async () => (server = await ProtocolServer.start()));
  after(() => server.stop());

  describe("a session", () => {
    const path = "/socket.io/";

    it("begins over long polling as one of Engine.IO does", async () => {
      const response = await server.poll(undefined, { path });
      assert.equal(response.status, 200);
      const { sid, ...rest } = JSON.parse((await response.text()).replace(/^0/, ""));
      assert.ok(sid);
      assert.deepEqual(rest, { upgrades: ["websocket"], pingInterval: 300, pingTimeout: 30_000, maxPayload: 1_000_000 });
      assert.equal(await (await server.poll(sid, { path })).text(), "2");
      assert.equal((await server.post(sid, "3", { path })).status, 200);
      assert.equal((await server.post(sid, "1", { path })).status, 200);
      assert.equal((await server.poll(sid, { path })).status, 400);
    });

    it("goes on over a WebSocket before any namespace is entered", async () => {
      const sid = await server.open({ path });
      const ws = await server.probe(sid, path);
      ws.send("5");
      ws.send("40");
      await got(ws, /^40\{/, '42["auth",{}]');
      assert.equal((await server.poll(sid, { path })).status, 400);
      assert.equal(await closed(server.socket(`${path}?EIO=4&transport=websocket&sid=${sid}`)), 1000);
      ws.send("1");
      assert.equal(await closed(ws), 1000);
    });

    it("that begins with anything but an entry is closed", async () => {
      for (const packet of ["4abc", '42["message"]', "41", "43[]"]) {
        const ws = await server.session(path);
        ws.send(packet);
        assert.equal(await closed(ws), 1002, packet);
      }
    });
  });

  describe("a namespace", () => {
    it("is entered, with a payload or without", async () => {
      for (const [packet, answer, auth] of [
        ["40", /^40\{"sid":"[^"]+"\}$/, '42["auth",{}]'],
        ['40{"token":"123"}', /^40\{"sid":"[^"]+"\}$/, '42["auth",{"token":"123"}]'],
        ["40/custom,", /^40\/custom,\{"sid":"[^"]+"\}$/, '42/custom,["auth",{}]'],
        ["40/custom", /^40\/custom,\{"sid":"[^"]+"\}$/, '42/custom,["auth",{}]'],
        ['40/custom,{"token":"abc"}', /^40\/custom,\{"sid":"[^"]+"\}$/, '42/custom,["auth",{"token":"abc"}]'],
      ]) {
        const ws = await server.session("/socket.io/");
        ws.send(packet);
        await got(ws, answer, auth);
        ws.close();
      }
    });

    it("has a session id of its own", async () => {
      const ws = await server.session("/socket.io/");
      ws.send("40");
      ws.send("40/custom,");
      const answers = await got(ws, /^40\{/, /^42/, /^40\/custom/, /^42/);
      const sids = [answers[0].slice(2), answers[2].slice("40/custom,".length)].map((text) => JSON.parse(text).sid);
      assert.equal(new Set([ws.handshake.sid, ...sids]).size, 3);
      ws.close();
    });

    it("that is not there is refused, and the connection kept", async () => {
      const ws = await server.session("/socket.io/");
      ws.send("40/random");
      ws.send('40/random?x=1,{"token":1}');
      ws.send("40");
      const no = '44/random,{"message":"Invalid namespace"}';
      await got(ws, no, no, /^40\{/, '42["auth",{}]');
      ws.close();
    });

    it("is left, and others and the connection kept", async () => {
      const ws = await server.client();
      ws.send("40/custom");
      await got(ws, /^40\/custom,/, '42/custom,["auth",{}]');
      ws.send("41/custom");
      ws.send('42["message","still there"]');
      await got(ws, '42["message-back","still there"]');
      ws.send("40/custom");
      await got(ws, /^40\/custom,/, '42/custom,["auth",{}]');
      ws.send("41/custom,");
      ws.send('42["message","to the main one"]');
      await got(ws, '42["message-back","to the main one"]');
      ws.send("41");
      ws.send("40");
      await got(ws, /^40\{/, '42["auth",{}]');
      ws.close();
    });
  });

  describe("an event", () => {
    it("carries any arguments", async () => {
      const ws = await server.client();
      for (const rest of ["", ',1,"2",{"3":[true]}', ',null', ',"안녕 \\ud83c\\udf89"', ',[[[]]],{}'])
        ws.send(`42["message"${rest}]`);
      await got(ws, '42["message-back"]', '42["message-back",1,"2",{"3":[true]}]', '42["message-back",null]',
        '42["message-back","안녕 \\ud83c\\udf89"]', '42["message-back",[[[]]],{}]');
      ws.close();
    });

    it("carries bytes", async () => {
      const ws = await server.client();
      ws.send(`452-["message",${ONE},${TWO}]`);
      ws.send(Buffer.from([1, 2, 3]));
      ws.send(Buffer.from([4, 5, 6]));
      await got(ws, `452-["message-back",${ONE},${TWO}]`, Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6]));
      ws.send('450-["message",1]');
      await got(ws, '42["message-back",1]');
      ws.close();
    });

    it("is acknowledged, with bytes or without, in any namespace", async () => {
      const ws = await server.client();
      ws.send('42456["message-with-ack",1,"2",{"3":[false]}]');
      await got(ws, '43456[1,"2",{"3":[false]}]');
      ws.send(`452-789["message-with-ack",${ONE},${TWO}]`);
      ws.send(Buffer.from([1]));
      ws.send(Buffer.from([2]));
      await got(ws, `462-789[${ONE},${TWO}]`, Buffer.from([1]), Buffer.from([2]));
      ws.send("40/custom,");
      ws.send('42/custom,0["message-with-ack"]');
      await got(ws, /^40\/custom/, /^42/, "43/custom,0[]");
      ws.close();
    });

    it("of the server's is acknowledged by the client", async () => {
      const ws = await server.client();
      ws.send('42["emit-with-ack",7]');
      const [asked] = await got(ws, /^42\d+\["emit-with-ack",7\]$/);
      const id = /^42(\d+)/.exec(asked)[1];
      ws.send(`461-${id}["thanks",${ONE}]`);
      ws.send(Buffer.from([9]));
      await got(ws, `451-["ack-back","thanks",${ONE}]`, Buffer.from([9]));
      ws.send(`43${id}["again"]`);
      ws.send('42["message"]');
      await got(ws, '42["message-back"]');
      ws.close();
    });

    it("goes over long polling as well, bytes in base64", async () => {
      const options = { path: "/socket.io/" };
      const sid = await server.open(options);
      await server.post(sid, "40", options);
      const [answer, auth] = await server.fetched(sid, 2, options);
      assert.match(answer, /^40\{/);
      assert.equal(auth, '42["auth",{}]');
      await server.post(sid, `452-["message",${ONE},${TWO}]\x1ebAQID\x1ebBAUG\x1e42["message","text"]`, options);
      assert.deepEqual(await server.fetched(sid, 4, options),
        [`452-["message-back",${ONE},${TWO}]`, "bAQID", "bBAUG", '42["message-back","text"]']);
    });
  });

  it("closes the connection for what is no packet, or comes at the wrong time", async () => {
    const deep = "[".repeat(5_000);
    for (const packets of [
      ["4abc"], ["4"], ["47"], ["44{}"], ["42{}"], ['42"x"'], ["42[]"], ["42[null]"], ['42["connect"]'],
      ['42["disconnecting"]'], ['42["x"'], ['42abc["message-with-ack",1]'], ['429999999999999999999999["x"]'],
      ['42/custom,["x"]'], ["40"], ["40[]"], ['40/custom,{"x"'], ["41{}"], ["43{}"],
      ['451["x"]'], ['45-["x"]'], ['4511-["x"]'], ['45x-["x"]'], [`451-["x",${TWO}]`],
      ['451-["x",{"_placeholder":true,"num":"0"}]'], [`42["x",${deep}`], [`451-["message",${deep}`],
      [`451-["message",${ONE}]`, '42["message"]'], [Buffer.from([1, 2, 3])],
      [`451-["message",${ONE}]`, Buffer.from([1]), Buffer.from([2])],
    ]) {
      const ws = await server.client();
      packets.forEach((packet) => ws.send(packet));
      assert.equal(await closed(ws), 1002, String(packets).slice(0, 80));
    }
  });

  it("closes the connection for attachments that are too much together", async () => {
    const ws = await server.client();
    ws.send(`453-["message",${ONE},${TWO}]`);
    for (let count = 0; count < 3; count++) ws.send(Buffer.alloc(900_000));
    assert.equal(await closed(ws), 1009);
  });

  it("closes a connection that enters no namespace in time", async () => {
    const impatient = await ProtocolServer.start({ "connect-timeout-ms": 200 });
    try {
      const ws = await impatient.session("/socket.io/");
      assert.equal(await closed(ws), 1008);
      const raw = await impatient.session("/engine.io/");
      raw.send("4hello");
      await got(raw, "4hello");
      raw.close();
    } finally {
      impatient.stop();
    }
  });

  const ways = [["polling"], ["websocket"], ["polling", "websocket"]].map((transports) => ({ transports }));
  // What the documentation of the client lets one ask of the WebSocket.
  const asking = [{ forceBase64: true }, { protocols: ["chat", "x"] }].map((more) => ({ transports: ["websocket"], ...more }));
  for (const options of [...ways, ...asking]) {
    const { transports } = options;
    it(`serves the stock client with ${JSON.stringify(options)}`, async () => {
      const socket = io(`${server.url}/custom`, { ...options, forceNew: true, auth: { token: "x" } });
      const auth = next(socket, "auth");
      await next(socket, "connect");
      assert.deepEqual(await auth, [{ token: "x" }]);
      socket.on("emit-with-ack", (bytes, answer) => answer(Buffer.concat([bytes, bytes])));
      for (let round = 0; round < 50; round++) {
        const bytes = Buffer.from([round, 255, 0]);
        assert.deepEqual(await socket.timeout(30_000).emitWithAck("message-with-ack", { round, bytes }), { round, bytes });
        const back = next(socket, "message-back");
        socket.emit("message", "글자", [bytes], round);
        assert.deepEqual(await back, ["글자", [bytes], round]);
        const acked = next(socket, "ack-back");
        socket.emit("emit-with-ack", bytes);
        assert.deepEqual(await acked, [Buffer.concat([bytes, bytes])]);
      }
      if (transports.length === 2) assert.equal(socket.io.engine.transport.name, "websocket");
      socket.disconnect();
    });
  }
});
