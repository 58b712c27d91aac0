import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from 'node:crypto'

/*
 * Messages carry callers' credentials through the store, so they are sealed: each node has an X25519 key of its own that
 * lives as long as its registration and never leaves its memory. The two keys of a pair agree on a secret, and that gives
 * an AES-256-GCM key (through HKDF-SHA256) for each direction. Whoever can read the store can neither read a message nor
 * make one up in a registered node's name; the header is authenticated with it.
 *
 * Sealed: 12 bytes nonce, 16 bytes tag, ciphertext. The nonce counts up: a key is used by one process, once in its life.
 */

export class PairKeys {
  readonly #outward: Buffer
  readonly #inward: Buffer
  #sent = 0n

  constructor(own: { readonly id: string; readonly privateKey: KeyObject }, peer: string, publicKey: string) {
    const theirs = createPublicKey({ key: Buffer.from(publicKey, 'base64url'), type: 'spki', format: 'der' })
    const secret = diffieHellman({ privateKey: own.privateKey, publicKey: theirs })
    const keyOf = (from: string, to: string) =>
      Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `mcp-persist ${from}>${to}`, 32))
    this.#outward = keyOf(own.id, peer)
    this.#inward = keyOf(peer, own.id)
  }

  seal(header: Uint8Array, plain: Uint8Array): Buffer {
    this.#sent += 1n
    const nonce = Buffer.alloc(12)
    nonce.writeBigUInt64BE(this.#sent, 4)
    const cipher = createCipheriv('aes-256-gcm', this.#outward, nonce)
    cipher.setAAD(header)
    const sealed = [cipher.update(plain), cipher.final()]
    return Buffer.concat([nonce, cipher.getAuthTag(), ...sealed])
  }

  /** Throws when it is not from that node to this one, or was changed on its way. */
  open(header: Uint8Array, sealed: Uint8Array): Buffer {
    const decipher = createDecipheriv('aes-256-gcm', this.#inward, sealed.subarray(0, 12))
    decipher.setAuthTag(sealed.subarray(12, 28))
    decipher.setAAD(header)
    return Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()])
  }
}
