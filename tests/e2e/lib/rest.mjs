// The REST surface, each call on a connection of its own so that calls spread over the workers.

import http from "node:http";

// Answers {status, headers, body}; the body is parsed when it is JSON. `payload` may be a Buffer or
// string, sent as it is, for bodies that are not what they should be.
export function call(server, method, path, { token, payload, headers = {} } = {}) {
  const raw = payload === undefined || Buffer.isBuffer(payload) || typeof payload === "string";
  const bytes = payload === undefined ? null : Buffer.from(raw ? payload : JSON.stringify(payload));
  const all = { ...headers };
  if (bytes) Object.assign(all, { "content-type": "application/json", "content-length": bytes.length });
  if (token) all.authorization = `Bearer ${token}`;
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port: server.port, method, path, headers: all, agent: false };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk)).on("error", reject).on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({ status: response.statusCode, headers: response.headers, body: parsed(text) });
      });
    });
    request.on("error", reject);
    request.end(bytes);
  });
}

// The body of a call that must succeed.
export async function ok(server, method, path, token, payload) {
  const { status, body } = await call(server, method, path, { token, payload });
  if (status < 200 || status > 299) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(body)}`);
  return body;
}

// New users {username, token, userId}, named `prefix` and a number.
export async function newUsers(server, prefix, count) {
  const users = Array.from({ length: count }, (_, at) => ({ username: `${prefix}${at}`, password: "password" }));
  const created = await ok(server, "POST", "/api/auth/signup-batch", undefined, { users });
  if (created.created.length !== count) throw new Error(`signup: ${JSON.stringify(created.errors)}`);
  const login = await ok(server, "POST", "/api/auth/login-batch", undefined, { users });
  if (login.results.length !== count) throw new Error(`login: ${JSON.stringify(login.errors)}`);
  return login.results;
}

// The id of a new room of these users; the first one creates it.
export async function newRoom(server, users, name = "room") {
  const participants = users.slice(1).map((user) => user.username);
  return (await ok(server, "POST", "/api/chatrooms", users[0].token, { name, participants })).roomId;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
