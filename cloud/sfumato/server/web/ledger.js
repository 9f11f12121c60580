/**
 * The account of what this browser sent (docs/ledger.md): the rules and the lines of `sfumato.runtime.ledger`, without storage.
 *
 *     const ledger = new Ledger(key, store);
 *     const account = await ledger.spend("photos.example", draw, 1.05);    // before anything is sent; throws over the limit
 *     sentence(account);        // Today 12 photos, at most 13.1 bits to photos.example; the limit is 100.
 *
 * A line is a JSON object, a space and HMAC(key, "line" || MAC of the line before || object) in hexadecimal. The anchor holds the number of
 * lines and the last MAC and is written after them: a line without its anchor was never sent.
 */

import {sha256, toHex} from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./noise.js").DeviceKey} DeviceKey */
/** @typedef {{day: number | null, total: number | null}} Limit millionths of a bit */
/** @typedef {{uploads: number, draws: number, microbits: number, unbounded: number}} Tally */
/** @typedef {{today: Tally, total: Tally, known: Set<string>}} Service */

/**
 * @typedef {object} Account
 * @property {string} service
 * @property {string} day UTC
 * @property {Tally} today
 * @property {Tally} total
 * @property {Limit} limit
 * @property {boolean} ahead the clock was put back: the account's day lies in its future
 * @property {string | null} lost last day on which entries were lost
 *
 * @typedef {object} Store
 * @property {(from: number) => Promise<{lines: string[], anchor: string | null}>} read the lines from this number on
 * @property {(from: number, lines: string[], anchor: string) => Promise<void>} write lines in place of all from this number on,
 *     then the anchor; both are on the disk when it ends
 * @property {<T>(work: () => Promise<T>) => Promise<T>} alone do this while no other tab does
 */

const SCHEMA = "sfumato-ledger/1";
const LABEL = encode("sfumato-ledger-v1");
const DRAW_BYTES = 16, MAC_DIGITS = 64, MICRO = 1_000_000;
const REPAIR = "press \"Repair the account\", which keeps what is whole and notes that entries were lost";

/** One more photo would pass the limit: it was not sent. */
export class LimitError extends Error {}

/** The account is not what was written: nothing may be sent. */
export class LedgerError extends Error {}

/** The entries and what they sum to. */
export class Book {
  day = "";
  /** @type {Map<string, Limit>} */
  limits = new Map();
  /** @type {string | null} */
  lost = null;
  /** @type {Map<string, Service>} */
  services = new Map();

  /** Take in one entry. @param {any} entry */
  apply(entry) {
    const {kind, day} = entry;
    if (day > this.day) {
      for (const service of this.services.values()) service.today = empty();
      this.day = day;
    }
    if (kind === "upload") this.#upload(entry.service, entry.draw, entry.microbits);
    else if (kind === "limit") this.limits.set(entry.service, {day: entry.limit_day, total: entry.limit_total});
    else if (kind === "clock") this.day = day;  // earlier than it was; what was counted in between stays counted for it
    else if (kind === "repair") this.lost = day;
    else if (kind !== "open" || entry.schema !== SCHEMA) throw new LedgerError(`this version knows no entry ${kind}`);
  }

  /** @param {string} name @param {string} draw @param {number | null} microbits */
  #upload(name, draw, microbits) {
    const service = this.services.get(name) ?? {today: empty(), total: empty(), known: new Set()};
    this.services.set(name, service);
    for (const tally of [service.today, service.total]) {
      tally.uploads++;
      if (service.known.has(draw)) continue;
      tally.draws++;
      tally.microbits += microbits ?? 0;
      tally.unbounded += microbits === null ? 1 : 0;
    }
    service.known.add(draw);
  }

  /** The account's day: the clock's, but never earlier than that of an entry. @param {string} clock */
  today(clock) {
    return clock > this.day ? clock : this.day;
  }

  /** What a service was sent. @param {string} name @param {string} clock @returns {Account} */
  account(name, clock) {
    const found = this.services.get(name), day = this.today(clock), limit = this.limits.get(name) ?? this.limits.get("*");
    return {
      service: name,
      day,
      today: {...(found && day === this.day ? found.today : empty())},
      total: {...(found?.total ?? empty())},
      limit: limit ?? {day: null, total: null},
      ahead: this.day > clock,
      lost: this.lost,
    };
  }

  /** Why one more draw must not be sent; empty where it may. @param {string} name @param {number | null} microbits @param {string} clock */
  refusal(name, microbits, clock) {
    const {limit, today, total} = this.account(name, clock);
    /** @type {[number | null, Tally, string][]} */
    const sums = [[limit.day, today, "today"], [limit.total, total, "in all"]];
    for (const [most, tally, when] of sums) {
      if (most === null) continue;
      if (microbits === null) {
        return `${name}: the bits of this photo have no bound here and the limit is ${plain(most)} ${when}: nothing was sent`;
      }
      if (tally.microbits + microbits > most) {
        const wait = when === "today" ? "wait for the next day (UTC) or " : "";
        return `${name}: this photo's ${upwards(microbits)} bits would make ${upwards(tally.microbits + microbits)} ${when} and the `
          + `limit is ${plain(most)}: nothing was sent; ${wait}raise the limit`;
      }
    }
    return "";
  }
}

