// Stock Socket.IO clients, and raw WebSocket ones for what no stock client would send.

import { io } from "socket.io-client";
import WebSocket from "ws";
import { next, until } from "./wait.mjs";

const STOCK = { transports: ["websocket"], forceNew: true, reconnection: false };

// A client that has not connected yet.
export function client(server, options = {}) {
  return io(server.url, { ...STOCK, autoConnect: false, ...options });
}

// A connected client of that user; `heard` collects its `message` events, `errors` its `error` events.
export async function connect(server, user, options = {}) {
  const socket = client(server, { auth: { token: user.token }, ...options });
  socket.heard = [];
  socket.errors = [];
  socket.on("message", (message) => socket.heard.push(message));
  socket.on("error", (error) => socket.errors.push(error));
  await connected(socket);
  return socket;
}

export function connected(socket) {
  return new Promise((resolve, reject) => {
    socket.once("connect", resolve).once("connect_error", reject);
    socket.connect();
  });
}

// The message of the CONNECT_ERROR that this client must get.
export async function refusal(server, options, namespace = "") {
  const socket = io(server.url + namespace, { ...STOCK, ...options });
  try {
    return await new Promise((resolve, reject) => {
      socket.once("connect_error", resolve).once("connect", () => reject(new Error("it was let in")));
    });
  } finally {
    socket.disconnect();
  }
}

// The worker that serves this client.
export function workerOf(server, socket) {
  return server.workerOfPort(socket.io.engine.transport.ws._socket.localPort);
}

// A connected client of that user on that worker: tries until the kernel has dealt it there.
export async function connectOn(server, worker, user, options = {}) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const socket = await connect(server, user, options);
    if ((await until("the client's worker", () => workerOf(server, socket) !== null)) && workerOf(server, socket) === worker)
      return socket;
    socket.disconnect();
  }
  throw new Error(`200 connections and none on worker ${worker}`);
}

// One client per user, alternating over two workers.
export async function connectSpread(server, users, options = {}) {
  const sockets = [];
  for (const [at, user] of users.entries()) sockets.push(await connectOn(server, at % 2, user, options));
  return sockets;
}

// The ack of an event.
export function ask(socket, event, ...args) {
  return socket.timeout(30_000).emitWithAck(event, ...args);
}

// Sends and answers the ack, which must be a good one.
export async function say(socket, roomId, content, more = {}) {
  const ack = await ask(socket, "send_message", { roomId, content, ...more });
  if (ack?.ok !== true) throw new Error(`not acked: ${JSON.stringify(ack)}`);
  return ack;
}

// Resolves when the client has heard a message with that content.
export function hears(socket, content) {
  return until(`"${content}" is heard`, () => socket.heard.find((message) => message.content === content));
}

// A raw WebSocket that has had the Engine.IO handshake; `frames` are what came since, `closed` the
// close code once there is one. `token` also does the Socket.IO CONNECT.
export async function raw(server, { token, answerPings = true, query = "", options = {} } = {}) {
  const url = `ws://127.0.0.1:${server.port}/socket.io/?EIO=4&transport=websocket${query}`;
  const ws = new WebSocket(url, { perMessageDeflate: false, ...options });
  Object.assign(ws, { frames: [], pings: 0, closed: null });
  ws.on("error", () => {}); // what matters is the close that follows
  ws.on("close", (code, reason) => (ws.closed = { code, reason: reason.toString() }));
  ws.on("message", (data, isBinary) => {
    const text = isBinary ? data : data.toString();
    if (text === "2") {
      ws.pings += 1;
      if (answerPings) ws.send("3");
    } else ws.frames.push(text);
  });
  await Promise.race([
    next(ws, "open"),
    next(ws, "close").then(([code]) => Promise.reject(new Error(`closed with ${code} at the handshake`))),
  ]);
  ws.handshake = JSON.parse((await frame(ws, "0{")).slice(1));
  if (token) {
    ws.send(`40${JSON.stringify({ token })}`);
    await frame(ws, "40{");
  }
  return ws;
}

// The first frame, come or to come, that begins so.
export function frame(ws, prefix) {
  return until(`a frame ${prefix}…`, () => {
    if (ws.closed) throw new Error(`closed with ${ws.closed.code}; frames: ${ws.frames.join(" ")}`);
    return ws.frames.find((text) => typeof text === "string" && text.startsWith(prefix));
  });
}

export function closing(ws) {
  return until("the server closes the connection", () => ws.closed);
}
