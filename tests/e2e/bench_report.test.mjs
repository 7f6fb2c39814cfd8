// The load tester's HTML report of a real run, opened in a real browser.

import { strict as assert } from "node:assert";
import { execFile } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Page } from "./lib/browser.mjs";
import { binary, Server } from "./lib/server.mjs";

let server;
let report;

before(async () => {
  server = await Server.start();
  report = path.join(server.dir, "report.html");
  const load = ["--users", "12", "--rooms", "3", "--rate", "60", "--duration", "4s", "--reconnect-storm", "50"];
  const output = ["--html", report, "--fail-if", "lost>0", "--fail-if", "p99>3600s"];
  await promisify(execFile)(binary, ["bench", "quick", "--target", `127.0.0.1:${server.port}`, ...load, ...output]);
  assert.ok(existsSync(report));
});

after(() => server?.destroy());

// Every chart: its title, and of each of its lines how many points it has and how large it is.
const CHARTS = `() => [...document.querySelectorAll("figure")].map((figure) => ({
  title: figure.querySelector("h3").textContent,
  lines: [...figure.querySelectorAll(".chart path.line, .chart path.columns")].map((path) => {
    const box = path.getBoundingClientRect();
    const points = path.getAttribute("d").match(/[ML]/g).length;
    return { points, width: box.width, height: box.height, ink: getComputedStyle(path).stroke };
  }),
}))`;

for (const scheme of ["light", "dark"]) {
  test(`a report shows every chart, on a ${scheme} page, and asks for nothing`, async () => {
    const page = await Page.open(pathToFileURL(report).href, { scheme });
    try {
      const charts = await page.ask(CHARTS);
      assert.deepEqual(charts.map(({ title }) => title), [
        "Messages sent", "Messages delivered", "Acknowledgement latency", "Delivery latency",
        "How latencies are spread", "Connections", "Balance of the workers", "The server's memory",
        "The server's queues", "The load tester itself",
      ]);
      for (const { title, lines } of charts) {
        assert.ok(lines.length > 0, `${title} has no line`);
        const drawn = lines.filter(({ points, width }) => points >= 3 && width > 50);
        assert.ok(drawn.length > 0, `${title}: ${JSON.stringify(lines)}`);
        for (const { ink } of lines) assert.match(ink, /^rgb\(/, title);
      }
      // Memory may be level; what the load goes through from its begin to its end cannot be.
      for (const { title, lines } of charts.slice(0, 5)) {
        assert.ok(lines.some(({ height }) => height > 5), `${title} is flat: ${JSON.stringify(lines)}`);
      }
      const text = await page.ask("() => document.body.innerText");
      assert.match(text, /Correct\s+0 lost, 0 duplicated, 0 out of order, 0 foreign, 0 unanswered/);
      assert.match(text, /reconnect storm/);
      assert.equal(await page.ask("() => document.scripts.length"), 0);
      // Nothing is cut off at the side.
      assert.ok(await page.ask("() => document.documentElement.scrollWidth <= innerWidth"));
      assert.deepEqual(page.complaints, []);
      assert.deepEqual(page.requests, [pathToFileURL(report).href]);
      const pictures = process.env.MINITALK_PICTURES; // a directory, for whoever wants to see them
      if (pictures) writeFileSync(path.join(pictures, `report-${scheme}.png`), await page.picture());
    } finally {
      await page.close();
    }
  });
}