/** The account in words, for the user. @param {Account} account */
export function sentence({service, day, today, total, limit, ahead, lost}) {
  const limits = limit.day === null ? [] : [`the limit is ${plain(limit.day)}`];
  if (limit.total !== null) limits.push(`the limit for all days is ${plain(limit.total)}, ${upwards(total.microbits)} are spent`);
  const beyond = today.unbounded ? ` (and ${photos(today.unbounded)} without a bound)` : "";
  let text = `Today ${photos(today.draws)}, at most ${upwards(today.microbits)} bits${beyond} to ${service}; `
    + `${limits.join("; ") || "no limit is set"}.`;
  if (ahead) text += ` The clock was put back: the day of this account stays ${day} until the clock is there again.`;
  if (lost) text += ` Entries were lost on ${lost}: the sums may be too low.`;
  return text;
}

/** The account in its store. Only one thing is done at a time. */
export class Ledger {
  #book = new Book();
  #lines = 0;
  #mac = new Uint8Array(32);

  /** @param {CryptoKey} key HMAC-SHA256, for this account alone @param {Store} store @param {() => number} clock milliseconds */
  constructor(key, store, clock = Date.now) {
    this.key = key;
    this.store = store;
    this.clock = clock;
  }

  /**
   * Count one upload, before it is sent.
   *
   * @param {string} service
   * @param {Bytes} draw of `drawId`
   * @param {number | null} bits at most; null: no bound can be computed
   * @returns {Promise<Account>} with this upload in it
   */
  spend(service, draw, bits) {
    return this.#held(async () => {
      const day = this.#book.today(this.#today()), name = toHex(draw), repeated = this.#book.services.get(service)?.known.has(name);
      const microbits = repeated ? 0 : bits === null ? null : Math.ceil(checked(bits) * MICRO);
      const refusal = repeated ? "" : this.#book.refusal(service, microbits, day);
      if (refusal) throw new LimitError(refusal);
      await this.#append({kind: "upload", day, service, draw: name, microbits});
      return this.#book.account(service, day);
    });
  }

  /** Limit the bits of a service; null: no limit. @param {string} service @param {number | null} day @param {number | null} total */
  setLimit(service, day, total) {
    const micro = (/** @type {number | null} */ bits) => (bits === null ? null : Math.round(checked(bits) * MICRO));
    const limits = {limit_day: micro(day), limit_total: micro(total)};
    return this.#held(() => this.#append({kind: "limit", day: this.#book.today(this.#today()), service, ...limits}));
  }

  /** The clock was wrong and is right now: the account goes on at its day. */
  acceptClock() {
    return this.#held(() => this.#append({kind: "clock", day: this.#today()}));
  }

  /** What a service was sent. @param {string} service @returns {Promise<Account>} */
  account(service) {
    return this.#held(async () => this.#book.account(service, this.#today()));
  }

  /** Keep the lines up to the first that does not verify, and note that others were lost. */
  repair() {
    return this.store.alone(async () => {
      this.#forget();
      await this.#take((await this.store.read(0)).lines, null);
      if (this.#lines === 0) await this.#append(this.#opening());
      await this.#append({kind: "repair", day: this.#book.today(this.#today())});
    });
  }

  #forget() {
    this.#book = new Book();
    this.#lines = 0;
    this.#mac = new Uint8Array(32);
  }

  /** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #held(work) {
    return this.store.alone(async () => {
      try {
        await this.#catchUp();
        return await work();
      } catch (error) {
        this.#forget();  // the book may hold what the store does not: read it anew
        throw error;
      }
    });
  }

  /** Take in what is new and compare it with the anchor. */
  async #catchUp() {
    // With the last line that is known: it must still be there.
    let {lines, anchor} = await this.store.read(Math.max(this.#lines - 1, 0));
    if (this.#lines > 0 && lines[0]?.slice(-MAC_DIGITS) !== toHex(this.#mac)) {
      this.#forget();
      ({lines} = await this.store.read(0));
    } else if (this.#lines > 0) {
      lines = lines.slice(1);
    }
    const anchored = anchor === null ? null : await this.#readAnchor(anchor);
    if (!anchored && (this.#lines > 0 || lines.length > 1)) throw new LedgerError(`this browser's account has no anchor: ${REPAIR}`);
    const found = this.#lines + lines.length;
    await this.#take(lines, anchored);
    if (anchored && this.#lines < anchored.lines) {
      const what = this.#lines === found ? `holds ${found} entries and had ${anchored.lines}, an older copy`
        : `is damaged at entry ${this.#lines + 1}`;
      throw new LedgerError(`this browser's account ${what}: ${REPAIR}`);
    }
    if (this.#lines === 0) await this.#append(this.#opening());
    else if (!anchored) await this.#append();
  }

  #opening() {
    return {kind: "open", day: this.#today(), schema: SCHEMA};
  }

  #today() {
    return new Date(this.clock()).toISOString().slice(0, 10);
  }

  /** Take in lines as long as they verify. @param {string[]} lines @param {{lines: number, mac: string} | null} anchored */
  async #take(lines, anchored) {
    for (const line of lines) {
      const text = line.slice(0, -MAC_DIGITS - 1), mac = await this.#seal("line", this.#mac, encode(text));
      if (line.slice(text.length) !== ` ${toHex(mac)}`) return;
      if (anchored && this.#lines + 1 === anchored.lines && toHex(mac) !== anchored.mac) return;
      this.#book.apply(JSON.parse(text));
      this.#lines++;
      this.#mac = mac;
    }
  }

  /** Add an entry and the anchor; without one the anchor alone. @param {object} [entry] */
  async #append(entry) {
    const from = this.#lines, lines = [];
    if (entry) {
      const text = JSON.stringify(entry);
      this.#mac = await this.#seal("line", this.#mac, encode(text));
      this.#lines++;
      lines.push(`${text} ${toHex(this.#mac)}`);
      this.#book.apply(entry);
    }
    const anchor = JSON.stringify({key: await this.#fingerprint(), lines: this.#lines, mac: toHex(this.#mac)});
    await this.store.write(from, lines, `${anchor} ${toHex(await this.#seal("anchor", encode(anchor)))}`);
  }

  /** @param {string} content */
  async #readAnchor(content) {
    const text = content.slice(0, -MAC_DIGITS - 1);
    if (content.slice(text.length) !== ` ${toHex(await this.#seal("anchor", encode(text)))}`) {
      throw new LedgerError(`the anchor of this browser's account is damaged or of another key: ${REPAIR}`);
    }
    return /** @type {{lines: number, mac: string}} */ (JSON.parse(text));
  }

  async #fingerprint() {
    return toHex((await this.#seal("name")).slice(0, 8));
  }

  /** @param {string} label @param {Bytes[]} parts @returns {Promise<Bytes>} */
  #seal(label, ...parts) {
    return hmac(this.key, encode(label), ...parts);
  }
}

/**
 * What an account remembers of a draw, 16 bytes. Without the device key it tells nothing about the photo.
 *
 * @param {DeviceKey} device
 * @param {Bytes} contract SHA-256 of contract.json
 * @param {Bytes} parameters the bytes q of all outputs, in the order of the contract
 * @param {Bytes} pixels
 */
export async function drawId(device, contract, parameters, pixels) {
  return (await hmac(await ledgerKey(device), encode("draw"), contract, await sha256(parameters), await sha256(pixels))).slice(0, DRAW_BYTES);
}

/** The key that follows from a device key for its draws. @param {DeviceKey} device @returns {Promise<CryptoKey>} */
export async function ledgerKey(device) {
  const secret = await hmac(device.mac, LABEL);
  return crypto.subtle.importKey("raw", secret, {name: "HMAC", hash: "SHA-256"}, false, ["sign"]);
}

/** @param {CryptoKey} key @param {Bytes[]} parts @returns {Promise<Bytes>} */
async function hmac(key, ...parts) {
  const message = new Uint8Array(parts.flatMap((part) => [...part]));
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, message));
}

/** @returns {Tally} */
function empty() {
  return {uploads: 0, draws: 0, microbits: 0, unbounded: 0};
}

/** @param {number} bits */
function checked(bits) {
  if (!(bits >= 0 && bits <= 1e9)) throw new Error(`bits are a number from 0 to 1e9, not ${bits}`);
  return bits;
}

/** Bits as short as they are exact. @param {number} microbits */
function plain(microbits) {
  return String(microbits / MICRO);
}

/** Bits with one decimal, rounded up, so that "at most" is true. @param {number} microbits */
function upwards(microbits) {
  const tenths = Math.ceil(microbits / (MICRO / 10));
  return `${Math.floor(tenths / 10)}.${tenths % 10}`;
}

/** @param {number} number */
function photos(number) {
  return `${number} photo${number === 1 ? "" : "s"}`;
}

/** @param {string} text @returns {Bytes} */
function encode(text) {
  return new TextEncoder().encode(text);
}
