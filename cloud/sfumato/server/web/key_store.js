/**
 * The device key of this browser: two CryptoKeys in IndexedDB that can be used and never be read out, not even by this page.
 *
 *     const key = (await storedKey()) ?? (await keep(crypto.getRandomValues(new Uint8Array(32))));
 */

import {importKey} from "./noise.js";

/** @typedef {import("./noise.js").DeviceKey} DeviceKey */

const STORE = "keys", NAME = "device";

/** @returns {Promise<DeviceKey | undefined>} */
export function storedKey() {
  return inStore("readonly", (store) => store.get(NAME));
}

/** Make a secret the key of this browser. @param {import("./bytes.js").Bytes} secret 32 bytes @returns {Promise<DeviceKey>} */
export async function keep(secret) {
  const key = await importKey(secret);
  await inStore("readwrite", (store) => store.put(key, NAME));
  return key;
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} ask
 * @returns {Promise<T>}
 */
async function inStore(mode, ask) {
  const opening = indexedDB.open("sfumato", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await finished(opening);
  try {
    return await finished(ask(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
