/**
 * Where the account of this browser lies: lines and key in IndexedDB, the anchor in localStorage, so that an older copy of one
 * of them alone is noticed. The key is made here, can be used and never be read out; a new device key leaves the account as it is.
 *
 *     const ledger = await openLedger();
 */

import {Ledger, LedgerError} from "./ledger.js";

/** @typedef {import("./ledger.js").Store} Store */

const DATABASE = "sfumato-ledger", LINES = "lines", KEYS = "keys", NAME = "ledger", ANCHOR = "sfumato-ledger-anchor";

/** @returns {Promise<Ledger>} */
export async function openLedger() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => [LINES, KEYS].forEach((name) => opening.result.createObjectStore(name));
  const database = await finished(opening);
  /** @type {Store} */
  const store = {
    async read(from) {
      const lines = await finished(database.transaction(LINES).objectStore(LINES).getAll(IDBKeyRange.lowerBound(from)));
      return {lines, anchor: localStorage.getItem(ANCHOR)};
    },
    async write(from, lines, anchor) {
      const transaction = database.transaction(LINES, "readwrite", {durability: "strict"});
      const table = transaction.objectStore(LINES);
      table.delete(IDBKeyRange.lowerBound(from));
      lines.forEach((line, i) => table.put(line, from + i));
      await committed(transaction);
      localStorage.setItem(ANCHOR, anchor);
    },
    alone: async (work) => await navigator.locks.request(DATABASE, work),
  };
  const key = await store.alone(() => ownKey(database));
  return new Ledger(key, store);
}

/** @param {IDBDatabase} database @returns {Promise<CryptoKey>} */
async function ownKey(database) {
  const found = await finished(database.transaction(KEYS).objectStore(KEYS).get(NAME));
  if (found) return found;
  const made = await crypto.subtle.generateKey({name: "HMAC", hash: "SHA-256", length: 256}, false, ["sign"]);
  const transaction = database.transaction(KEYS, "readwrite", {durability: "strict"});
  transaction.objectStore(KEYS).put(made, NAME);
  await committed(transaction);
  return made;
}

/** @param {IDBTransaction} transaction @returns {Promise<void>} */
function committed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(new LedgerError(`the account cannot be kept (${transaction.error}): nothing was sent`));
  });
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
