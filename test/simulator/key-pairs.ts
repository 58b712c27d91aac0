import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'

// PKCS #8 around the 32 bytes of an X25519 private key.
const HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex')

const made: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }[] = []

/** X25519 keys as anybody's, only that the n-th pair is the same in every world. */
export const keyPairs = {
  at(index: number): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
    while (made.length <= index) {
      const secret = createHash('sha256').update(`key ${made.length}`).digest()
      const privateKey = createPrivateKey({
        key: Buffer.concat([HEAD, secret]),
        format: 'der',
        type: 'pkcs8',
      })
      made.push({ privateKey, publicKey: createPublicKey(privateKey) })
    }
    return made[index]!
  },
}
