// Participants of live challenges: members by test-login, tickets, and the npm client `ws`.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import WebSocket from "ws";
import { call } from "./rest.mjs";
import { next, until } from "./wait.mjs";

export const CHALLENGE = `[challenge]\ntest_login = true\nready_before = "1h"\n`;

// The data of a call on the challenge surface; every answer is looked at for its envelope.
export async function ask(server, method, path, token, payload, expected = undefined) {
  const { status, body } = await call(server, method, `/api/v1${path}`, { token, payload });
  const names = Object.keys(body).sort().join();
  if (names !== "code,data,isSuccess,message") throw new Error(`${method} ${path}: no envelope: ${JSON.stringify(body)}`);
  if (body.code !== status || body.isSuccess !== status < 400 || typeof body.message !== "string" || !body.message)
    throw new Error(`${method} ${path}: ${status}, but ${JSON.stringify(body)}`);
  if (expected === undefined ? status >= 400 : status !== expected)
    throw new Error(`${method} ${path}: ${status} ${JSON.stringify(body)}`);
  return body.data;
}

// Members {id, name, token}, logged in without a password.
export async function newMembers(server, prefix, count) {
  const users = Array.from({ length: count }, (_, at) => ({
    username: `${prefix}${at}`, password: "p", nickname: `닉${at}`, profileImage: `http://img/${prefix}${at}`,
  }));
  const { body } = await call(server, "POST", "/api/auth/signup-batch", { payload: { users } });
  const members = [];
  for (const { id, username } of body.created) {
    const { accessToken } = await ask(server, "POST", `/auth/test-login?memberId=${id}`);
    members.push({ id, name: username, token: accessToken });
  }
  if (members.length !== count) throw new Error(`signup: ${JSON.stringify(body.errors)}`);
  return members;
}

// The moment so many milliseconds from now, as REST takes it.
export const later = (ms) => new Date(Date.now() + ms).toISOString();

export function newChallenge(server, member, more = {}) {
  const body = {
    title: "새해 달리기", description: "", maxParticipants: 100, startAt: later(600_000), distance: "M100",
    isPrivate: false, password: null, isBroadcast: true, ...more,
  };
  return ask(server, "POST", "/admin/challenges", member.token, body, 201);
}

export const join = (server, id, member, payload) => ask(server, "POST", `/challenges/${id}/join`, member.token, payload, 201);

export const enter = (server, id, member) => ask(server, "POST", `/challenges/${id}/enter`, member.token, undefined, 200);

// Why a member is not let in.
export async function whyNot(server, id, member) {
  const { status, body } = await call(server, "POST", `/api/v1/challenges/${id}/enter`, { token: member.token });
  if (status !== 409) throw new Error(`enter: ${status} ${JSON.stringify(body)}`);
  return body.message;
}

// A WebSocket of `query` that collects what it hears; `closed` is its close once there is one.
export function socket(server, query, { path = "/ws/any", ...options } = {}) {
  const ws = new WebSocket(`ws://127.0.0.1:${server.port}${path}${query}`, { perMessageDeflate: false, ...options });
  Object.assign(ws, { heard: [], closed: null });
  ws.on("error", () => {}); // what matters is the close that follows
  ws.on("close", (code, reason) => (ws.closed = { code, reason: reason.toString() }));
  ws.on("message", (data) => ws.heard.push(JSON.parse(data.toString())));
  ws.say = (message) => ws.send(typeof message === "string" ? message : JSON.stringify(message));
  return ws;
}

export const record = (distance, pace = 6) => ({ type: "RECORD", distance, pace, timestamp: Date.now() });

// The first message of that type, come or to come, that fits.
export function hears(ws, type, fits = () => true) {
  return until(`${type} is heard`, () => {
    const found = ws.heard.find((message) => message.type === type && fits(message));
    if (!found && ws.closed) throw new Error(`closed with ${ws.closed.code} ${ws.closed.reason}`);
    return found;
  });
}

export const closing = (ws) => until("the server closes the connection", () => ws.closed);

// A member that is in, with a fresh ticket; `connected` is what CONNECTED said.
export async function race(server, id, member, options = {}) {
  const { ticket } = await enter(server, id, member);
  const ws = socket(server, `?ticket=${ticket}`, options);
  ws.connected = await hears(ws, "CONNECTED");
  ws.member = member;
  return ws;
}

// The same on that worker.
export async function raceOn(server, worker, id, member) {
  const stream = await connectionOn(server, worker);
  return race(server, id, member, { createConnection: () => stream });
}

// A connection to that worker: tries until the kernel has dealt one there.
async function connectionOn(server, worker) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const stream = net.connect(server.port, "127.0.0.1");
    await next(stream, "connect");
    let at = null;
    await until("the connection's worker", () => (at = server.workerOfPort(stream.localPort)) !== null);
    if (at === worker) return stream;
    stream.destroy();
  }
  throw new Error(`200 connections and none to worker ${worker}`);
}

// How each participant stands, by member.
export async function statuses(server, id, member) {
  const { participants } = await ask(server, "GET", `/challenges/${id}`, member.token);
  return Object.fromEntries(participants.map(({ memberId, status }) => [memberId, status]));
}

// Everybody in the ranking.
export async function ranking(server, id, member) {
  const places = [];
  for (let page = 0; ; page++) {
    const data = await ask(server, "GET", `/challenges/${id}/ranking?page=${page}&size=100`, member.token);
    places.push(...data.content);
    if (!data.hasNext) return places;
  }
}

// What those hear who watch a challenge.
export function watch(server, id) {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port: server.port, path: `/api/v1/challenges/${id}/stream`, agent: false };
    const request = http.get(options, (response) => {
      assert.deepEqual([response.statusCode, response.headers["content-type"]], [200, "text/event-stream"]);
      const heard = { events: [], request, ended: false };
      let text = "";
      response.on("close", () => (heard.ended = true));
      response.setEncoding("utf8").on("error", () => {}).on("data", (more) => {
        const parts = (text += more).split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const match = /^event: (.*)\ndata: (.*)$/.exec(part);
          if (match) heard.events.push({ event: match[1], ...JSON.parse(match[2]) });
        }
      });
      resolve(heard);
    }).on("error", reject);
  });
}
