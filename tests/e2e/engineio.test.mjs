// Engine.IO 4, by the protocol's document: raw requests and WebSockets against the engine alone.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { ProtocolServer, closed, got } from "./lib/protocol.mjs";
import { next, until } from "./lib/wait.mjs";

const SETTINGS = { pingInterval: 300, pingTimeout: 30_000, maxPayload: 1_000_000 };

describe("Engine.IO", () => {
  let server;
  before(async () => (server = await ProtocolServer.start()));
  after(() => server.stop());

  const over = async (sid, why) => {
    const response = await server.poll(sid);
    assert.equal(response.status, 400, why);
    assert.equal((await response.json()).code, 1, why);
  };

  describe("a handshake", () => {
    it("over long polling says what the session is", async () => {
      const response = await server.poll();
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), "text/plain; charset=UTF-8");
      assert.equal(response.headers.get("content-encoding"), null);
      const text = await response.text();
      const { sid, ...rest } = JSON.parse(text.replace(/^0/, ""));
      assert.match(sid, /^[\w-]{20,}$/);
      assert.deepEqual(rest, { upgrades: ["websocket"], ...SETTINGS });
    });

    it("over a WebSocket has nothing to upgrade to", async () => {
      const ws = await server.session();
      const { sid, ...rest } = ws.handshake;
      assert.ok(sid);
      assert.deepEqual(rest, { upgrades: [], ...SETTINGS });
      ws.close();
      await closed(ws);
    });

    it("that is none is told why", async () => {
      const answer = async (query, options) => {
        const response = await fetch(`${server.url}/engine.io/${query}`, options);
        assert.match(response.headers.get("content-type"), /application\/json/);
        return { status: response.status, ...(await response.json()) };
      };
      const unknown = { status: 400, code: 0, message: "Transport unknown" };
      assert.deepEqual(await answer("?EIO=4"), unknown);
      assert.deepEqual(await answer("?EIO=4&transport=abc"), unknown);
      assert.deepEqual(await answer("?EIO=3&transport=abc"), unknown);
      const session = { status: 400, code: 1, message: "Session ID unknown" };
      for (const sid of ["x", "AAAA".repeat(8), "x".repeat(5000), "%00"])
        assert.deepEqual(await answer(`?EIO=4&transport=polling&sid=${sid}`), session);
      assert.deepEqual(await answer("?EIO=4&transport=polling&sid=x", { method: "POST" }), session);
      const method = { status: 400, code: 2, message: "Bad handshake method" };
      for (const name of ["POST", "PUT", "DELETE", "OPTIONS"])
        assert.deepEqual(await answer("?EIO=4&transport=polling", { method: name }), method);
      const bad = { status: 400, code: 3, message: "Bad request" };
      assert.deepEqual(await answer("?EIO=4&transport=websocket"), bad);
      const version = { status: 400, code: 5, message: "Unsupported protocol version" };
      for (const query of ["?transport=polling", "?EIO=3&transport=polling", "?EIO=abc&transport=polling"])
        assert.deepEqual(await answer(query), version);
    });

    it("over a WebSocket that is none is refused", async () => {
      for (const query of ["transport=websocket", "EIO=abc&transport=websocket", "EIO=3&transport=websocket", "EIO=4", "EIO=4&transport=abc"])
        for (const where of ["/engine.io/", "/socket.io/"]) {
          const [, response] = await next(server.socket(`${where}?${query}`), "unexpected-response");
          assert.equal(response.statusCode, 400, query);
          response.destroy();
        }
    });

    it("may be made by a page of another origin, which is told that it may read the answer", async () => {
      const origin = "https://page.example";
      const asked = await fetch(`${server.url}/engine.io/?EIO=4&transport=polling`, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "x-a,x-b" },
      });
      assert.equal(asked.status, 204);
      assert.match(asked.headers.get("access-control-allow-methods"), /GET.*POST/);
      assert.equal(asked.headers.get("access-control-allow-headers"), "x-a,x-b");
      const response = await server.poll(undefined, { headers: { origin } });
      for (const { headers } of [asked, response]) {
        assert.equal(headers.get("access-control-allow-origin"), origin);
        assert.equal(headers.get("access-control-allow-credentials"), "true");
        assert.match(headers.get("vary"), /origin/i);
      }
    });
  });

  describe("over long polling", () => {
    it("carries text, several packets, and bytes", async () => {
      for (const payload of ["4hello", "4", "4안녕 🎉", "4a\x1e4b\x1e4c", "4hello\x1ebAQIDBA==", "b", "b/+8="]) {
        const sid = await server.open();
        const response = await server.post(sid, payload);
        assert.deepEqual([response.status, response.headers.get("content-type")], [200, "text/html"]);
        assert.equal(await response.text(), "ok");
        const packets = payload.split("\x1e");
        assert.deepEqual(await server.fetched(sid, packets.length), packets);
      }
    });

    it("keeps the order of a thousand packets, some of them in one payload", async () => {
      const sid = await server.open();
      const sent = Array.from({ length: 1_000 }, (_, at) => (at % 5 ? `4${at}` : "bAQ=="));
      const received = server.fetched(sid, sent.length);
      for (let at = 0; at < sent.length; at += 25) {
        const response = await server.post(sid, sent.slice(at, at + 25).join("\x1e"));
        assert.equal(response.status, 200);
      }
      assert.deepEqual(await received, sent);
    });

    it("brings no more packets at once than every client takes", async () => {
      const sid = await server.open();
      const sent = Array.from({ length: 50 }, (_, at) => `4${at}`);
      assert.equal((await server.post(sid, sent.join("\x1e"))).status, 200);
      const payloads = [];
      while (payloads.flat().length < sent.length)
        payloads.push((await (await server.poll(sid)).text()).split("\x1e").filter((packet) => packet !== "2"));
      assert.deepEqual(payloads.flat(), sent);
      assert.ok(payloads.every((payload) => payload.length <= 16), JSON.stringify(payloads));
    });

    it("ends the session for what is no payload", async () => {
      for (const payload of ["abc", "", "\x1e", "4a\x1e", "4a\x1e\x1e4b", "b!", "2", "5", "4a\x1eabc", Buffer.from([0x34, 0xff])]) {
        const sid = await server.open();
        assert.equal((await server.post(sid, payload)).status, 400, JSON.stringify(payload));
        await over(sid, JSON.stringify(payload));
      }
    });

    it("lets the request that waits say that the session is over", async () => {
      const sid = await server.open();
      const waiting = server.poll(sid);
      const second = until("the request is there", async () => (await server.poll(sid)).status === 400);
      assert.equal(await (await waiting).text(), "1");
      await second;
      await over(sid);
    });

    it("ends the session when two requests bring packets", async () => {
      const sid = await server.open();
      const slow = http.request(`${server.url}/engine.io/?EIO=4&transport=polling&sid=${sid}`, {
        method: "POST",
        headers: { "content-length": 6 },
      });
      const answered = next(slow, "response");
      slow.write("4he");
      await until("the other is refused", async () => (await server.post(sid, "4x")).status === 400);
      await over(sid);
      slow.end("llo");
      const [response] = await answered;
      assert.equal(response.statusCode, 400);
      response.destroy();
    });

    it("ends the session when a request that waits goes away", async () => {
      const sid = await server.open();
      const leaving = net.connect(server.port, "127.0.0.1");
      const request = `GET /engine.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nHost: x\r\n\r\n`;
      await new Promise((resolve) => leaving.write(request, resolve));
      leaving.destroy();
      await until("it is over", async () => (await server.poll(sid)).status === 400);
    });

    it("ends the session when a request comes again that was answered: its answer was lost", async () => {
      const sid = await server.open();
      const times = { a: "1795272124.53768", b: "1795272124.6012345" };
      const fetch = (name) => server.poll(sid, { query: `&t=${times[name]}` });
      await server.post(sid, "4one");
      assert.equal(await (await fetch("a")).text(), "4one");
      await server.post(sid, "4two");
      assert.equal(await (await fetch("b")).text(), "4two");
      await server.post(sid, "4three");
      assert.equal(await (await fetch("a")).text(), "4three", "it is not the last one that comes again");
      await server.post(sid, "4four");
      assert.equal((await fetch("a")).status, 400);
      await over(sid);
    });

    it("believes no repetition of those whose requests may be marked alike", async () => {
      for (const t of ["1795272124", "3fa2", "OkT9.1"]) {
        const sid = await server.open();
        for (const text of ["4one", "4two", "4three"]) {
          await server.post(sid, text);
          assert.equal(await (await server.poll(sid, { query: `&t=${t}` })).text(), text);
        }
      }
    });

    it("refuses a payload over the limit, and takes one at it", async () => {
      const sid = await server.open();
      const fetching = server.fetched(sid, 1);
      const most = `4${"x".repeat(SETTINGS.maxPayload - 1)}`;
      assert.equal((await server.post(sid, most)).status, 200);
      assert.deepEqual(await fetching, [most]);
      assert.equal((await server.post(sid, `${most}x`)).status, 413);
      await over(sid);
    });

    it("answers pings and is asked again", async () => {
      const sid = await server.open();
      for (let count = 0; count < 3; count++) {
        assert.equal(await (await server.poll(sid)).text(), "2");
        assert.equal(await (await server.post(sid, "3")).text(), "ok");
      }
    });

    it("is closed by the client, and its waiting request let go", async () => {
      const sid = await server.open();
      const waiting = server.poll(sid);
      // A request of another session behind it on the same loop: the first has arrived.
      await server.open();
      assert.equal(await (await server.post(sid, "1")).text(), "ok");
      assert.equal(await (await waiting).text(), "6");
      await over(sid);
    });

    it("knows no other method", async () => {
      const sid = await server.open();
      assert.equal((await server.poll(sid, { method: "DELETE" })).status, 400);
      assert.equal((await server.post(sid, "4still")).status, 200);
    });
  });

  describe("over a WebSocket", () => {
    it("carries text and bytes", async () => {
      const ws = await server.session();
      ws.send("4hello");
      ws.send(Buffer.from([1, 2, 3, 4]));
      ws.send("4");
      await got(ws, "4hello", Buffer.from([1, 2, 3, 4]), "4");
      ws.close();
    });

    it("carries bytes in base64 as well", async () => {
      const ws = await server.session("/engine.io/", "&b64=1");
      for (const [text, bytes] of [["bAQIDBA==", [1, 2, 3, 4]], ["b/+8", [255, 239]], ["b", []]]) {
        ws.send(text);
        await got(ws, Buffer.from(bytes));
      }
      ws.close();
    });

    it("is closed for what is no packet", async () => {
      for (const packet of ["abc", "b!", "", "2", "0"]) {
        const ws = await server.session();
        ws.send(packet);
        assert.equal(await closed(ws), 1002, packet);
      }
    });

    it("is closed by the client's packet", async () => {
      const ws = await server.session();
      ws.send("1");
      assert.equal(await closed(ws), 1000);
    });

    it("is asked whether it is there", async () => {
      const ws = server.socket("/engine.io/?EIO=4&transport=websocket");
      let pings = 0;
      ws.on("message", (data) => (pings += data.toString() === "2"));
      await until("three pings", () => pings >= 3);
      ws.close();
    });

    it("refuses a message over the limit", async () => {
      const ws = await server.session();
      ws.send("4".padEnd(SETTINGS.maxPayload, "x"));
      await got(ws, "4".padEnd(SETTINGS.maxPayload, "x"));
      ws.send("4".padEnd(SETTINGS.maxPayload + 1, "x"));
      assert.equal(await closed(ws), 1009);
    });
  });

  describe("an upgrade", () => {
    it("takes over from long polling", async () => {
      const sid = await server.open();
      const waiting = server.poll(sid);
      const ws = await server.probe(sid);
      assert.equal(await (await waiting).text(), "6", "the waiting request is let go");
      ws.send("5");
      ws.send("4hello");
      await got(ws, "4hello");
      ws.close();
      await closed(ws);
      await over(sid);
    });

    it("lets nothing be lost, doubled or reordered", async () => {
      for (let round = 0; round < 20; round++) {
        const sid = await server.open();
        const sent = Array.from({ length: 40 }, (_, at) => `4${round} ${at}`);
        assert.equal((await server.post(sid, sent.slice(0, 20).join("\x1e"))).status, 200);
        const ws = await server.probe(sid);
        const first = round % 2 ? await server.fetched(sid, 20) : [];
        ws.send("5");
        sent.slice(20).forEach((packet) => ws.send(packet));
        const all = [...first, ...(await got(ws, ...Array(40 - first.length).fill(/^4/)))];
        assert.deepEqual(all, sent);
        ws.close();
      }
    });

    it("lets go of a request that comes when the WebSocket is there, and of what comes before it takes over", async () => {
      const sid = await server.open();
      const ws = await server.probe(sid);
      assert.match(await (await server.poll(sid)).text(), /^[26]$/, "nothing, or a ping that was due");
      assert.equal((await server.post(sid, "4over long polling")).status, 200);
      assert.deepEqual((await server.fetched(sid, 1)).filter((packet) => packet !== "6"), ["4over long polling"]);
      ws.send("5");
      ws.send("4over the WebSocket");
      await got(ws, "4over the WebSocket");
      ws.close();
    });

    it("refuses requests and other WebSockets behind it", async () => {
      const sid = await server.open();
      const ws = server.socket(`/engine.io/?EIO=4&transport=websocket&sid=${sid}`);
      await next(ws, "open");
      ws.send("2probe");
      ws.send("5");
      const response = await server.poll(sid);
      assert.deepEqual([response.status, (await response.json()).code], [400, 3]);
      assert.equal((await server.post(sid, "4x")).status, 400);
      const other = server.socket(`/engine.io/?EIO=4&transport=websocket&sid=${sid}`);
      assert.equal(await closed(other), 1000);
      ws.send("4hello");
      await got(ws, "3probe", "4hello");
      ws.close();
    });

    it("that fails leaves the session to its requests", async () => {
      const sid = await server.open();
      for (const word of ["4hello", "2prob", "1", null]) {
        const ws = await server.probe(sid);
        if (word === null) ws.terminate();
        else ws.send(word);
        await closed(ws);
        await until("another may probe", async () => (await server.post(sid, "4hello")).status === 200);
        assert.deepEqual((await server.fetched(sid, 1)).filter((packet) => packet !== "6"), ["4hello"], word);
      }
      const ws = await server.probe(sid);
      ws.send("5");
      ws.send("4at last");
      await got(ws, "4at last");
      ws.close();
    });

    it("is not possible for nobody's session", async () => {
      for (const sid of ["x", "AAAA".repeat(8)]) {
        const ws = server.socket(`/engine.io/?EIO=4&transport=websocket&sid=${sid}`);
        const [, response] = await next(ws, "unexpected-response");
        assert.equal(response.statusCode, 400);
        response.destroy();
      }
    });
  });
});

describe("Engine.IO with little patience", () => {
  let server;
  before(async () => (server = await ProtocolServer.start({ "ping-timeout-ms": 200 })));
  after(() => server.stop());

  it("ends sessions whose client does not answer", async () => {
    const ws = server.socket("/engine.io/?EIO=4&transport=websocket");
    ws.removeAllListeners("message");
    await closed(ws);
    const sid = await server.open();
    await until("the session is over", async () => (await server.post(sid, "4x")).status === 400);
  });

  it("gives up a WebSocket that never takes over", async () => {
    const impatient = await ProtocolServer.start({ "connect-timeout-ms": 200 });
    try {
      const ws = await impatient.probe(await impatient.open());
      assert.equal(await closed(ws), 1008);
    } finally {
      impatient.stop();
    }
  });
});
