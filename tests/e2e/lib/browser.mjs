// A headless Chromium, told over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)
// to open one page and to say what is wrong with it.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import WebSocket from "ws";
import { next, until } from "./wait.mjs";

const NAMES = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

// The browser's program; `tests/run` installs one.
function program() {
  const places = (process.env.PATH ?? "").split(":").flatMap((dir) => NAMES.map((name) => path.join(dir, name)));
  const found = NAMES.map((name) => places.find((place) => place.endsWith(`/${name}`) && existsSync(place))).find(Boolean);
  if (!found) throw new Error(`none of ${NAMES.join(", ")} is installed`);
  return found;
}

export class Page {
  // Opens an address; resolves when everything of it is loaded. `scheme`: "light" or "dark".
  static async open(url, { scheme = "light", width = 1280, height = 900 } = {}) {
    const page = new Page();
    try {
      await page.start(width, height);
      await page.tell("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      const { errorText } = await page.tell("Page.navigate", { url });
      if (errorText) throw new Error(`${url}: ${errorText}`);
      await until("the page is loaded", () => page.loaded, 60_000);
      return page;
    } catch (error) {
      await page.close();
      throw error;
    }
  }

  async start(width, height) {
    // What scripts and the console complain of, and every address that was asked for.
    Object.assign(this, { complaints: [], requests: [], loaded: false, said: "", asked: 0, waiting: new Map() });
    this.dir = mkdtempSync(path.join(os.tmpdir(), "minitalk-browser-"));
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
      "--remote-debugging-port=0", `--window-size=${width},${height}`, `--user-data-dir=${this.dir}`, "about:blank"];
    this.child = spawn(program(), flags, { stdio: ["ignore", "ignore", "pipe"], detached: true });
    this.child.stderr.setEncoding("utf8").on("data", (text) => (this.said += text));
    this.exited = new Promise((resolve) => this.child.on("exit", resolve));
    const [, address] = await Promise.race([
      until("the browser listens", () => /DevTools listening on (ws:\S+)/.exec(this.said), 60_000),
      this.exited.then((code) => Promise.reject(new Error(`the browser ended with ${code}:\n${this.said}`))),
    ]);
    this.socket = new WebSocket(address, { perMessageDeflate: false, maxPayload: 2 ** 28 });
    this.socket.on("message", (text) => this.hear(JSON.parse(text)));
    await next(this.socket, "open");
    const { targetInfos } = await this.tell("Target.getTargets");
    const { targetId } = targetInfos.find(({ type }) => type === "page");
    ({ sessionId: this.session } = await this.tell("Target.attachToTarget", { targetId, flatten: true }));
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await this.tell(`${domain}.enable`);
  }

  hear({ id, result, error, method, params }) {
    if (id !== undefined) {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      return error ? reject(new Error(error.message)) : resolve(result);
    }
    if (method === "Page.loadEventFired") this.loaded = true;
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    if (method === "Runtime.exceptionThrown") this.complaints.push(params.exceptionDetails.text);
    if (method === "Log.entryAdded") this.complaints.push(params.entry.text);
    if (method === "Runtime.consoleAPICalled" && params.type !== "log") {
      this.complaints.push(params.args.map((one) => one.value ?? one.description).join(" "));
    }
  }

  tell(method, params = {}) {
    const id = ++this.asked;
    this.socket.send(JSON.stringify({ id, method, params, sessionId: this.session }));
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  // What a function of the page's own world answers.
  async ask(question) {
    const expression = `(${question})()`;
    const { result, exceptionDetails } = await this.tell("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // The page as a PNG, as high as it is.
  async picture() {
    const { cssContentSize } = await this.tell("Page.getLayoutMetrics");
    const { width, height } = cssContentSize;
    const clip = { x: 0, y: 0, width, height, scale: 1 };
    const { data } = await this.tell("Page.captureScreenshot", { clip, captureBeyondViewport: true });
    return Buffer.from(data, "base64");
  }

  async close() {
    this.socket?.terminate();
    // Its whole group: the program may be a script around the browser, which has processes of its own.
    if (this.child?.exitCode === null) process.kill(-this.child.pid, "SIGKILL");
    await this.exited;
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }
}
