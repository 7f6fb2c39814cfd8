// What clients were told, and the verdict on it: compared with the log, is anything lost, doubled,
// reordered or invented? Pure bookkeeping, so that it can itself be tested with doctored data.

export const FAULTS = [
  "acked and missing", // acked to a sender, not in the log
  "stored twice",      // one (sender, clientId) more than once in the log
  "seen twice",        // one client got a seq again, over whatever connection
  "order different",   // a socket got an older seq after a newer one, so two sockets disagree
  "invented",          // told to somebody but not what the log says, or in the log and sent by nobody
  "never heard",       // neither live nor on the way back
  "not recovered",     // a client that came back was taken for a new one
  "log gaps",          // the log's own numbering has a hole
];

const key = (sender, clientId) => `${sender}\n${clientId}`;
const text = (m) => JSON.stringify([m.id, m.roomId, m.sender, m.content, m.timestamp, m.clientId]);

export class Ledger {
  constructor() {
    this.sent = new Map(); // key -> {roomId, content}
    this.acks = []; // {key, id, seq, timestamp}
    this.told = new Map(); // seq -> the message's text as first told to anybody
    this.contradictions = 0; // told differently later
    this.receivers = [];
  }

  send(sender, clientId, roomId, content) {
    this.sent.set(key(sender, clientId), { roomId, content });
  }

  ack(sender, clientId, { id, seq, timestamp }) {
    this.acks.push({ key: key(sender, clientId), id, seq, timestamp });
  }

  receiver(rooms) {
    const receiver = new Receiver(this, rooms);
    this.receivers.push(receiver);
    return receiver;
  }

  tell(message) {
    const words = text(message);
    const before = this.told.get(message.seq);
    if (before === undefined) this.told.set(message.seq, words);
    else if (before !== words) this.contradictions += 1;
  }

  // Counts of each fault, and one example of each that occurred.
  judge(log) {
    const verdict = new Verdict();
    const bySeq = new Map(log.map((m) => [m.seq, m]));
    const byKey = new Map();
    log.forEach((m, at) => {
      if (m.seq !== at + 1) verdict.add("log gaps", m);
      const name = key(m.sender, m.clientId);
      if (byKey.has(name)) verdict.add("stored twice", m);
      else byKey.set(name, m);
      const sent = this.sent.get(name);
      if (sent?.roomId !== m.roomId || sent?.content !== m.content) verdict.add("invented", m);
    });
    for (const ack of this.acks) {
      const stored = byKey.get(ack.key);
      if (!stored) verdict.add("acked and missing", ack);
      else if (["id", "seq", "timestamp"].some((field) => stored[field] !== ack[field])) verdict.add("invented", ack);
    }
    for (const [seq, words] of this.told)
      if (!bySeq.has(seq) || text(bySeq.get(seq)) !== words) verdict.add("invented", words);
    if (this.contradictions) verdict.add("invented", "one seq told in two ways", this.contradictions);
    const byRoom = groupByRoom(log);
    for (const receiver of this.receivers) receiver.judge(verdict, bySeq, byRoom);
    return verdict;
  }
}

class Receiver {
  constructor(ledger, rooms) {
    Object.assign(this, { ledger, rooms, connections: 0, recovered: 0, seqs: [] });
  }

  connected(recovered) {
    this.connections += 1;
    if (recovered) this.recovered += 1;
  }

  heard(message) {
    this.ledger.tell(message);
    this.seqs.push(message.seq);
  }

  judge(verdict, bySeq, byRoom) {
    const seen = new Set();
    let newest = 0;
    for (const seq of this.seqs) {
      if (seen.has(seq)) verdict.add("seen twice", seq);
      else if (seq < newest) verdict.add("order different", [newest, seq]);
      newest = Math.max(newest, seq);
      seen.add(seq);
      if (bySeq.has(seq) && !this.rooms.includes(bySeq.get(seq).roomId)) verdict.add("invented", `${seq}: not its room`);
    }
    for (const room of this.rooms)
      for (const { seq } of byRoom.get(room) ?? []) if (!seen.has(seq)) verdict.add("never heard", seq);
    const anew = Math.max(0, this.connections - 1) - this.recovered;
    if (anew !== 0) verdict.add("not recovered", `${this.recovered} of ${this.connections} connections`, Math.abs(anew));
  }
}

class Verdict {
  constructor() {
    this.counts = Object.fromEntries(FAULTS.map((fault) => [fault, 0]));
    this.examples = {};
  }

  add(fault, example, count = 1) {
    this.counts[fault] += count;
    this.examples[fault] ??= example;
  }

  get clean() {
    return FAULTS.every((fault) => this.counts[fault] === 0);
  }

  toString() {
    return FAULTS.map((fault) => `${fault} ${this.counts[fault]}`).join(", ");
  }
}

function groupByRoom(log) {
  const rooms = new Map();
  for (const m of log) {
    if (!rooms.has(m.roomId)) rooms.set(m.roomId, []);
    rooms.get(m.roomId).push(m);
  }
  return rooms;
}
