import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'

/*
 * Letters carry the caller's credentials through the store, so they are sealed to the node they are for: an ephemeral
 * X25519 key agreed with the node's public key gives an AES-256-GCM key (through HKDF-SHA256). One ephemeral key serves
 * all letters from this process to one node; the nonce is random for each letter.
 *
 * A sealed letter: 2 bytes length of the ephemeral public key (DER), that key, 12 bytes nonce, 16 bytes tag, ciphertext.
 */

const INFO = 'mcp-persist letter'
const MAX_KEYS = 1024

interface SealingKey {
  readonly ephemeral: Buffer
  readonly key: Buffer
}

export class Sealer {
  readonly #keys = new Map<string, SealingKey>()

  /** `publicKey`: base64url of the DER form, as a node publishes it. */
  seal(publicKey: string, plain: Uint8Array): Buffer {
    const { ephemeral, key } = this.#keyFor(publicKey)
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', key, nonce)
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()])
    const length = Buffer.alloc(2)
    length.writeUInt16BE(ephemeral.byteLength)
    return Buffer.concat([length, ephemeral, nonce, cipher.getAuthTag(), sealed])
  }

  #keyFor(publicKey: string): SealingKey {
    let known = this.#keys.get(publicKey)
    if (!known) {
      const pair = generateKeyPairSync('x25519')
      const theirs = createPublicKey({
        key: Buffer.from(publicKey, 'base64url'),
        type: 'spki',
        format: 'der',
      })
      const ephemeral = pair.publicKey.export({ type: 'spki', format: 'der' })
      known = { ephemeral, key: agree(pair.privateKey, theirs) }
      if (this.#keys.size >= MAX_KEYS) this.#keys.clear()
      this.#keys.set(publicKey, known)
    }
    return known
  }
}

export class Opener {
  readonly #privateKey: KeyObject
  readonly #keys = new Map<string, Buffer>()

  constructor(privateKey: KeyObject) {
    this.#privateKey = privateKey
  }

  /** Throws when the letter is not for this node, or was changed on its way. */
  open(letter: Uint8Array): Buffer {
    const bytes = Buffer.from(letter.buffer, letter.byteOffset, letter.byteLength)
    const length = bytes.readUInt16BE(0)
    const nonce = 2 + length
    const decipher = createDecipheriv(
      'aes-256-gcm',
      this.#keyFor(bytes.subarray(2, nonce)),
      bytes.subarray(nonce, nonce + 12),
    )
    decipher.setAuthTag(bytes.subarray(nonce + 12, nonce + 28))
    return Buffer.concat([decipher.update(bytes.subarray(nonce + 28)), decipher.final()])
  }

  #keyFor(ephemeral: Buffer): Buffer {
    const name = ephemeral.toString('base64')
    let key = this.#keys.get(name)
    if (!key) {
      key = agree(this.#privateKey, createPublicKey({ key: ephemeral, type: 'spki', format: 'der' }))
      if (this.#keys.size >= MAX_KEYS) this.#keys.clear()
      this.#keys.set(name, key)
    }
    return key
  }
}

function agree(privateKey: KeyObject, publicKey: KeyObject): Buffer {
  const secret = diffieHellman({ privateKey, publicKey })
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), INFO, 32))
}
