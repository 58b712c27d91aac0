import crypto, { type KeyObject } from 'node:crypto'

// PKCS #8 around the 32 bytes of an X25519 private key.
const HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex')

interface KeyPair {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

const made: KeyPair[] = []

/** X25519 keys as anybody's, only that the n-th pair is the same in every world. */
export function keyPair(index: number): KeyPair {
  while (made.length <= index) {
    const secret = crypto.createHash('sha256').update(`key ${made.length}`).digest()
    const key = Buffer.concat([HEAD, secret])
    const privateKey = crypto.createPrivateKey({ key, format: 'der', type: 'pkcs8' })
    const publicKey = crypto.createPublicKey(privateKey)
    const exported = publicKey.export({ type: 'spki', format: 'der' })
    made.push({ privateKey, publicKey: Object.assign(publicKey, { export: () => exported }) })
  }
  return made[index]!
}

/*
 * As the keys are the same in every world, so is what follows from them, and it is worked out once: half of what a short
 * world would cost.
 */
const publicKeys = new Map<string, KeyObject>()
const agreed = new Map<KeyObject, Map<KeyObject, Buffer>>()

export function createPublicKey(input: { key: Buffer; type: 'spki'; format: 'der' }): KeyObject {
  const name = input.key.toString('latin1')
  let key = publicKeys.get(name)
  if (!key) {
    key = crypto.createPublicKey(input)
    publicKeys.set(name, key)
  }
  return key
}

export function diffieHellman(keys: { privateKey: KeyObject; publicKey: KeyObject }): Buffer {
  const { privateKey, publicKey } = keys
  let known = agreed.get(privateKey)
  if (!known) {
    known = new Map()
    agreed.set(privateKey, known)
  }
  let secret = known.get(publicKey)
  if (!secret) {
    secret = crypto.diffieHellman(keys)
    known.set(publicKey, secret)
  }
  return secret
}
