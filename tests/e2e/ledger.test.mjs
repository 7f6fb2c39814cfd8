// The checker checked: true books pass, and every kind of doctored ones is noticed.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FAULTS, Ledger } from "./lib/ledger.mjs";

// Six messages in two rooms; one receiver of both rooms over three connections, one of room "a" only.
function trueBooks() {
  const log = Array.from({ length: 6 }, (_, at) => ({
    seq: at + 1, id: `id${at}`, roomId: at % 2 ? "b" : "a", sender: "s", content: `c${at}`,
    timestamp: "2026-01-01T00:00:00.000Z", clientId: `k${at}`,
  }));
  const ledger = new Ledger();
  for (const m of log) {
    ledger.send(m.sender, m.clientId, m.roomId, m.content);
    ledger.ack(m.sender, m.clientId, m);
  }
  const both = ledger.receiver(["a", "b"]);
  both.connected(false);
  [1, 2].forEach((seq) => both.heard(log[seq - 1]));
  both.connected(true);
  [3, 4, 5].forEach((seq) => both.heard(log[seq - 1]));
  both.connected(true);
  both.heard(log[5]);
  const one = ledger.receiver(["a"]);
  one.connected(false);
  [1, 3, 5].forEach((seq) => one.heard(log[seq - 1]));
  return { log, ledger, both, one };
}

function noticed(doctor) {
  const books = trueBooks();
  const log = doctor(books) ?? books.log;
  const { counts } = books.ledger.judge(log);
  return FAULTS.filter((fault) => counts[fault] > 0);
}

describe("the kill checker", () => {
  it("passes true books", () => {
    const { ledger, log } = trueBooks();
    const verdict = ledger.judge(log);
    assert.ok(verdict.clean, `${verdict}`);
    assert.equal(`${verdict}`, FAULTS.map((fault) => `${fault} 0`).join(", "));
  });

  const doctored = {
    "a record lost at the end": [(b) => b.log.slice(0, 5), ["acked and missing", "invented"]],
    "a record lost in the middle": [(b) => b.log.filter((m) => m.seq !== 3), ["acked and missing", "invented", "log gaps"]],
    "a record stored again": [(b) => [...b.log, { ...b.log[5], seq: 7, id: "id7" }], ["stored twice", "never heard"]],
    "a record nobody sent": [(b) => [...b.log, { ...b.log[5], seq: 7, clientId: "k7" }], ["invented", "never heard"]],
    "a record with other words": [(b) => b.log.map((m) => (m.seq === 2 ? { ...m, content: "x" } : m)), ["invented"]],
    "a record in another room": [(b) => b.log.map((m) => (m.seq === 6 ? { ...m, roomId: "a" } : m)), ["invented", "never heard"]],
    "a seq heard again after coming back": [(b) => { b.one.connected(true); b.one.heard(b.log[4]); }, ["seen twice"]],
    "a client taken for a new one": [(b) => b.both.connected(false), ["not recovered"]],
    "a seq heard again": [(b) => b.one.heard(b.log[4]), ["seen twice"]],
    "an older seq heard again": [(b) => b.one.heard(b.log[0]), ["seen twice"]],
    "two heard in the other order": [(b) => void (b.one.seqs = [1, 5, 3]), ["order different"]],
    "an event out of thin air": [(b) => b.one.heard({ ...b.log[5], seq: 8 }), ["invented"]],
    "an event with another id": [(b) => b.one.heard({ ...b.log[0], id: "other", seq: 9 }), ["invented"]],
    "an event told in two ways": [(b) => { b.both.seqs.pop(); b.both.heard({ ...b.log[5], content: "x" }); }, ["invented"]],
    "an event of a room one is not in": [(b) => b.one.heard(b.log[5]), ["invented"]],
    "an ack of another seq": [(b) => b.ledger.ack("s", "k0", { ...b.log[0], seq: 2 }), ["invented"]],
    "an ack of another time": [(b) => b.ledger.ack("s", "k0", { ...b.log[0], timestamp: "" }), ["invented"]],
    "an ack of something not stored": [(b) => b.ledger.ack("s", "k9", { id: "i", seq: 9 }), ["acked and missing"]],
    "one left out between two": [(b) => void (b.one.seqs = [1, 5]), ["never heard"]],
    "the last one never heard": [(b) => void (b.one.seqs = [1, 3]), ["never heard"]],
    "nothing heard": [(b) => void (b.one.seqs = []), ["never heard"]],
  };
  for (const [what, [doctor, faults]] of Object.entries(doctored))
    it(`notices ${what}`, () => assert.deepEqual(noticed(doctor), faults));
});
